"""Question files as seqio tasks (adapter)."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from realm_jax.data.examples import Example, Lengths
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples, question_shapes
from realm_jax.data.seqio_pipeline import RAW, TaskExamples
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

QUESTION_TEXT = f'question_ids{RAW}'
ANSWER_TEXTS = f'answer_ids{RAW}'


def question_task(
  name: str,
  files: Mapping[str, str | Path],
  wordpiece: WordPiece,
  lengths: Lengths,
) -> TaskExamples:
  """The rows of QAExamples, with their text.

  What is a single number in them is no seqio feature, since seqio.Evaluator
  wants a length of every feature: a mixture has it with
  passthrough_features=['row', 'question_lens'].

  Args:
    name: of the task.
    files: split -> question file. In split train, questions whose answers
      cannot be spans are left out, as the trainer leaves them out; the other
      splits have every question, since evaluation counts them.
    wordpiece: the corpus's vocabulary.
    lengths: query_len is used.

  Raises:
    FileNotFoundError: a file is missing.
    UserError: there is no file, or a bad one.
  """
  if not files:
    raise UserError(
      f'Task {name} has no question file: expected split -> file, at least one.'
    )
  questions = {split: load_questions(path) for split, path in files.items()}
  examples = {
    split: qa_examples(loaded, wordpiece, lengths)
    for split, loaded in questions.items()
  }
  # Padded with empty strings, so that examples can be batched.
  num_texts = max(
    len(q.answers) for loaded in questions.values() for q in loaded
  )

  def make(split: str, row: int, epoch: int) -> Example | None:
    rows = examples[split]
    example = rows(row, epoch) if split == 'train' else rows.rows(row)
    if example is None:
      return None
    question = questions[split][row]
    texts = [answer.encode('utf-8') for answer in question.answers]
    texts += [b''] * (num_texts - len(texts))
    return example | {
      QUESTION_TEXT: np.array(question.question.encode('utf-8'), object),
      ANSWER_TEXTS: np.array(texts, object),
      'is_regex': np.array(question.is_regex, np.int32),
    }

  shapes = question_shapes(lengths)
  extra = {QUESTION_TEXT: (), ANSWER_TEXTS: (num_texts,), 'is_regex': ()}
  return TaskExamples(
    name,
    {split: np.arange(len(loaded)) for split, loaded in questions.items()},
    make,
    shapes={key: shape for key, shape in shapes.items() if shape},
    extra_shapes={
      **extra,
      **{key: shape for key, shape in shapes.items() if not shape},
    },
  )
