"""Question files as seqio tasks: examples and metrics (adapter)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.data.examples import Example, Lengths
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
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

  some = next(iter(examples.values())).rows(0)
  extra = {QUESTION_TEXT: (), ANSWER_TEXTS: (num_texts,), 'is_regex': ()}
  return TaskExamples(
    name,
    {split: np.arange(len(loaded)) for split, loaded in questions.items()},
    make,
    shapes={key: array.shape for key, array in some.items() if array.ndim},
    extra_shapes={**extra, 'row': (), 'question_lens': ()},
  )


def postprocess_answers(
  output: Any, example: Mapping[str, Any], is_target: bool
) -> Any:
  """What seqio hands to answer_metrics.

  Args:
    output: a predicted answer, a string; of no use for a target.
    example: of a question task.
    is_target: whether the right answers are asked for.

  Returns:
    {'answers': the right answers, 'is_regex': bool} for a target, else output.
  """
  if not is_target:
    return output
  return {
    'answers': [text.decode('utf-8') for text in example[ANSWER_TEXTS] if text],
    'is_regex': bool(example['is_regex']),
  }


def answer_metrics(
  targets: Sequence[Mapping[str, Any]], predictions: Sequence[str]
) -> dict[str, float]:
  """Exact match and F1 as a seqio metric function, both between 0 and 1.

  Predict text, cut out of the block, where you can: token ids are decoded to
  lower case with spaces around punctuation, and so 'u . s .' is not 'U.S.'.

  Args:
    targets: of postprocess_answers.
    predictions: an answer to each.

  Returns:
    'em' over all questions (a regular expression must fit at the start, as in
    the official evaluation); 'f1' over those without expressions, if any.
  """
  # A layer above this one, but seqio has metrics beside the data.
  from realm_jax.eval.answers import f1, is_right

  pairs = list(zip(targets, predictions, strict=True))
  right = [is_right(p, t['answers'], t['is_regex']) for t, p in pairs]
  overlaps = [f1(p, t['answers']) for t, p in pairs if not t['is_regex']]
  metrics = {'em': float(np.mean(right))}
  return metrics | ({'f1': float(np.mean(overlaps))} if overlaps else {})
