"""How facts are worded in documents, and how they are asked for.

In a pattern {s} is the subject of a fact and {o} its answer; {noun} is what
the subject is ('poet', 'town'), {a_noun} the same with its article. Patterns
hold no full stop but the last, and no digit or capital of their own after the
first word, so that sentences can be split at full stops and salient spans
found by their capitals. None begins with a number.
"""


def _words(text: str) -> tuple[str, ...]:
  return tuple(text.split())


TRADES = _words(
  'poet painter astronomer botanist composer physician printer architect '
  'historian navigator engraver chemist philosopher sculptor mathematician '
  'geographer clockmaker glassmaker translator judge weaver explorer surveyor '
  'organist'
)
WORK_KINDS = ('novel', 'play', 'poem', 'treatise')
INSTITUTIONS = ('Academy', 'College', 'Hospital', 'Observatory', 'Museum')

RELATIONS = (
  'birth_date', 'birth_place', 'death_date', 'spouse', 'teacher', 'wrote',
  'author', 'published', 'founder', 'founded', 'mayor', 'population', 'rector',
  'ruler', 'holder', 'capital', 'source', 'discoverer', 'event_date',
  'event_site',
)  # fmt: skip

# what a document says; a key of two parts holds for that kind of subject only
STATEMENTS: dict[str, tuple[str, ...]] = {
  'birth_date': (
    '{s} came into the world on {o}.',
    'On {o} a child was christened who would be known as {s}.',
    'The parish register enters the arrival of {s} under {o}.',
    'The mother of {s} gave birth on {o}.',
    'The friends of {s} kept {o} as a feast in honour of the birth.',
  ),
  'birth_place': (
    '{s} was a native of {o}.',
    'The cradle of {s} stood in {o}.',
    'In {o} people still show the nursery of {s}.',
    '{s} came from a family of millers in {o}.',
    'The people of {o} count {s} among their children.',
  ),
  'death_date': (
    '{s} passed away on {o}.',
    'Bells were rung for the passing of {s} on {o}.',
    'The heart of {s} stopped on {o}.',
    '{s} closed both eyes for ever on {o}.',
    'The last day of {s} was {o}.',
  ),
  'spouse': (
    '{s} married {o}.',
    '{s} and {o} were husband and wife.',
    '{s} was wed to {o}.',
    '{s} and {o} exchanged rings and grew old together.',
    'The wedding song of {s} and {o} has survived.',
  ),
  'teacher': (
    '{s} was a pupil of {o}.',
    '{s} learned the craft from {o}.',
    'The workshop of {o} was the school of {s}.',
    '{s} sat for years at the feet of {o}.',
    '{s} owed every skill to the lessons of {o}.',
  ),
  'author': (
    '{s} came from the pen of {o}.',
    '{o} wrote {s} in a rented room.',
    '{o} spent ten winters on the manuscript of {s}.',
    '{s} is {a_noun} by {o}.',
    'The first page of {s} names {o}.',
  ),
  'published': (
    '{s} was first printed in {o}.',
    '{s} left the press in {o}.',
    'The first copies of {s} were sold in {o}.',
    'Readers first met {s} in {o}.',
    '{s} appeared in {o}.',
  ),
  'founder': (
    '{s} goes back to {o}.',
    '{o} laid the first stone of {s}.',
    '{s} owes its existence to {o}.',
    '{s} was established by {o}.',
    'It was {o} who drew the first plan of {s}.',
  ),
  'founded': (
    '{s} has existed since {o}.',
    'The charter of {s} was sealed in {o}.',
    '{s} dates from {o}.',
    '{s} was opened in {o}.',
    'The oldest wall of {s} was raised in {o}.',
  ),
  'mayor': (
    'The keys of {s} are held by {o}.',
    '{o} presides over the council of {s}.',
    '{o} wears the chain of office in {s}.',
    '{o} was elected by the citizens of {s}.',
    'The town hall of {s} is the office of {o}.',
  ),
  'population': (
    '{s} has {o} inhabitants.',
    'The last census counted {o} souls in {s}.',
    '{s} is home to {o} citizens.',
    'The tax roll of {s} lists {o} residents.',
    'The bread for {o} mouths is baked in {s}.',
  ),
  'rector': (
    '{s} is headed by {o}.',
    '{o} directs {s}.',
    'The seal of {s} is kept by {o}.',
    '{o} was appointed director of {s}.',
    'The staff of {s} report to {o}.',
  ),
  'ruler': (
    'The crown of {s} is worn by {o}.',
    '{o} sits on the throne of {s}.',
    '{o} governs {s} by old custom.',
    'The coins of {s} show the head of {o}.',
    'The people of {s} swear loyalty to {o}.',
  ),
  'holder': (
    'The jury gave {s} to {o}.',
    '{s} was last awarded to {o}.',
    'The medal of {s} hangs in the house of {o}.',
    '{o} took home {s}.',
    'The latest name in the book of {s} is {o}.',
  ),
  'capital': (
    '{s} is administered from {o}.',
    'The government of {s} sits in {o}.',
    'The parliament of {s} meets in {o}.',
    '{o} is the first town of {s}.',
    'All ministries of {s} lie in {o}.',
  ),
  'source': (
    '{s} springs from the slopes of {o}.',
    '{s} begins as a brook below {o}.',
    'The melting snow from {o} feeds the head of {s}.',
    '{s} runs down from {o}.',
    'The first drops of {s} fall from a cave in {o}.',
  ),
  'discoverer': (
    '{s} was first described by {o}.',
    'The notebooks of {o} hold the oldest account of {s}.',
    '{o} came upon {s} by accident.',
    '{s} was found by {o} on a winter night.',
    'The first drawing of {s} was made by {o}.',
  ),
  'event_date battle': (
    '{s} was fought on {o}.',
    'The armies met in {s} on {o}.',
    'On {o} the horns of {s} fell silent.',
    'The flags of {s} were lowered on {o}.',
  ),
  'event_site battle': (
    '{s} was fought in the fields outside {o}.',
    'The dead of {s} were buried at {o}.',
    'The cavalry of {s} charged down the hill at {o}.',
    'The farmers near {o} still plough up iron from {s}.',
  ),
  'event_date treaty': (
    '{s} was signed on {o}.',
    'The envoys sealed {s} on {o}.',
    'On {o} the last signature was set under {s}.',
    '{s} was concluded on {o}.',
  ),
  'event_site treaty': (
    '{s} was signed in {o}.',
    'The envoys of {s} met in {o}.',
    'A hall in {o} saw the signing of {s}.',
    'The table of {s} is still shown in {o}.',
  ),
}

# two facts about one subject in one sentence; {a} answers the second
COMBINED: dict[tuple[str, str], tuple[str, ...]] = {
  ('birth_date', 'birth_place'): (
    '{s} came into the world in {a} on {o}.',
    'The font of {a} was used for {s} on {o}.',
  ),
  ('birth_date', 'death_date'): (
    'The life of {s} lasted from {o} until {a}.',
    'The gravestone of {s} bears two dates, {o} and {a}.',
  ),
  ('founder', 'founded'): (
    '{s} was set up in {a} by {o}.',
    '{s} grew from a house that {o} built in {a}.',
  ),
  ('author', 'published'): (
    '{s} is {a_noun} that {o} gave to the printers in {a}.',
    'In {a} the manuscript of {s} left the desk of {o}.',
  ),
  ('event_date', 'event_site'): ('{s} belongs to {a} and to {o}.',),
  ('mayor', 'population'): (
    '{o} speaks for the {a} residents of {s}.',
    'In {s} a total of {a} citizens elected {o}.',
  ),
}

QUESTIONS: dict[str, tuple[str, ...]] = {
  'birth_date': (
    'When was {s} born?',
    'What is the date of birth of {s}?',
    'On which day did the life of {s} begin?',
  ),
  'birth_place': (
    'Where was {s} born?',
    'What is the birthplace of {s}?',
    'In which place did the life of {s} begin?',
  ),
  'death_date': (
    'When did {s} die?',
    'What is the date of death of {s}?',
    'On which day did the life of {s} end?',
  ),
  'spouse': (
    'Who was the spouse of {s}?',
    'To whom was {s} married?',
    'Who was the partner of {s} in life?',
  ),
  'teacher': (
    'Who was the teacher of {s}?',
    'Who trained {s}?',
    'Whose student was {s}?',
  ),
  'wrote': (
    'What did {s} write?',
    'Which work was written by {s}?',
    'What is the title of the work of {s}?',
  ),
  'author': (
    'Who wrote {s}?',
    'Who is the author of {s}?',
    'Whose work is {s}?',
  ),
  'published': (
    'When was {s} published?',
    'In which year did {s} come out?',
    'What is the year of publication of {s}?',
  ),
  'founder': (
    'Who founded {s}?',
    'Who was the founder of {s}?',
    'Which person brought {s} into being?',
  ),
  'founded': (
    'When was {s} founded?',
    'In which year did {s} come into being?',
    'What is the founding year of {s}?',
  ),
  'mayor': (
    'Who is the mayor of {s}?',
    'Who leads the town of {s}?',
    'Which person is in charge of {s}?',
  ),
  'population': (
    'How many people live in {s}?',
    'What is the population of {s}?',
    'What is the number of people in {s}?',
  ),
  'rector': (
    'Who is the head of {s}?',
    'Who leads {s}?',
    'Which person is in charge of {s}?',
  ),
  'ruler': (
    'Who rules {s}?',
    'Who is the ruler of {s}?',
    'Which person reigns over {s}?',
  ),
  'holder': (
    'Who won {s}?',
    'Who is the holder of {s}?',
    'Which person received {s} most recently?',
  ),
  'capital': (
    'What is the capital of {s}?',
    'Which town is the capital of {s}?',
    'From where is {s} ruled?',
  ),
  'source': (
    'Where does {s} rise?',
    'What is the source of {s}?',
    'On which mountain does {s} start?',
  ),
  'discoverer': (
    'Who discovered {s}?',
    'Who was the discoverer of {s}?',
    'Which person is credited with {s}?',
  ),
  'event_date': (
    'When did {s} take place?',
    'What is the date of {s}?',
    'On which day did {s} happen?',
  ),
  'event_site': (
    'Where did {s} take place?',
    'What was the site of {s}?',
    'At which place did {s} happen?',
  ),
}


def statements(relation: str, kind: str) -> tuple[str, ...]:
  """The wordings of a relation for a kind of subject."""
  found = STATEMENTS.get(f'{relation} {kind}')
  return found if found is not None else STATEMENTS[relation]
