"""What evaluate writes of one question: the answer and the verdicts on it."""

from typing import Any

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import Question
from realm_jax.eval.answering import Answer
from realm_jax.eval.answers import f1, has_answer, is_right, regex_match
from realm_jax.types import NULL_BLOCK_ID

_SHOWN_DOCUMENTS = 5


def text_verdicts(text: str, question: Question) -> dict[str, float]:
  """Metrics of an answer's text, between 0 and 1.

  exact_match is the official verdict. f1 is left out of questions whose answers
  are expressions, which have no words to share; those have regex_search, the
  expression found anywhere in the text.
  """
  answers, is_regex = question.answers, question.is_regex
  verdicts = {'exact_match': float(is_right(text, answers, is_regex))}
  if is_regex:
    found = regex_match(text, answers, anchored=False)
    verdicts['regex_search'] = float(found)
  else:
    verdicts['f1'] = f1(text, answers)
  return verdicts


def hits(
  corpus: Corpus, question: Question, block_ids: np.ndarray
) -> list[bool]:
  """Whether each block found holds an answer; of no block (-1), it does not."""
  return [
    block_id != NULL_BLOCK_ID
    and has_answer(
      corpus.text(block_id), question.answers, is_regex=question.is_regex
    )
    for block_id in block_ids.tolist()
  ]


def closed_book_prediction(question: Question, text: str) -> dict[str, Any]:
  """What is written of an answer without documents.

  "question" and "prediction" are what the evaluation script of ORQA and REALM
  reads.
  """
  return {
    **_asked(question),
    'prediction': text,
    **text_verdicts(text, question),
  }


def open_book_prediction(
  question: Question, answer: Answer | None, judged: list[bool]
) -> dict[str, Any]:
  """What is written of an answer that was read in documents.

  As closed_book_prediction, with the verdicts by wordpieces, where the answer
  was read, and the first documents.

  Args:
    question: with its answers.
    answer: None of a model that only retrieves: nothing is said of answers.
    judged: the hits of the blocks found, the best first.
  """
  prediction = {**_asked(question), 'hits': judged}
  if answer is None:
    return prediction
  utilities = [document.retrieval_utility for document in answer.documents]
  if utilities:
    prediction['retrieval_utility'] = float(np.mean(utilities))
  return {
    **prediction,
    'prediction': answer.text,
    'probability': answer.probability,
    **text_verdicts(answer.text, question),
    **_span_verdicts(answer, question),
    **_source(answer, question),
    'block_id': answer.block_id,
    'start': answer.start,
    'stop': answer.stop,
    'documents': [
      {
        'block_id': document.block_id,
        'title': document.title,
        'text': document.text,
        'probability': document.probability,
        'retrieval_utility': document.retrieval_utility,
      }
      for document in answer.documents[:_SHOWN_DOCUMENTS]
    ],
  }


def _asked(question: Question) -> dict[str, Any]:
  return {'question': question.question, 'answers': list(question.answers)}


def _span_verdicts(answer: Answer, question: Question) -> dict[str, float]:
  if not question.strings:  # expressions that were not expanded
    return {}
  return {
    'span_exact_match': float(answer.is_right_span),
    'reader_oracle': float(answer.has_right_span),
  }


def _source(answer: Answer, question: Question) -> dict[str, Any]:
  """Rank of the document it was read in, and whether the question names it."""
  for rank, document in enumerate(answer.documents, start=1):
    if document.block_id == answer.block_id:  # one block may stand there twice
      if not question.titles:
        return {'answer_rank': rank}
      named = document.title in question.titles
      return {'answer_rank': rank, 'from_named_article': named}
  return {}
