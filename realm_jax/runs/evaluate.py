"""Evaluate a run on a file of questions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.data.closed_book import closed_book_answer, closed_book_batch
from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import Question, load_questions
from realm_jax.data.qa_examples import QAExamples, qa_examples
from realm_jax.eval.answering import Answer, Answerer, batches_of, pad_blocks
from realm_jax.eval.answers import f1, has_answer, is_right
from realm_jax.eval.intervals import bootstrap_interval
from realm_jax.eval.rankers import make_ranker
from realm_jax.eval.retrieval import DEFAULT_KS, hits_at_k, reciprocal_ranks
from realm_jax.eval.system import System, open_system
from realm_jax.folders import file_checksum, make_folder, write_json
from realm_jax.models.inference import make_fill_in
from realm_jax.types import NULL_BLOCK_ID

_BATCH_SIZE = 32
_SHOWN_DOCUMENTS = 5


def evaluate(
  run: str,
  questions: str,
  out: str,
  *,
  corpus: str | None = None,
  ranker: str = 'retriever',
  num_read: int = 5,
  max_questions: int | None = None,
) -> dict[str, Any]:
  """Measures retrieval and answers.

  Args:
    run: folder of a finished run: fine-tuned for answers, closed-book, or any
      other for retrieval alone.
    questions: file of questions with answers.
    out: folder for metrics.json and predictions.jsonl.
    corpus: folder of the corpus to search; None for the run's.
    ranker: how blocks are found: 'retriever', 'bm25', 'gold' or 'random'.
    num_read: blocks that the reader sees.
    max_questions: only the first so many.

  Returns:
    What metrics.json holds: each metric's mean and 95 % bootstrap interval over
    questions, and what it was measured with.

  Raises:
    FileNotFoundError: a folder or file is missing.
    UserError: the run, corpus and questions do not go together.
  """
  asked = load_questions(questions)[:max_questions]
  system = open_system(run, corpus)
  closed_book = system.run.stage == 'closed_book'
  examples = qa_examples(asked, system.corpus.wordpiece, system.lengths)
  if closed_book:
    predictions = _closed_book(system, asked, examples)
  else:
    predictions = _open_book(system, asked, examples, ranker, num_read)
  folder = make_folder(out)
  with open(folder / 'predictions.jsonl', 'w', encoding='utf-8') as stream:
    for prediction in predictions:
      stream.write(json.dumps(prediction, ensure_ascii=False) + '\n')
  metrics = {
    'metrics': _summarise(predictions),
    'num_questions': len(asked),
    'run': str(run),
    'ranker': 'none' if closed_book else ranker,
    'questions': {
      'file': str(questions),
      'sha256': file_checksum(Path(questions)),
    },
    'corpus_fingerprint': system.corpus.fingerprint,
  }
  write_json(folder / 'metrics.json', metrics)
  return metrics


def _open_book(
  system: System,
  asked: Sequence[Question],
  examples: QAExamples,
  ranker: str,
  num_read: int,
) -> list[dict[str, Any]]:
  """Retrieves for every question; reads if the run was fine-tuned."""
  rank = make_ranker(
    ranker, asked, examples, system.retriever, system.run.params
  )
  num_ranked = min(max(DEFAULT_KS), system.corpus.num_blocks)
  answerer = Answerer(
    system.run.model,
    system.run.params,
    system.corpus,
    system.retriever.index,
    system.lengths,
  )
  predictions: list[dict[str, Any]] = []
  for rows in batches_of(len(asked), _BATCH_SIZE):
    block_ids = rank(rows, num_ranked)
    if system.run.stage == 'finetune':
      answers: Sequence[Answer | None] = answerer.answer(
        examples.rows(rows), pad_blocks(block_ids, num_read)
      )
    else:
      answers = [None] * len(rows)
    for row, found, answer in zip(rows, block_ids, answers, strict=True):
      if len(predictions) == row:  # not a repetition that filled the batch
        hits = _hits(system.corpus, asked[row], found)
        predictions.append(_prediction(asked[row], answer, hits))
  return predictions


def _hits(
  corpus: Corpus, question: Question, block_ids: np.ndarray
) -> list[bool]:
  """Whether each block found holds an answer."""
  return [
    block_id != NULL_BLOCK_ID
    and has_answer(
      corpus.text(block_id), question.answers, is_regex=question.is_regex
    )
    for block_id in block_ids.tolist()
  ]


def _prediction(
  question: Question, answer: Answer | None, hits: list[bool]
) -> dict[str, Any]:
  prediction: dict[str, Any] = {
    'question': question.question,
    'answers': list(question.answers),
    'hits': hits,
  }
  if answer is None:
    return prediction
  return {
    **prediction,
    'prediction': answer.text,
    'probability': answer.probability,
    **_score(answer.text, question),
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


def _score(text: str, question: Question) -> dict[str, float]:
  return {
    'exact_match': float(is_right(text, question.answers, question.is_regex)),
    'f1': 0.0 if question.is_regex else f1(text, question.answers),
  }


def _closed_book(
  system: System, asked: Sequence[Question], examples: QAExamples
) -> list[dict[str, Any]]:
  """Fills in the answers without any document."""
  fill = make_fill_in(system.run.model)
  wordpiece = system.corpus.wordpiece
  predictions: list[dict[str, Any]] = []
  for rows in batches_of(len(asked), _BATCH_SIZE):
    batch = closed_book_batch(examples.rows(rows), wordpiece, system.lengths)
    token_ids, _ = fill(system.run.params, batch.joint, batch.mlm_positions)
    for row, ids in zip(rows, np.asarray(token_ids)[:, 0], strict=True):
      if len(predictions) == row:
        question = asked[row]
        text = closed_book_answer(ids, wordpiece)
        predictions.append(
          {
            'question': question.question,
            'answers': list(question.answers),
            'prediction': text,
            **_score(text, question),
          }
        )
  return predictions


def _summarise(predictions: list[dict[str, Any]]) -> dict[str, Any]:
  """Mean and interval of each metric over the questions."""
  values: dict[str, np.ndarray] = {}
  for name in ('exact_match', 'f1'):
    if name in predictions[0]:
      values[name] = np.array([p[name] for p in predictions])
  if 'hits' in predictions[0]:
    hits = np.array([p['hits'] for p in predictions])
    for k in DEFAULT_KS:
      if k <= hits.shape[1]:
        values[f'recall_at_{k}'] = hits_at_k(hits, k).astype(float)
    values['mean_reciprocal_rank'] = reciprocal_ranks(hits)
  return {
    name: {
      'mean': float(array.mean()),
      **dict(zip(('low', 'high'), bootstrap_interval(array)[1:3], strict=True)),
    }
    for name, array in values.items()
  }
