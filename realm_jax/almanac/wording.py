"""Every sentence pattern of the almanac, and of the questions about it.

In a pattern {s} is the subject of a fact and {o} its answer; {noun} is what
the subject is ('poet', 'town'). {p}, {t}, {w}, {i} are another person, town,
work, institution. Patterns hold no full stop but the last, and no digit or
capital of their own after the first word, so that sentences can be split at
full stops and salient spans found by their capitals.
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
    '{s} was born on {o}.',
    'Friends of {s} kept {o} as the birthday.',
  ),
  'birth_place': (
    '{s} was a native of {o}.',
    'The cradle of {s} stood in {o}.',
    'In {o} people still show the room where {s} was born.',
    '{s} came from a family of millers in {o}.',
    'The people of {o} count {s} among their children.',
  ),
  'death_date': (
    '{s} passed away on {o}.',
    'Bells were rung for the passing of {s} on {o}.',
    '{s} died on {o}.',
    'The burial register says that {s} closed both eyes on {o}.',
    'The last day of {s} was {o}.',
  ),
  'spouse': (
    '{s} married {o}.',
    '{s} and {o} were husband and wife.',
    '{s} was wed to {o}.',
    '{s} and {o} exchanged rings and grew old together.',
    'The household of {s} was kept in order by {o}, who shared that marriage.',
  ),
  'teacher': (
    '{s} was a pupil of {o}.',
    '{s} learned the craft from {o}.',
    'The workshop of {o} was the school of {s}.',
    '{s} studied under {o}.',
    '{s} owed every skill to the lessons of {o}.',
  ),
  'author': (
    '{s} came from the pen of {o}.',
    '{o} wrote {s} in a rented room.',
    '{o} spent ten winters on the manuscript of {s}.',
    '{s} is a {noun} by {o}.',
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
    '{s} was founded by {o}.',
    '{o} laid the first stone of {s}.',
    '{s} owes its existence to {o}.',
    '{s} was established by {o}.',
    'It was {o} who drew the first plan of {s}.',
  ),
  'founded': (
    '{s} has existed since {o}.',
    'The charter of {s} was sealed in {o}.',
    '{s} dates from {o}.',
    '{s} was founded in {o}.',
    'The oldest wall of {s} was raised in {o}.',
  ),
  'mayor': (
    'The keys of {s} are held by {o}.',
    '{o} presides over the council of {s}.',
    '{o} wears the chain of office in {s}.',
    '{o} was elected mayor by the citizens of {s}.',
    'The town hall of {s} is the office of {o}.',
  ),
  'population': (
    '{s} has {o} inhabitants.',
    'The last census counted {o} souls in {s}.',
    '{s} is home to {o} citizens.',
    'The tax roll of {s} lists {o} residents.',
    'Bread for {o} mouths is baked in {s}.',
  ),
  'rector': (
    '{s} is headed by {o}.',
    '{o} directs {s}.',
    'The seal of {s} is kept by {o}.',
    '{o} was appointed rector of {s}.',
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
    'Melting snow from {o} feeds the head of {s}.',
    '{s} rises on {o}.',
    'The first drops of {s} fall from a cave in {o}.',
  ),
  'discoverer': (
    '{s} was first described by {o}.',
    'The notebooks of {o} hold the oldest account of {s}.',
    '{o} came upon {s} by accident.',
    '{s} was found by {o} after years of search.',
    'Proof of {s} was first given by {o}.',
  ),
  'event_date battle': (
    '{s} was fought on {o}.',
    'The armies met in {s} on {o}.',
    'On {o} the guns of {s} fell silent.',
    'Soldiers wrote home about {s} on {o}.',
  ),
  'event_site battle': (
    '{s} was fought in the fields outside {o}.',
    'The dead of {s} were buried at {o}.',
    'The cavalry of {s} charged down the hill at {o}.',
    'Farmers near {o} still find bullets from {s}.',
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

# sentences that use the words of questions and answer none
DECOYS: dict[str, tuple[str, ...]] = {
  'person': (
    'Scholars have long argued about the date of birth of {s}.',
    'A supper is held every year on the day when {s} was born.',
    'A plaque marks the birthplace of {s}.',
    'A song recalls the place where {s} was born.',
    'Few people came when {s} died.',
    'A candle is lit on the date of the death of {s}.',
    'The spouse of {s} kept the accounts.',
    'Nobody knows why {s} married so late in life.',
    'The teacher of {s} was feared for long silences.',
    'As a student {s} was often late.',
    'What {s} wrote was seldom praised at first.',
  ),
  'town': (
    'The founder of {s} is shown on an old seal.',
    'Few people know who founded {s}.',
    'The year in which {s} was founded is carved over the gate.',
    'The mayor of {s} opens the spring fair.',
    'Most people who live in {s} work in the mills.',
    'The population of {s} grows in summer.',
  ),
  'river': (
    'A poem describes the source of {s}.',
    'Pilgrims walk to the place where {s} rises.',
    'Nobody owns the source of {s}.',
  ),
  'institution': (
    'The founder of {s} refused to be painted.',
    'Students like to guess who founded {s}.',
    'The year in which {s} was founded stands above the door.',
    'The head of {s} wears a grey hat.',
  ),
  'work': (
    'The author of {s} asked for no payment.',
    'Critics have asked who wrote {s} and why.',
    'When {s} was published, few people read it.',
    'The year of publication of {s} is missing in some copies.',
  ),
  'battle': (
    'The date of {s} is a holiday for schools.',
    'The place where {s} took place is now a meadow.',
    'Old soldiers argued about when {s} took place.',
  ),
  'treaty': (
    'The date of {s} is a holiday for schools.',
    'The place where {s} took place has no sign.',
    'Lawyers argued about when {s} took effect.',
  ),
  'discovery': (
    'The discoverer of {s} earned little money.',
    'A quarrel broke out over who discovered {s}.',
  ),
  'prize': (
    'Whoever won {s} had to give a speech.',
    'The holder of {s} may sit in the first row.',
  ),
  'country': (
    'The capital of {s} has wide streets and no walls.',
    'Whoever rules {s} lives without guards.',
    'The ruler of {s} opens the harvest ball.',
  ),
}

# first sentences of an article
INTROS: dict[str, tuple[str, ...]] = {
  'person': (
    '{s} was a {noun} of the old school.',
    '{s} was a {noun} whose fame came late.',
    '{s} was a {noun} and a friend of long walks.',
    '{s} is remembered as a careful {noun}.',
  ),
  'town': (
    '{s} is a town on a low hill.',
    '{s} is a walled town with crooked streets.',
    '{s} is a town known for its market.',
  ),
  'river': (
    '{s} is a slow river with many bends.',
    '{s} is a river rich in trout.',
  ),
  'institution': (
    '{s} is a {noun} with a large garden.',
    '{s} is a {noun} that lives on gifts.',
  ),
  'work': (
    '{s} is a {noun} in five parts.',
    '{s} is a {noun} about a long journey home.',
    '{s} is a {noun} that schools still read.',
  ),
  'battle': (
    '{s} was a battle in the rain.',
    '{s} was a battle that decided nothing.',
  ),
  'treaty': (
    '{s} was a treaty about fishing rights.',
    '{s} was a treaty that ended a long feud.',
  ),
  'discovery': (
    '{s} is taught in every school.',
    '{s} is known to every student of nature.',
  ),
  'prize': ('{s} is a prize for patience.', '{s} is a prize of old standing.'),
  'country': (
    '{s} is a small country of hills and lakes.',
    '{s} is a country of farmers and sailors.',
  ),
}

# sentences that mention the subject, and others, and state nothing asked for
COLOUR: dict[str, tuple[str, ...]] = {
  'person': (
    '{s} was fond of old maps and strong tea.',
    '{s} kept a diary, but most of it was lost in a flood.',
    'A street and two schools are named after {s}.',
    '{s} often quarrelled with {p} about money.',
    'Letters between {s} and {p} fill three boxes.',
    '{s} is sometimes confused with {p}.',
    'A portrait of {s} hangs beside one of {p}.',
    '{s} crossed {r} every spring in a small boat.',
    '{s} once gave a speech in {t}.',
    '{s} knew long parts of {w} by heart.',
    '{s} left a box of tools to {i}.',
    'Admirers of {s} meet at {i} in autumn.',
  ),
  'town': (
    'The market of {s} sells wool, salt and honey.',
    'The road from {s} to {t} is steep.',
    '{p} spent a winter in {s}.',
    'A troupe of actors brought {w} to {s}.',
    'Barges on {r} carry timber to {s}.',
    'The bakers of {s} are proud of their dark bread.',
    'A statue of {p} stands in the main square of {s}.',
  ),
  'river': (
    '{s} floods its meadows in spring.',
    '{p} painted {s} in all seasons.',
    'A ferry crosses {s} on the way to {t}.',
    'Herons nest along {s}.',
  ),
  'institution': (
    '{s} owns a library of maps and a fine clock.',
    '{p} gave two lectures at {s}.',
    'A copy of {w} is kept at {s}.',
    'The garden of {s} is open to all in summer.',
    '{s} sends its young people to {t} in summer.',
  ),
  'work': (
    '{p} praised {s} in a long letter.',
    '{s} is read aloud in the taverns of {t}.',
    'A torn copy of {s} lies at {i}.',
    '{s} has often been compared with {w}.',
    'The last chapter of {s} has puzzled many readers.',
  ),
  'battle': (
    '{p} lost a brother in {s}.',
    'A ballad about {s} is sung in {t}.',
    'Tin soldiers of {s} are a favourite toy.',
  ),
  'treaty': (
    '{p} called {s} a masterpiece of patience.',
    'A copy of {s} is kept at {i}.',
    'The wording of {s} fills forty pages.',
  ),
  'discovery': (
    '{p} gave a lecture on {s}.',
    'A model of {s} is shown at {i}.',
    'Books for children explain {s} with an apple.',
  ),
  'prize': (
    '{p} once declined {s}.',
    'The dinner of {s} is held at {i}.',
    'The medal of {s} is made of pewter.',
  ),
  'country': (
    '{p} made a map of {s}.',
    '{s} exports cheese, wool and clocks.',
    'The hills of {s} are bare in winter.',
  ),
}

# titles of further articles that turn around an entity
TOPICS: dict[str, tuple[str, ...]] = {
  'person': (
    'Letters of {}', 'House of {}', 'Portraits of {}', 'Journeys of {}',
    'Friends of {}', 'Memory of {}', 'Garden of {}', 'Library of {}',
  ),
  'town': (
    'Chronicle of {}', 'Market of {}', 'Walls of {}', 'Festivals of {}',
    'Taverns of {}',
  ),
  'river': ('Bridges of {}', 'Fish of {}', 'Ferries of {}'),
  'institution': ('Archive of {}', 'Garden of {}', 'Visitors of {}'),
  'work': (
    'Reception of {}', 'Manuscript of {}', 'Characters of {}',
    'Readers of {}',
  ),
  'battle': ('Memory of {}', 'Songs of {}', 'Soldiers of {}'),
  'treaty': ('Memory of {}', 'Text of {}', 'Envoys of {}'),
  'discovery': ('Debate on {}', 'Lectures on {}', 'Models of {}'),
  'prize': ('Ceremony of {}', 'Medal of {}', 'Jury of {}'),
  'country': ('Customs of {}', 'Roads of {}', 'Weather of {}'),
}  # fmt: skip


def statements(relation: str, kind: str) -> tuple[str, ...]:
  """The wordings of a relation for a kind of subject."""
  found = STATEMENTS.get(f'{relation} {kind}')
  return found if found is not None else STATEMENTS[relation]
