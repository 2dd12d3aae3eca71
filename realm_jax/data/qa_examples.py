"""Questions and answers -> fixed-length arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import PAIR_SPECIALS, QUERY_SPECIALS, ragged
from realm_jax.data.qa import Question
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

# Answers beyond these are not labels: few questions have more aliases, which
# cost time in every step, and no span is wider than RealmConfig.max_span_width.
_MAX_ANSWERS = 32
_MAX_ANSWER_LEN = 10
# Where arrays of several files have to be alike.
_USUAL_ANSWERS = 8


@dataclass(frozen=True)
class QAExamples:
  """All questions of a file as arrays: question i is row i.

  Attributes:
    question_ids: [num_questions, query_len - 2] int32, zero-padded.
    question_lens: [num_questions] int32.
    answer_ids: [num_questions, num_answers, answer_len] int32, zero-padded.
    answer_lens: [num_questions, num_answers] int32; 0 for an unused slot and
      for an answer that is too long to be a span.
    num_unusable: questions none of whose answers can be a span.
    whole_lens: [num_questions] int32; of the questions before they were cut to
      query_len.
  """

  question_ids: np.ndarray
  question_lens: np.ndarray
  answer_ids: np.ndarray
  answer_lens: np.ndarray
  num_unusable: int
  whole_lens: np.ndarray

  @property
  def num_cut(self) -> int:
    """Questions that are longer than query_len allows."""
    return int((self.whole_lens > self.question_ids.shape[1]).sum())

  def check_room(self, questions: Sequence[Question], lengths: Lengths) -> None:
    """Refuses questions that leave no room for a block in the reader.

    Args:
      questions: those that these rows are of.
      lengths: joint_len is used.

    Raises:
      UserError: there is one.
    """
    longest = int(self.whole_lens.argmax())
    most = lengths.joint_len - PAIR_SPECIALS - 1
    if self.whole_lens[longest] > most:
      raise UserError(
        f'Question {longest + 1}, {questions[longest].question[:60]!r}..., is '
        f'{self.whole_lens[longest]} wordpieces long, and the reader has room '
        f'for {most}, with a piece of a block beside it. Shorten it, or raise '
        'Lengths.query_len.'
      )

  def __call__(self, row: int, epoch: int = 0) -> Example | None:
    """One example, for Batches; None for a question that cannot teach."""
    del epoch  # the same in every epoch
    if not self.answer_lens[row].any():
      return None
    return self.rows(row)

  def rows(self, rows: int | Sequence[int] | np.ndarray) -> Example:
    """Some rows of each array."""
    return {
      'row': np.asarray(rows, np.int32),
      'question_ids': self.question_ids[rows],
      'question_lens': self.question_lens[rows],
      'answer_ids': self.answer_ids[rows],
      'answer_lens': self.answer_lens[rows],
    }


def question_shapes(lengths: Lengths) -> dict[str, tuple[int, ...]]:
  """Name -> shape of one row of QAExamples of usual width; all int32."""
  return {
    'row': (),
    'question_ids': (lengths.query_len - QUERY_SPECIALS,),
    'question_lens': (),
    'answer_ids': (_USUAL_ANSWERS, _MAX_ANSWER_LEN),
    'answer_lens': (_USUAL_ANSWERS,),
  }


def num_answers_of(questions: Sequence[Question]) -> int:
  """As many as any of the questions has; at least 1, at most 32."""
  return min(
    max((len(q.strings) for q in questions), default=1) or 1, _MAX_ANSWERS
  )


def qa_examples(
  questions: Sequence[Question],
  wordpiece: WordPiece,
  lengths: Lengths,
  num_answers: int = _USUAL_ANSWERS,
) -> QAExamples:
  """Tokenises questions and answers.

  Of regular expressions, what they match is tokenised, if it is known.

  Args:
    questions: at least one.
    wordpiece: the corpus's vocabulary.
    lengths: query_len is used.
    num_answers: of a question that are kept: of those that can be spans, the
      first.

  Raises:
    UserError: there are no questions.
  """
  if not questions:
    raise UserError('There are no questions.')
  room = lengths.query_len - QUERY_SPECIALS
  encoded = wordpiece.encode_batch([q.question for q in questions])
  queries = ragged([e.token_ids[:room] for e in encoded])
  num_questions = len(questions)
  answer_ids = np.zeros((num_questions, num_answers, _MAX_ANSWER_LEN), np.int32)
  answer_lens = np.zeros((num_questions, num_answers), np.int32)
  for row, question in enumerate(questions):
    answers = wordpiece.encode_batch(list(question.strings))
    distinct = {e.token_ids.tobytes(): e.token_ids for e in answers}
    fitting = [
      ids
      for ids in distinct.values()
      # What the vocabulary lacks would be equal to all else that it lacks.
      if len(ids) <= _MAX_ANSWER_LEN and wordpiece.unk_id not in ids
    ]
    for slot, ids in enumerate(fitting[:num_answers]):
      answer_ids[row, slot, : len(ids)] = ids
      answer_lens[row, slot] = len(ids)
  question_ids = np.zeros((num_questions, room), np.int32)
  question_ids[:, : queries.token_ids.shape[1]] = queries.token_ids
  return QAExamples(
    question_ids,
    queries.lens,
    answer_ids,
    answer_lens,
    int((~answer_lens.any(axis=1)).sum()),
    np.array([len(e.token_ids) for e in encoded], np.int32),
  )
