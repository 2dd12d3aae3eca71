"""Questions about the almanac, split by the entity they ask about."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from realm_jax.almanac import wording
from realm_jax.almanac.documents import Document, compose
from realm_jax.almanac.draws import streams
from realm_jax.almanac.world import EDITIONS, Fact, Province, World

SPLITS = ('train', 'dev', 'test')
_TRAIN_WORDINGS = 2  # questions asked about a fact of a training entity


class AlmanacQuestion(NamedTuple):
  """A question and what is known about it.

  Attributes:
    question: its text.
    answer: accepted answers; the first stands literally in each document named.
    entity: the name of whom it asks about.
    relation: one of wording.RELATIONS.
    titles: the documents that state the fact.
    num_statements: how many those are.
    split: 'train', 'dev' or 'test'.
    answers: the first answer in the 2018 and in the 2020 edition.
  """

  question: str
  answer: tuple[str, ...]
  entity: str
  relation: str
  titles: tuple[str, ...]
  num_statements: int
  split: str
  answers: tuple[str, str]

  def as_json(self) -> dict[str, Any]:
    """What a line of a question file holds."""
    fields = self._asdict()
    del fields['split'], fields['answers']
    return fields


def questions(world: World) -> Iterator[AlmanacQuestion]:
  """All questions of a world, province by province."""
  for province in world.provinces():
    yield from ask(world, province, compose(world, province))


def ask(
  world: World, province: Province, articles: Sequence[Document]
) -> Iterator[AlmanacQuestion]:
  """The questions about one province, given its documents."""
  titles: list[list[str]] = [[] for _ in province.facts]
  for article in articles:
    for number in article.facts:
      titles[number].append(article.title)
  edition = EDITIONS.index(world.edition)
  all_draws = streams((world.seed, province.number, 2), len(province.facts))
  for fact, stating, draws in zip(
    province.facts, titles, all_draws, strict=True
  ):
    patterns = draws.shuffled(wording.QUESTIONS[fact.relation])
    split = fact.subject.split
    for pattern in patterns[: _TRAIN_WORDINGS if split == 'train' else 1]:
      yield AlmanacQuestion(
        pattern.format(s=fact.subject.in_text),
        _accepted(fact, edition),
        fact.subject.name,
        fact.relation,
        tuple(stating),
        len(stating),
        split,
        fact.answers,
      )


def _accepted(fact: Fact, edition: int) -> tuple[str, ...]:
  answer = fact.answers[edition]
  if answer.startswith('The '):
    return answer, answer.removeprefix('The ')
  return (answer,)
