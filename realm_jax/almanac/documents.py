"""Articles of the almanac: which facts each states, and its sentences.

Difficulty is made here. Every entity has an article of its own and most have
further ones that turn around it; both are full of sentences that name it and
state nothing. A fact stands in its subject's own article in about half of the
cases; otherwise in articles about something else. And a document which names
the subject and the answer of a fact always states that fact.
"""

from collections.abc import Iterator
from typing import NamedTuple

from realm_jax.almanac import wording
from realm_jax.almanac.draws import Draws, streams
from realm_jax.almanac.world import EDITIONS, Entity, Fact, Province, World

_MAX_FACTS = 4  # statements a document holds, where that can be kept
_OWN_PERCENT = 50  # of the facts stand in the subject's own article
_OBJECT_PERCENT = 35  # of other statements: in the article of the answer
_SUBJECT_PERCENT = 10  # ... or in a further article around the subject
_DECOY_PERCENT = 40  # of the sentences that state nothing
_SHORT_PERCENT = 30  # of statements in an own article say 'the poet'
_SLOTS = {'p': 'person', 't': 'town', 'w': 'work', 'i': 'institution',
          'r': 'river'}  # fmt: skip


class Document(NamedTuple):
  """An article.

  Attributes:
    title: unique in the almanac.
    text: three to seven sentences.
    facts: numbers of the facts of its province that it states.
  """

  title: str
  text: str
  facts: tuple[int, ...]


def documents(world: World) -> Iterator[Document]:
  """All documents of a world, province by province."""
  for province in world.provinces():
    yield from compose(world, province)


def compose(world: World, province: Province) -> list[Document]:
  """Writes the documents of one province."""
  return _Composer(world, province).compose()


class _Draft:
  """A document in the making: its topic, whom it names, what it states."""

  __slots__ = ('facts', 'mentions', 'own', 'sentences', 'title', 'topic')

  def __init__(self, title: str, topic: Entity, own: bool):
    self.title, self.topic, self.own = title, topic, own
    self.mentions = {topic.name}
    self.facts: list[int] = []
    self.sentences: list[str] = []


def _marks(fact: Fact) -> set[str]:
  """What a statement of a fact brings into a text, in either edition."""
  marks = {fact.subject.name, *fact.answers}
  if fact.relation.endswith('_date'):
    marks.add(fact.answers[0].rsplit(' ', 1)[1])
  return marks


class _Composer:
  """Distributes the facts of a province over documents and writes them."""

  def __init__(self, world: World, province: Province):
    self._province = province
    self._edition = EDITIONS.index(world.edition)
    self._by_name = {entity.name: entity for entity in province.entities}
    self._by_kind: dict[str, list[Entity]] = {}
    for entity in province.entities:
      self._by_kind.setdefault(entity.kind, []).append(entity)
    # name -> the names that, in the same text, would state a fact
    self._partners: dict[str, set[str]] = {}
    for fact in province.facts:
      for answer in fact.answers:
        self._partners.setdefault(fact.subject.name, set()).add(answer)
        self._partners.setdefault(answer, set()).add(fact.subject.name)
    draws = streams(
      (world.seed, province.index, 1),
      2 + len(province.facts) + province.num_documents,
    )
    self._plan_draws, *rest = draws
    self._fact_draws = rest[: len(province.facts)]
    self._document_draws = rest[len(province.facts) :]

  def compose(self) -> list[Document]:
    """Plans, distributes, writes."""
    self._drafts = self._plan()
    self._around: dict[str, list[_Draft]] = {}
    for draft in self._drafts:
      self._around.setdefault(draft.topic.name, []).append(draft)
    for number in self._plan_draws.shuffled(range(len(self._province.facts))):
      self._place(number, self._fact_draws[number])
    for draft, draws in zip(self._drafts, self._document_draws, strict=False):
      self._write(draft, draws)
    return [
      Document(draft.title, ' '.join(draft.sentences), tuple(draft.facts))
      for draft in self._drafts
    ]

  def _plan(self) -> list[_Draft]:
    """An article for each entity, then further ones around them."""
    entities = self._province.entities
    drafts = [_Draft(entity.name, entity, own=True) for entity in entities]
    # people first and twice as often: most questions are about them
    order = self._plan_draws.shuffled(entities)
    order += [entity for entity in order if entity.kind == 'person']
    order.sort(key=lambda entity: entity.kind != 'person')
    used: dict[str, int] = {}
    first = {entity.name: self._plan_draws.below(8) for entity in entities}
    while len(drafts) < self._province.num_documents:
      for entity in order[: self._province.num_documents - len(drafts)]:
        topics = wording.TOPICS[entity.kind]
        count = used.get(entity.name, 0)
        used[entity.name] = count + 1
        topic = topics[(first[entity.name] + count) % len(topics)]
        part = count // len(topics)
        title = topic.format(entity.in_text)
        if part:
          title += f', part {part + 1}'
        drafts.append(_Draft(title, entity, own=False))
    return drafts

  def _fits(self, draft: _Draft, marks: set[str], fact: Fact | None) -> bool:
    """Whether naming these in a draft states nothing but the fact."""
    mentions = draft.mentions
    for mark in marks:
      partners = self._partners.get(mark)
      if partners is None or mark in mentions:
        continue
      if fact is None or mark not in (fact.subject.name, *fact.answers):
        if not partners.isdisjoint(mentions) or not partners.isdisjoint(marks):
          return False
      else:
        exempt = (fact.subject.name, *fact.answers)
        clash = (partners & mentions) | (partners & marks)
        if not clash.issubset(exempt):
          return False
    return True

  def _place(self, number: int, draws: Draws) -> None:
    """Chooses the documents that state a fact."""
    fact = self._province.facts[number]
    marks = _marks(fact)
    roll = draws.below(100)
    wanted = 1 if roll < 12 else 2 if roll < 80 else 3
    hosts: list[_Draft] = []

    def offer(draft: _Draft, limit: int) -> bool:
      if draft in hosts or len(draft.facts) >= limit:
        return False
      if not self._fits(draft, marks, fact):
        return False
      hosts.append(draft)
      draft.facts.append(number)
      draft.mentions |= marks
      return True

    around_subject = self._around[fact.subject.name]
    if draws.chance(_OWN_PERCENT):
      offer(around_subject[0], _MAX_FACTS)
    around_answer = self._around.get(fact.answers[0])
    for _ in range(24):
      if len(hosts) == wanted:
        return
      roll = draws.below(100)
      if around_answer and roll < _OBJECT_PERCENT:
        candidates = around_answer
      elif roll >= 100 - _SUBJECT_PERCENT and len(around_subject) > 1:
        candidates = around_subject[1:]
      else:
        candidates = self._drafts
      draft = draws.pick(candidates)
      if draft is not around_subject[0]:
        offer(draft, _MAX_FACTS)
    for draft in self._drafts:  # only where nothing was found
      if hosts or offer(draft, len(self._province.facts)):
        return
    raise AssertionError(f'no document can state {fact}')

  def _write(self, draft: _Draft, draws: Draws) -> None:
    """Turns a draft into sentences."""
    topic = draft.topic
    used: set[str] = set()
    if draft.own:
      opening = draws.pick(wording.INTROS[topic.kind])
      first = self._fill(opening, topic, topic.in_text)
    else:
      first = self._filler(draft, draws, used, decoy_percent=0)
    rest = [self._state(draft, number, draws) for number in draft.facts]
    length = draws.between(4, 5)
    for _ in range(max(1 if draft.own else 2, length - 1 - len(rest))):
      rest.append(self._filler(draft, draws, used, _DECOY_PERCENT))
    draft.sentences = [first, *draws.shuffled(rest)]

  def _state(self, draft: _Draft, number: int, draws: Draws) -> str:
    """A sentence that states a fact."""
    fact = self._province.facts[number]
    answer = fact.answers[self._edition]
    subject = fact.subject
    if fact.relation == 'wrote':  # worded as 'author' of the work
      subject, answer = self._by_name[answer], subject.in_text
      patterns = wording.STATEMENTS['author']
    else:
      patterns = wording.statements(fact.relation, subject.kind)
      if answer in self._by_name:
        answer = self._by_name[answer].in_text
    name = subject.in_text
    short = draws.chance(_SHORT_PERCENT)
    if short and draft.own and draft.topic is subject:
      name = f'the {subject.noun}'
    return self._fill(draws.pick(patterns), subject, name, o=answer)

  def _filler(
    self, draft: _Draft, draws: Draws, used: set[str], decoy_percent: int
  ) -> str:
    """A sentence that names the topic and states nothing asked for."""
    topic = draft.topic
    for _ in range(12):
      table = wording.COLOUR
      if draws.chance(decoy_percent):
        table = wording.DECOYS
      pattern = draws.pick(table[topic.kind])
      if pattern in used:
        continue
      slots = {}
      for slot, kind in _SLOTS.items():
        if f'{{{slot}}}' in pattern:
          slots[slot] = draws.pick(self._by_kind[kind])
      others = {entity.name for entity in slots.values()}
      if topic.name in others or not self._fits(draft, others, None):
        continue
      draft.mentions |= others
      break
    else:
      pattern = draws.pick(wording.INTROS[topic.kind])
      slots = {}
    used.add(pattern)
    texts = {slot: entity.in_text for slot, entity in slots.items()}
    return self._fill(pattern, topic, topic.in_text, **texts)

  def _fill(self, pattern: str, entity: Entity, name: str, **slots: str) -> str:
    text = pattern.format(s=name, noun=entity.noun, **slots)
    return text[0].upper() + text[1:]
