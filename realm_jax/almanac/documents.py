"""The articles of the almanac: a plan turned into sentences."""

from collections.abc import Iterator
from typing import NamedTuple

from realm_jax.almanac import scenery, wording
from realm_jax.almanac.draws import Draws, streams
from realm_jax.almanac.plan import Draft, Plan
from realm_jax.almanac.world import EDITIONS, Entity, Fact, Province, World

_DECOY_PERCENT = 25  # of the sentences that state nothing
_OPENING_PERCENT = 40  # of the miscellanies have one
_SHORT_PERCENT = 10  # of sentences of an own article say 'the poet'
_LENGTH = (5, 6)  # sentences, at least and at most, where facts allow it
_ROLL_PERCENT = 20  # of articles around something also list mere names
_ROLL_NAMES = 4
_TRIES = 12
_COMBINE_PERCENT = 40  # of pairs of facts that can share a sentence do


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
  all_draws = streams((world.seed, province.number, 3), len(plan.drafts))
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
    with_roll = draft.kind != 'own' and draws.chance(_ROLL_PERCENT)
    if with_roll and len(opening) + len(sentences) < _LENGTH[1]:
      sentences += self._roll(draft, draws)
    missing = draws.between(*_LENGTH) - len(opening)
    missing -= sum(1 + ('. ' in sentence) for sentence in sentences)
    for _ in range(missing):
      filler = self._filler(draft, draws, used)
      if filler:
        sentences.append(filler)
    return ' '.join(opening + draws.shuffled(sentences))

  def _opening(self, draft: Draft, draws: Draws, used: set[str]) -> list[str]:
    topic = draft.topic
    if topic is None:
      assert draft.miscellany is not None
      if draws.chance(_OPENING_PERCENT):
        return [draws.pick(draft.miscellany.openings)]
      return []
    if draft.kind == 'own':
      pattern = draws.pick(scenery.INTROS[topic.kind])
      return [_fill(pattern, topic, topic.in_text)]
    return [self._colour(draft, draws, used, scenery.COLOUR, topic)]

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
    assert draft.topic is not None
    patterns = scenery.links(subject.kind, draft.topic.kind)
    unused = [pattern for pattern in patterns if pattern not in used]
    pattern = draws.pick(unused or patterns)
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
    """A sentence that states nothing asked for; empty if there is none left."""
    table = scenery.COLOUR
    if draws.chance(_DECOY_PERCENT):
      table = scenery.DECOYS
    if draft.topic is not None:
      return self._colour(draft, draws, used, table, draft.topic)
    assert draft.miscellany is not None
    for _ in range(_TRIES):
      kind = draws.pick(draft.miscellany.kinds)
      subject = draws.pick(self._plan.by_kind[kind])
      if self._plan.fits(draft, {subject.name}):
        draft.mentions.add(subject.name)
        return self._colour(draft, draws, used, table, subject)
    return ''

  def _roll(self, draft: Draft, draws: Draws) -> list[str]:
    """A sentence that only lists names, those that bring no fact with them."""
    names = []
    if draft.miscellany is not None:
      kinds = draft.miscellany.kinds
    else:
      kinds = tuple(scenery.SLOTS.values())
    for _ in range(_TRIES):
      entity = draws.pick(self._plan.by_kind[draws.pick(kinds)])
      if entity.name in draft.mentions:
        continue
      if self._plan.fits(draft, {entity.name}):
        draft.mentions.add(entity.name)
        names.append(entity.in_text)
      if len(names) == _ROLL_NAMES:
        break
    if len(names) < 2:
      return []
    listed = ', '.join(names[:-1]) + f' and {names[-1]}'
    return [draws.pick(scenery.ROLLS).format(listed)]

  def _colour(
    self,
    draft: Draft,
    draws: Draws,
    used: set[str],
    table: dict[str, tuple[str, ...]],
    subject: Entity,
  ) -> str:
    """A sentence of a table whose other names bring no fact into the text."""
    ties = self._plan.ties[subject.name]
    for pattern in draws.shuffled(table[subject.kind]):
      slots = scenery.slots(pattern)
      if pattern in used or not ties.keys() >= set(slots):
        continue
      names = {ties[slot].name for slot in slots}
      if not self._plan.fits(draft, names):
        continue
      draft.mentions |= names
      used.add(pattern)
      name = subject.in_text
      if draft.kind == 'own' and draft.topic is subject:
        name = self._name(subject, draws)
      others = {slot: ties[slot].in_text for slot in slots}
      return _fill(pattern, subject, name, **others)
    return ''


def _combined(fact: Fact, other: Fact) -> tuple[str, ...]:
  """The wordings that state both, in this order; often none."""
  if fact.subject is not other.subject:
    return ()
  return wording.COMBINED.get((fact.relation, other.relation), ())


def _fill(pattern: str, subject: Entity, name: str, **slots: str) -> str:
  noun = subject.noun
  a_noun = f'an {noun}' if noun[0] in 'aeiou' else f'a {noun}'
  text = pattern.format(s=name, noun=noun, a_noun=a_noun, **slots)
  return text[0].upper() + text[1:]
