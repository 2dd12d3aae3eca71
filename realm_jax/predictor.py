"""Ask a fine-tuned run questions, from Python."""

import dataclasses
from collections.abc import Sequence

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.errors import UserError
from realm_jax.eval.answering import Answer, Answerer, batches_of
from realm_jax.eval.system import System, open_system
from realm_jax.index.config import IndexConfig

_BATCH_SIZE = 8


def check_num_read(num_read: int, corpus: Corpus) -> None:
  """Raises UserError unless a corpus has so many blocks to read."""
  if not 1 <= num_read <= corpus.num_blocks:
    raise UserError(
      f'num_read is {num_read}, expected 1 to {corpus.num_blocks}, the number '
      f'of blocks of corpus {corpus.folder}. Give another --num-read.'
    )


class Predictor:
  """Answers questions with their sources.

  predictor = realm_jax.Predictor.load('runs/finetune')
  answer = predictor.ask('Who founded the Skundfield Hospital?')
  print(answer.text, answer.documents[0].title)
  """

  def __init__(
    self,
    system: System,
    num_read: int = 5,
    num_candidates: int = 1,
    min_probability: float = 0.0,
  ):
    """Use `load`.

    Args:
      system: a fine-tuned run with its index.
      num_read: blocks read for a question, 1 to the number of blocks.
      num_candidates: different answers to give, at most.
      min_probability: answers less likely than that, over all documents read,
        are marked as withheld.

    Raises:
      UserError: a number is out of its range.
    """
    if not 0 <= min_probability <= 1:
      raise UserError(f'min_probability is {min_probability}, expected 0 to 1.')
    self._min_probability = min_probability
    if num_candidates < 1:
      raise UserError(
        f'{num_candidates} answers were asked for, expected at least 1.'
      )
    check_num_read(num_read, system.corpus)
    self._system = system
    self._num_read = num_read
    self._answerer = Answerer(
      system.run.model, system.retriever, num_candidates
    )

  @classmethod
  def load(
    cls,
    run: str,
    corpus: str | None = None,
    num_read: int = 5,
    index: IndexConfig | None = None,
    num_candidates: int = 1,
    min_probability: float = 0.0,
  ) -> 'Predictor':
    """Opens a fine-tuned run.

    Args:
      run: its folder.
      corpus: folder of the corpus to search; None for the run's.
      num_read: blocks read for a question, 1 to the number of blocks.
      index: what to search with.
      num_candidates: different answers to give, at most: see Answer.candidates.
      min_probability: answers less likely than that are marked as withheld: see
        Answer.withheld.

    Raises:
      FileNotFoundError: no such run or corpus.
      UserError: the run was not fine-tuned on questions with documents, or a
        number is out of its range.
    """
    system = open_system(run, corpus, index)
    if not system.run.reads_spans:
      raise UserError(
        f'Run {run} is one of stage {system.run.stage}: only a fine-tuned run '
        'answers questions. Make one with: realm-jax finetune'
      )
    return cls(system, num_read, num_candidates, min_probability)

  def ask(self, question: str) -> Answer:
    """The best answer to a question.

    Raises:
      UserError: the question is empty.
    """
    return self.ask_all([question])[0]

  def ask_all(self, questions: Sequence[str]) -> list[Answer]:
    """The best answer to each question."""
    for number, question in enumerate(questions):
      if not question.strip():
        raise UserError(
          f'Question {number + 1} is empty. Ask something, such as '
          "'Who founded the Skundfield Hospital?'"
        )
    asked = [Question(question, ('',)) for question in questions]
    examples = qa_examples(
      asked, self._system.corpus.wordpiece, self._system.lengths
    )
    examples.check_room(asked, self._system.lengths)
    retriever, params = self._system.retriever, self._system.run.params
    answers: list[Answer] = []
    for rows in batches_of(len(asked), _BATCH_SIZE):
      batch = examples.rows(rows)
      query = retriever.question_inputs(batch)
      found = retriever.retrieve(params, query, self._num_read)
      answers += self._answerer.answer(params, batch, found.block_ids)
    return [self._judged(answer) for answer in answers[: len(asked)]]

  def _judged(self, answer: Answer) -> Answer:
    """Withholds an answer that is too unlikely."""
    probability = max(
      (candidate.probability for candidate in answer.candidates), default=0.0
    )
    if probability >= self._min_probability:
      return answer
    return dataclasses.replace(answer, withheld=True)
