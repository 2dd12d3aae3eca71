"""The articles of the almanac: a plan turned into sentences."""

from collections.abc import Iterator
from typing import NamedTuple

from realm_jax.almanac import scenery, wording
from realm_jax.almanac.draws import Draws, streams
from realm_jax.almanac.plan import Draft, Plan
from realm_jax.almanac.world import EDITIONS, Entity, Fact, Province, World

_DECOY_PERCENT = 50  # of the sentences that state nothing
_OPENING_PERCENT = 40  # of the miscellanies have one
_SHORT_PERCENT = 30  # of sentences about the topic say 'the poet'
_COMBINE_PERCENT = 70  # of pairs of facts that can share a sentence do


class Document(NamedTuple):
  """An article.

  Attributes:
    title: unique in the almanac.
    text: three to six sentences.
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
  plan = Plan(world, province)
  writer = _Writer(world, province, plan)
  all_draws = streams((world.seed, province.index, 3), len(plan.drafts))
  return [
    Document(draft.title, writer.text(draft, draws), tuple(draft.facts))
    for draft, draws in zip(plan.drafts, all_draws, strict=True)
  ]


class _Writer:
  """Writes the drafts of one province."""

  def __init__(self, world: World, province: Province, plan: Plan):
    self._edition = EDITIONS.index(world.edition)
    self._facts = province.facts
    self._plan = plan
    self._by_name = {entity.name: entity for entity in province.entities}

  def text(self, draft: Draft, draws: Draws) -> str:
    """The text of a document."""
    used: set[str] = set()
    opening = self._opening(draft, draws, used)
    sentences = self._statements(draft, draws, used)
    missing = draws.between(5, 6) - len(opening)
    missing -= sum(1 + ('. ' in sentence) for sentence in sentences)
    for _ in range(max(missing, 0)):
      sentences.append(self._filler(draft, draws, used))
    return ' '.join(opening + draws.shuffled(sentences))

  def _opening(self, draft: Draft, draws: Draws, used: set[str]) -> list[str]:
    topic = draft.topic
    if not isinstance(topic, Entity):
      if draws.chance(_OPENING_PERCENT):
        return [draws.pick(topic.openings)]
      return []
    if draft.kind == 'own':
      pattern = draws.pick(scenery.INTROS[topic.kind])
      return [_fill(pattern, topic, topic.in_text)]
    return [self._colour(draft, draws, used, scenery.COLOUR, topic, 0)]

  def _statements(
    self, draft: Draft, draws: Draws, used: set[str]
  ) -> list[str]:
    """Sentences for all facts of a draft, some of them two in one."""
    facts = [self._facts[number] for number in draft.facts]
    sentences = []
    to_link = set(draft.linked)
    while facts:
      fact = facts.pop(0)
      link = ''
      if fact.subject.name in to_link:
        to_link.remove(fact.subject.name)
        link = self._link(draft, draws, used, fact.subject) + ' '
      for other in facts:
        pairs = ((fact, other), (other, fact))
        found = next((pair for pair in pairs if _combined(*pair)), None)
        if found is not None and draws.chance(_COMBINE_PERCENT):
          facts.remove(other)
          sentences.append(link + self._state(draft, draws, *found))
          break
      else:
        sentences.append(link + self._state(draft, draws, fact))
    return sentences

  def _link(
    self, draft: Draft, draws: Draws, used: set[str], subject: Entity
  ) -> str:
    """A sentence that says what a subject has to do with the topic."""
    assert isinstance(draft.topic, Entity)
    pattern = draws.pick(scenery.links(subject.kind, draft.topic.kind))
    used.add(pattern)
    others = {slot: draft.topic.in_text for slot in scenery.SLOTS}
    return _fill(pattern, subject, subject.in_text, **others)

  def _state(
    self, draft: Draft, draws: Draws, fact: Fact, other: Fact | None = None
  ) -> str:
    """A sentence that states a fact, or two."""
    subject, answer = fact.subject, fact.answers[self._edition]
    slots = {}
    if other is not None:
      patterns = _combined(fact, other)
      slots['a'] = self._in_text(other.answers[self._edition])
    elif fact.relation == 'wrote':  # worded as the author of the work
      patterns = wording.statements('author', 'work')
      subject, answer = self._by_name[answer], subject.name
    else:
      patterns = wording.statements(fact.relation, subject.kind)
    name = subject.in_text
    if draft.kind == 'own' and draft.topic is subject:
      name = self._name(subject, draws)
    pattern = draws.pick(patterns)
    return _fill(pattern, subject, name, o=self._in_text(answer), **slots)

  def _in_text(self, answer: str) -> str:
    entity = self._by_name.get(answer)
    return answer if entity is None else entity.in_text

  def _name(self, topic: Entity, draws: Draws) -> str:
    """The topic's name, or what it is."""
    if draws.chance(_SHORT_PERCENT):
      return f'the {topic.noun}'
    return topic.in_text

  def _filler(self, draft: Draft, draws: Draws, used: set[str]) -> str:
    """A sentence that states nothing asked for."""
    table = scenery.COLOUR
    if draws.chance(_DECOY_PERCENT):
      table = scenery.DECOYS
    topic = draft.topic
    if isinstance(topic, Entity):
      percent = _SHORT_PERCENT if draft.kind == 'own' else 0
      return self._colour(draft, draws, used, table, topic, percent)
    for _ in range(8):
      subject = draws.pick(self._plan.by_kind[draws.pick(topic.kinds)])
      if self._plan.fits(draft, {subject.name}):
        draft.mentions.add(subject.name)
        return self._colour(draft, draws, used, table, subject, 0)
    used.add('')
    return draws.pick(topic.openings)

  def _colour(
    self,
    draft: Draft,
    draws: Draws,
    used: set[str],
    table: dict[str, tuple[str, ...]],
    subject: Entity,
    short_percent: int,
  ) -> str:
    """A sentence of a table whose other names bring no fact into the text."""
    for pattern in draws.shuffled(table[subject.kind]):
      if pattern in used:
        continue
      ties = self._plan.ties[subject.name]
      slots = scenery.slots(pattern)
      if not ties.keys() >= set(slots):
        continue
      others = {slot: ties[slot] for slot in slots}
      names = {entity.name for entity in others.values()}
      if self._plan.fits(draft, names):
        break
    else:
      pattern, others, names = scenery.INTROS[subject.kind][0], {}, set()
    draft.mentions |= names
    used.add(pattern)
    name = subject.in_text
    if short_percent and draws.chance(short_percent):
      name = f'the {subject.noun}'
    texts = {slot: entity.in_text for slot, entity in others.items()}
    return _fill(pattern, subject, name, **texts)


def _combined(fact: Fact, other: Fact) -> tuple[str, ...]:
  """The wordings that state both, in this order; often none."""
  if fact.subject is not other.subject:
    return ()
  return wording.COMBINED.get((fact.relation, other.relation), ())


def _fill(pattern: str, subject: Entity, name: str, **slots: str) -> str:
  text = pattern.format(s=name, noun=subject.noun, **slots)
  return text[0].upper() + text[1:]
