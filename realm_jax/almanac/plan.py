"""Which articles a province has, and which facts each of them states.

Difficulty is made here. Every entity has an article of its own, and some have
further ones that turn around it; registers, annals and handbooks state
whatever fits. A fact stands in its subject's own article in about half of the
cases; the rest stand where the subject is only named in passing. Nowhere does
a document name the subject and the answer of a fact which it does not state:
so whether a document answers a question can be told from its text.
"""

from realm_jax.almanac import scenery
from realm_jax.almanac.draws import Draws, streams
from realm_jax.almanac.scenery import MISCELLANIES, TOPICS, Miscellany
from realm_jax.almanac.world import Entity, Fact, Province, World

_ONE_PERCENT = 10  # of facts are to be stated once ...
_TWO_PERCENT = 25  # ... twice; the others three times
_OWN_PERCENT = 60  # of facts stand in the subject's own article
# where another statement goes, if there is such an article and it has room
_ANSWER_PERCENT = 25  # to one around the answer
_SUBJECT_PERCENT = 25  # to another one around the subject
_TIE_PERCENT = 25  # to one around somebody the subject has ties with
_MAX_LOAD = {'own': 5, 'around': 5, 'miscellany': 6}
_TRIES = 30
_TIE_REACH = 3  # people are coupled with those at most so many places away


class Draft:
  """An article in the making.

  Attributes:
    title: unique in the almanac.
    kind: 'own', 'around' or 'miscellany'.
    topic: the entity it is about; None for a miscellany.
    miscellany: what sort of miscellany it is; None for other kinds.
    mentions: names and answers that its text holds or will hold.
    facts: numbers of the facts it states.
    linked: whom it must introduce, because they are not its topic.
    load: the sentences that its facts will take, at most.
  """

  __slots__ = (
    'facts', 'kind', 'linked', 'load', 'mentions', 'miscellany', 'title',
    'topic',
  )  # fmt: skip

  def __init__(
    self,
    title: str,
    kind: str,
    topic: Entity | None = None,
    miscellany: Miscellany | None = None,
  ):
    self.title, self.kind = title, kind
    self.topic, self.miscellany = topic, miscellany
    self.mentions: set[str] = set() if topic is None else {topic.name}
    self.facts: list[int] = []
    self.linked: set[str] = set()
    self.load = 0


class Plan:
  """The drafts of one province.

  Attributes:
    drafts: in the order of the almanac.
    by_kind: the entities of each kind.
    ties: entity name -> slot of scenery.SLOTS -> whom it is coupled with
      whenever a sentence about it has that slot.
  """

  def __init__(self, world: World, province: Province):
    self._province = province
    self.by_kind: dict[str, list[Entity]] = {}
    for entity in province.entities:
      self.by_kind.setdefault(entity.kind, []).append(entity)
    # name -> the names that, in the same text, would state a fact
    self._partners: dict[str, set[str]] = {}
    for fact in province.facts:
      for answer in fact.answers:
        self._partners.setdefault(fact.subject.name, set()).add(answer)
        self._partners.setdefault(answer, set()).add(fact.subject.name)
    order_draws, title_draws, *draws = streams(
      (world.seed, province.number, 1),
      2 + len(province.entities) + len(province.facts),
    )
    self.ties = {
      entity.name: self._ties_of(entity, entity_draws)
      for entity, entity_draws in zip(province.entities, draws, strict=False)
    }
    self.drafts = self._titles(title_draws)
    self._around: dict[str, list[Draft]] = {}
    for draft in self.drafts:
      if draft.topic is not None:
        self._around.setdefault(draft.topic.name, []).append(draft)
    # relation -> the miscellanies that may state it
    self._open_to: dict[str, list[Draft]] = {}
    for draft in self.drafts:
      if draft.miscellany is not None:
        for relation in draft.miscellany.relations:
          self._open_to.setdefault(relation, []).append(draft)
    fact_draws = draws[len(province.entities) :]
    order = order_draws.shuffled(range(len(province.facts)))
    self._hosts: list[list[Draft]] = [[] for _ in province.facts]
    for number in order:
      if fact_draws[number].chance(_OWN_PERCENT):
        fact = province.facts[number]
        self._offer(number, self._around[fact.subject.name][0])
    for number in order:
      self._place(number, fact_draws[number])

  def _ties_of(self, entity: Entity, draws: Draws) -> dict[str, Entity]:
    free = {}
    for kind in dict.fromkeys(scenery.SLOTS.values()):
      others = self.by_kind[kind]
      if kind == entity.kind == 'person':  # contemporaries: eldest come first
        place = others.index(entity)
        others = others[max(0, place - _TIE_REACH) : place + _TIE_REACH + 1]
      free[kind] = [
        other
        for other in draws.shuffled(others)
        if other is not entity and other.name not in self._partners[entity.name]
      ]
    ties = {}
    for slot, kind in scenery.SLOTS.items():
      if free[kind]:
        ties[slot] = free[kind].pop()
    return ties

  def _titles(self, draws: Draws) -> list[Draft]:
    """Own articles, then those around entities and miscellanies in turn."""
    entities = self._province.entities
    drafts = [Draft(entity.name, 'own', entity) for entity in entities]
    order = draws.shuffled(entities)
    # people first and again last: most questions are about them
    order.sort(key=lambda entity: entity.kind != 'person')
    start = draws.below(90)
    for number in range(self._province.num_documents - len(drafts)):
      turn, rest = divmod(number, 5)
      if rest in (0, 2, 4):
        turn = 3 * turn + rest // 2
        entity = order[turn % len(order)]
        topics = TOPICS[entity.kind]
        past, choice = divmod(turn // len(order), len(topics))
        title = topics[(choice + turn) % len(topics)].format(entity.in_text)
        title += f', part {past + 1}' if past else ''
        drafts.append(Draft(title, 'around', entity))
      else:
        turn = 2 * turn + rest // 2
        miscellany = MISCELLANIES[turn % len(MISCELLANIES)]
        title = miscellany.title.format(self._province.series, start + turn)
        drafts.append(Draft(title, 'miscellany', None, miscellany))
    return drafts

  def fits(
    self, draft: Draft, marks: set[str], exempt: tuple[str, ...] = ()
  ) -> bool:
    """Whether a draft may name these without stating a fact by it.

    Args:
      draft: where they would be named.
      marks: names and answers.
      exempt: subject and answers of the fact that is to be stated.
    """
    for mark in marks:
      partners = self._partners.get(mark)
      if partners is None or mark in draft.mentions:
        continue
      clash = (partners & draft.mentions) | (partners & marks)
      if clash and not (mark in exempt and clash.issubset(exempt)):
        return False
    return True

  def _offer(self, number: int, draft: Draft, spare: int = 0) -> None:
    """Lets a draft state a fact, if it may and has room."""
    fact = self._province.facts[number]
    hosts = self._hosts[number]
    if draft in hosts:
      return
    cost = 1
    to_link = _to_link(draft, fact)
    if to_link is not None:
      if not scenery.links(fact.subject.kind, to_link.kind):
        return
      cost += fact.subject.name not in draft.linked
    if draft.load + cost > _MAX_LOAD[draft.kind] + spare:
      return
    marks = _marks(fact)
    if not self.fits(draft, marks, (fact.subject.name, *fact.answers)):
      return
    if cost == 2:
      draft.linked.add(fact.subject.name)
    hosts.append(draft)
    draft.load += cost
    draft.facts.append(number)
    draft.mentions |= marks

  def _place(self, number: int, draws: Draws) -> None:
    """Chooses further documents that state a fact."""
    fact = self._province.facts[number]
    hosts = self._hosts[number]
    roll = draws.below(100)
    wanted = 1 + (roll >= _ONE_PERCENT) + (roll >= _ONE_PERCENT + _TWO_PERCENT)
    own = self._around[fact.subject.name][0]
    for _ in range(_TRIES):
      if len(hosts) >= wanted:
        return
      draft = draws.pick(self._candidates(fact, draws))
      if draft is not own:
        self._offer(number, draft)
    for draft in (own, *self.drafts):  # only where nothing was found
      if hosts:
        return
      self._offer(number, draft, spare=99)
    assert hosts, f'no document can state {fact}'

  def _candidates(self, fact: Fact, draws: Draws) -> list[Draft]:
    """Articles in which a statement of a fact reads well."""
    roll = draws.below(100)
    if roll < _ANSWER_PERCENT:
      around_answer = self._around.get(fact.answers[0])
      if around_answer:
        return around_answer
    roll -= _ANSWER_PERCENT
    if 0 <= roll < _SUBJECT_PERCENT:
      return self._around[fact.subject.name]
    if 0 <= roll - _SUBJECT_PERCENT < _TIE_PERCENT:
      ties = list(self.ties[fact.subject.name].values())
      if ties:
        return self._around[draws.pick(ties).name]
    return self._open_to[fact.relation]


def _marks(fact: Fact) -> set[str]:
  """What a statement of a fact brings into a text, in either edition."""
  marks = {fact.subject.name, *fact.answers}
  if fact.relation.endswith('_date'):
    marks.add(fact.answers[0].rsplit(' ', 1)[1])  # the year
  return marks


def _to_link(draft: Draft, fact: Fact) -> Entity | None:
  """The topic, if its own article must say why it speaks of the subject."""
  topic = draft.topic
  if draft.kind != 'own' or topic is None or topic is fact.subject:
    return None
  return None if topic.name in fact.answers else topic
