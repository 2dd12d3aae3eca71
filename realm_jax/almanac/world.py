"""The invented world: provinces, their entities, and the facts about them.

A world is cut into provinces of 60 documents. Facts only join entities of one
province, so a province is made by itself, in any order, and a world of a
million documents never has to fit in memory.
"""

from collections.abc import Iterator
from typing import NamedTuple

from realm_jax.almanac.draws import Draws, streams
from realm_jax.almanac.names import Names
from realm_jax.almanac.wording import INSTITUTIONS, TRADES, WORK_KINDS
from realm_jax.errors import UserError

EDITIONS = ('2018', '2020')
PROVINCE_DOCUMENTS = 60
MIN_DOCUMENTS = 2 * PROVINCE_DOCUMENTS
_TOWNS, _VILLAGES, _RIVERS, _PEOPLE, _WORKS = 4, 8, 2, 8, 6
_PLACES, _PERSONS = 25, 44  # names a province may use
_MONTHS = (
  'January', 'February', 'March', 'April', 'May', 'June', 'July', 'August',
  'September', 'October', 'November', 'December',
)  # fmt: skip


class Entity(NamedTuple):
  """Something with an article of its own.

  Attributes:
    name: unique in the world, as titles have it.
    kind: 'person', 'town', 'river', 'institution', 'work', 'battle',
      'treaty', 'discovery', 'prize' or 'country'.
    noun: what it is called after its first mention: 'poet', 'town', 'novel'.
    split: where questions about it go: 'train', 'dev' or 'test'.
  """

  name: str
  kind: str
  noun: str
  split: str

  @property
  def in_text(self) -> str:
    """The name as it stands within a sentence."""
    return f'the {self.name}' if self.kind in _WITH_ARTICLE else self.name


_WITH_ARTICLE = frozenset(
  ('river', 'institution', 'battle', 'treaty', 'discovery', 'prize')
)


class Fact(NamedTuple):
  """One thing that is so, in both editions.

  Attributes:
    subject: whom it is about.
    relation: one of wording.RELATIONS.
    answers: the answer in the 2018 and in the 2020 edition; mostly the same.
  """

  subject: Entity
  relation: str
  answers: tuple[str, str]


class Province(NamedTuple):
  """A piece of the world.

  Attributes:
    number: its place in the world.
    num_documents: how many documents it must fill.
    series: what its registers and annals are named after.
    entities: those with an article, in a fixed order.
    facts: all facts about them.
  """

  number: int
  num_documents: int
  series: str
  entities: tuple[Entity, ...]
  facts: tuple[Fact, ...]


class World(NamedTuple):
  """What there is to know; provinces are made when asked for."""

  seed: int
  num_documents: int
  edition: str
  names: Names

  @property
  def num_provinces(self) -> int:
    """How many provinces there are."""
    return self.num_documents // PROVINCE_DOCUMENTS

  def province(self, index: int) -> Province:
    """Makes one province."""
    share, rest = divmod(self.num_documents, self.num_provinces)
    maker = _ProvinceMaker(self, index)
    maker.make()
    return Province(
      index,
      share + (index < rest),
      maker.series,
      tuple(maker.entities),
      tuple(maker.facts),
    )

  def provinces(self) -> Iterator[Province]:
    """Makes one province after another."""
    return map(self.province, range(self.num_provinces))


def make_world(
  seed: int = 0, num_documents: int = 3000, edition: str = '2018'
) -> World:
  """A world, of which nothing is computed yet.

  Args:
    seed: non-negative; other seeds give other worlds.
    num_documents: how many documents the encyclopedia shall have.
    edition: '2018' or '2020'; they differ in offices, holders and populations.

  Raises:
    UserError: an argument is out of its range.
  """
  if edition not in EDITIONS:
    raise UserError(
      f'edition is {edition!r}, expected one of {", ".join(EDITIONS)}.'
    )
  if num_documents < MIN_DOCUMENTS:
    raise UserError(
      f'num_documents is {num_documents}, expected at least {MIN_DOCUMENTS}: '
      'a smaller world has too few questions.'
    )
  if seed < 0:
    raise UserError(f'seed is {seed}, expected a non-negative integer.')
  num_provinces = num_documents // PROVINCE_DOCUMENTS
  names = Names(
    seed,
    num_provinces * _PLACES,
    num_provinces * _PERSONS,
    num_provinces * _WORKS,
  )
  return World(seed, num_documents, edition, names)


def _date(draws: Draws, year: int) -> str:
  # the 28th at the latest: a date of every month
  return f'{draws.between(1, 28)} {draws.pick(_MONTHS)} {year}'


class _ProvinceMaker:
  """Draws the entities of one province and the facts that join them."""

  def __init__(self, world: World, index: int):
    self._names = world.names
    self._index = index
    self._streams = iter(streams((world.seed, index, 0), 64))
    self._next_place = index * _PLACES
    self._next_person = index * _PERSONS
    self.series = self._place()
    self.entities: list[Entity] = []
    self.facts: list[Fact] = []

  def _place(self) -> str:
    self._next_place += 1
    return self._names.place(self._next_place - 1)

  def _person(self) -> str:
    self._next_person += 1
    return self._names.person(self._next_person - 1)

  def _entity(self, draws: Draws, name: str, kind: str, noun: str) -> Entity:
    roll = draws.below(100)
    split = 'test' if roll < 28 else 'dev' if roll < 37 else 'train'
    entity = Entity(name, kind, noun, split)
    self.entities.append(entity)
    return entity

  def _fact(self, subject: Entity, relation: str, answer: str) -> None:
    self.facts.append(Fact(subject, relation, (answer, answer)))

  def _office(self, draws: Draws, subject: Entity, relation: str) -> None:
    holder, successor = self._person(), self._person()
    new = successor if draws.chance(60) else holder
    self.facts.append(Fact(subject, relation, (holder, new)))

  def make(self) -> None:
    """Fills entities and facts."""
    names = [self._person() for _ in range(_PEOPLE)]  # two families
    towns = [self._town() for _ in range(_TOWNS)]
    villages = [self._place() for _ in range(_VILLAGES)]
    settlements = villages + [town.name for town in towns]
    draws = next(self._streams)
    country = self._entity(draws, self._place(), 'country', 'country')
    self._fact(country, 'capital', draws.pick(towns).name)
    self._office(draws, country, 'ruler')
    for _ in range(_RIVERS):
      draws = next(self._streams)
      river = self._entity(draws, f'River {self._place()}', 'river', 'river')
      self._fact(river, 'source', f'Mount {self._place()}')
    people = self._people(names, settlements)
    self._deeds(people)
    for kind, noun, name in (
      ('battle', 'battle', 'Battle of {}'),
      ('treaty', 'treaty', 'Treaty of {}'),
    ):
      draws = next(self._streams)
      event = self._entity(draws, name.format(self._place()), kind, noun)
      self._fact(event, 'event_date', _date(draws, draws.between(1150, 1900)))
      self._fact(event, 'event_site', draws.pick(settlements))
    draws = next(self._streams)
    prize = self._entity(draws, f'{self._place()} Prize', 'prize', 'prize')
    self._office(draws, prize, 'holder')

  def _town(self) -> Entity:
    draws = next(self._streams)
    town = self._entity(draws, self._place(), 'town', 'town')
    self._fact(town, 'founder', self._person())
    self._fact(town, 'founded', str(draws.between(905, 1148)))
    self._office(draws, town, 'mayor')
    old = draws.between(2_000, 60_000)
    new = old + draws.between(60, 1_900) if draws.chance(60) else old
    self.facts.append(Fact(town, 'population', (f'{old:,}', f'{new:,}')))
    return town

  def _people(
    self, names: list[str], settlements: list[str]
  ) -> list[tuple[Entity, int, int]]:
    """People with the years of their birth and death, eldest first."""
    people: list[tuple[Entity, int, int]] = []
    birth = next(self._streams).between(1150, 1780)
    for name in names:
      draws = next(self._streams)
      birth += draws.between(9, 15)
      death = birth + draws.between(52, 88)
      person = self._entity(draws, name, 'person', draws.pick(TRADES))
      self._fact(person, 'birth_date', _date(draws, birth))
      self._fact(person, 'birth_place', draws.pick(settlements))
      self._fact(person, 'death_date', _date(draws, death))
      self._fact(person, 'spouse', self._person())
      # two places up the list: 18 to 30 years older, still alive at the time
      known = len(people) >= 2 and draws.chance(60)
      teacher = people[-2][0].name if known else self._person()
      self._fact(person, 'teacher', teacher)
      people.append((person, birth, death))
    return people

  def _deeds(self, people: list[tuple[Entity, int, int]]) -> None:
    """Works, institutions and discoveries, within the lives of the people."""
    draws = next(self._streams)
    writers = draws.shuffled(people)[:_WORKS]
    for number, (writer, birth, death) in enumerate(writers):
      draws = next(self._streams)
      title = self._names.work(self._index * _WORKS + number)
      work = self._entity(draws, title, 'work', draws.pick(WORK_KINDS))
      if draws.chance(50):  # one direction only: the other would give it away
        self._fact(work, 'author', writer.name)
      else:
        self._fact(writer, 'wrote', title)
      self._fact(work, 'published', str(draws.between(birth + 22, death)))
    for _ in range(2):
      draws = next(self._streams)
      founder, birth, death = draws.pick(people)
      noun = draws.pick(INSTITUTIONS)
      name = f'{self._place()} {noun}'
      institution = self._entity(draws, name, 'institution', noun.lower())
      self._fact(institution, 'founder', founder.name)
      founded = draws.between(birth + 25, death)
      self._fact(institution, 'founded', str(founded))
      self._office(draws, institution, 'rector')
    for _ in range(2):
      draws = next(self._streams)
      finder = draws.pick(people)[0]
      noun = draws.pick(('Comet', 'Star', 'Nebula'))
      finding = self._entity(
        draws, f'{self._place()} {noun}', 'discovery', noun.lower()
      )
      self._fact(finding, 'discoverer', finder.name)
