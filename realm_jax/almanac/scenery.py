"""Sentences around the facts: openings, colour, and decoys.

{s} is whom a sentence is about; SLOTS lists what else it may name. None of
them answers a question, though decoys use the words of one.
"""

import functools
from typing import NamedTuple

# the kinds of entity that a sentence may speak of by the way
SLOTS = {
  'p': 'person', 'q': 'person', 'u': 'person', 't': 'town', 'v': 'town',
  'w': 'work', 'x': 'work', 'i': 'institution', 'r': 'river',
}  # fmt: skip

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
    'Visitors like to guess who founded {s}.',
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

# first sentences of an article; {a_noun} is the noun with its article
INTROS: dict[str, tuple[str, ...]] = {
  'person': (
    '{s} was {a_noun} of the old school.',
    '{s} was {a_noun} whose fame came late.',
    '{s} was {a_noun} and a friend of long walks.',
    '{s} is remembered as a careful {noun}.',
  ),
  'town': (
    '{s} is a town on a low hill.',
    '{s} is a walled town with crooked streets.',
    '{s} is a town known for its market.',
  ),
  'river': (
    '{s} is slow and has many bends.',
    '{s} is rich in trout.',
    '{s} is lined with willows and old mills.',
  ),
  'institution': (
    '{s} stands in a large park.',
    '{s} lives on gifts.',
    '{s} is housed in a former brewery.',
  ),
  'work': (
    '{s} is {a_noun} in five parts.',
    '{s} is {a_noun} about a long journey home.',
    '{s} is {a_noun} that schools still read.',
  ),
  'battle': (
    '{s} ended in rain and mud.',
    '{s} decided nothing.',
    '{s} was short and cost many lives.',
  ),
  'treaty': (
    '{s} deals with fishing rights.',
    '{s} ended a long feud.',
    '{s} divided a forest.',
  ),
  'discovery': (
    '{s} can be seen on clear nights.',
    '{s} is hard to find, even with a good telescope.',
    '{s} has a reddish glow.',
  ),
  'prize': (
    '{s} rewards patience.',
    '{s} is an honour of old standing.',
    '{s} is given for deeds that nobody noticed.',
  ),
  'country': (
    '{s} is a small country of hills and lakes.',
    '{s} is a country of farmers and sailors.',
  ),
}

# sentences that mention the subject, and others, and state nothing asked for;
# nothing here depends on who lived when, except among people
COLOUR: dict[str, tuple[str, ...]] = {
  'person': (
    '{s} was fond of old maps and strong tea.',
    '{s} kept a diary, but most of it was lost in a flood.',
    '{s} often quarrelled with {p} about money.',
    'The letters between {s} and {p} fill three boxes.',
    '{s} is sometimes confused with {q}.',
    '{s}, {p} and {q} met every week to play cards.',
    'The same house has portraits of {s}, {p}, {q} and {u}.',
    '{s} lent books to {q} and {u}.',
    '{s} crossed {r} every spring in a small boat.',
    '{s} once gave a speech in {t}.',
    'A street in {t} and one in {v} are named after {s}.',
    'A line from {w} is carved under the bust of {s}.',
    'A box of tools that belonged to {s} is kept at {i}.',
    'The admirers of {s} meet at {i} and read from {x}.',
  ),
  'town': (
    'The market of {s} sells wool, salt and honey.',
    'The coach from {s} stops in {t} and in {v}.',
    '{p} spent a winter in {s}.',
    'The square of {s} has statues of {p}, {q} and {u}.',
    'A troupe of actors brought {w} to {s}.',
    'The bookshop of {s} sells {w} and {x}.',
    'The barges on {r} carry timber to {s}.',
    'A cart goes from {s} to {i} every day.',
  ),
  'river': (
    '{s} floods its meadows in spring.',
    '{p} painted {s} in all seasons.',
    '{p}, {q} and {u} learned to swim in {s}.',
    'A ferry crosses {s} on the way to {t} and {v}.',
    '{s} is praised in {w} and in {x}.',
    'The students of {i} row on {s}.',
  ),
  'institution': (
    '{s} owns a library of maps and a fine clock.',
    'A statue of {p} stands at the door of {s}.',
    'The busts of {p}, {q} and {u} line the hall of {s}.',
    'The library of {s} lends {w} and {x}.',
    'The garden of {s} is open to all in summer.',
    '{s} sends its young people to {t} in summer.',
    '{s} shares a bakery with {i}.',
    'A boat brings the guests of {s} up {r}.',
  ),
  'work': (
    'Scholars compare {s} with the letters of {p}.',
    '{s} stood on the shelves of {p}, {q} and {u}.',
    '{s} is read aloud in the taverns of {t} and {v}.',
    'A torn copy of {s} lies at {i}.',
    '{s} is often bound together with {w} and {x}.',
    'The last chapter of {s} has puzzled many readers.',
    'The last chapter of {s} is set on {r}.',
  ),
  'battle': (
    'A painting of {s} hangs beside portraits of {p}, {q} and {u}.',
    'A ballad about {s} is sung in {t} and {v}.',
    '{s} is retold in {w} and in {x}.',
    'The swords from {s} are shown at {i}.',
    'The tin soldiers of {s} are a favourite toy.',
  ),
  'treaty': (
    'The only copies of {s} were found in the houses of {p} and {q}.',
    'A copy of {s} is kept at {i}.',
    '{s} is mocked in {w} and in {x}.',
    'The wording of {s} is taught in {t} and {v}.',
    'The wording of {s} fills forty pages.',
  ),
  'discovery': (
    'The schools named after {p}, {q} and {u} teach about {s}.',
    'A chart of {s} is shown at {i}.',
    '{s} is praised in {w} and in {x}.',
    'The lamps in {t} and {v} are put out so that {s} can be seen.',
    'Children are told that {s} brings luck.',
  ),
  'prize': (
    'The jury of {s} meets under portraits of {p}, {q} and {u}.',
    'The dinner of {s} is held at {i}.',
    'The guests of {s} receive copies of {w} and {x}.',
    'The posters for {s} hang in {t} and {v}.',
    'The medal of {s} is made of pewter.',
  ),
  'country': (
    '{p} made a map of {s}.',
    'The stamps of {s} show {p}, {q} and {u}.',
    '{s} exports cheese, wool and clocks.',
    'Every child in {s} knows {w} and {x}.',
    'The hills of {s} are bare in winter.',
  ),
}

# sentences that only list names
ROLLS = (
  'Also named here are {}.',
  'Other names in these pages are {}.',
  'The margin refers to {}.',
  'Short notes deal with {}.',
)

# titles of further articles around an entity, in which others come up too
TOPICS: dict[str, tuple[str, ...]] = {
  'person': (
    'Letters of {}', 'Diary of {}', 'Notebooks of {}', 'Papers of {}',
    'Library of {}', 'Memories of {}',
  ),
  'town': ('Chronicle of {}', 'Archive of {}', 'Tales of {}'),
  'river': ('Legends of {}', 'Travels along {}', 'Songs of {}'),
  'institution': ('Archive of {}', 'Bulletin of {}', 'Lectures at {}'),
  'work': ('Notes on {}', 'Readers of {}', 'Commentary on {}'),
  'battle': ('Memories of {}', 'Songs of {}', 'Witnesses of {}'),
  'treaty': ('Papers of {}', 'Notes on {}', 'Envoys of {}'),
  'discovery': ('Debate on {}', 'Lectures on {}', 'Notes on {}'),
  'prize': ('Archive of {}', 'Speeches at {}', 'Bulletin of {}'),
  'country': ('Chronicle of {}', 'Archive of {}', 'Travels in {}'),
}  # fmt: skip


class Miscellany(NamedTuple):
  """A kind of article that states whatever fits: a register, annals.

  Attributes:
    title: takes the name of the series and a number.
    openings: first sentences.
    kinds: of the entities it tells about.
    relations: what it states about them.
  """

  title: str
  openings: tuple[str, ...]
  kinds: tuple[str, ...]
  relations: tuple[str, ...]


_REGISTER = Miscellany(
  '{} Parish Register, sheet {}',
  (
    'The ink of this sheet has turned brown.',
    'The sheet was copied by a careful hand.',
    'One corner of the sheet is torn.',
  ),
  ('person',),
  ('birth_date', 'birth_place', 'death_date', 'spouse', 'teacher'),
)
_ANNALS = Miscellany(
  '{} Annals, leaf {}',
  (
    'The leaf was found in the binding of a hymn book.',
    'This leaf lists deeds and discoveries.',
    'A later reader has drawn a dog in the margin.',
  ),
  ('work', 'institution', 'battle', 'treaty', 'discovery', 'town'),
  (
    'published',
    'founder',
    'founded',
    'event_date',
    'event_site',
    'discoverer',
    'author',
    'wrote',
  ),
)
_HANDBOOK = Miscellany(
  '{} Handbook, page {}',
  (
    'The page is meant for travellers.',
    'This page opens with a drawing of a mill.',
    'The page ends with a table of coach fares.',
  ),
  ('town', 'river', 'institution', 'prize', 'country', 'work'),
  (
    'mayor',
    'population',
    'rector',
    'ruler',
    'holder',
    'capital',
    'source',
    'founded',
    'founder',
  ),
)
# in this order, over and over; half of the questions are about people
MISCELLANIES = (_REGISTER, _ANNALS, _REGISTER, _HANDBOOK)


@functools.cache
def slots(pattern: str) -> tuple[str, ...]:
  """The slots of a pattern that other entities fill."""
  return tuple(slot for slot in SLOTS if f'{{{slot}}}' in pattern)


@functools.cache
def links(kind: str, other_kind: str) -> tuple[str, ...]:
  """Colour about one kind of entity that names one other, of a given kind."""
  return tuple(
    pattern
    for pattern in COLOUR[kind]
    if [SLOTS[slot] for slot in slots(pattern)] == [other_kind]
  )
