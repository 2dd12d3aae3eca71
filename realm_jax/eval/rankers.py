"""Ways to find blocks for questions: the retriever, and its rivals."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import QAExamples
from realm_jax.errors import UserError
from realm_jax.eval.dense import dense_retriever
from realm_jax.eval.verdicts import hits
from realm_jax.index.retriever import Retriever
from realm_jax.optional import require
from realm_jax.types import NULL_BLOCK_ID

# rank(rows [batch], k) -> block ids [batch, k] int32, best first, -1 for none.
Ranker = Callable[[np.ndarray, int], np.ndarray]
RANKERS = ('retriever', 'bm25', 'gold', 'random')
_DENSE = 'dense:'


def make_ranker(
  kind: str,
  questions: Sequence[Question],
  examples: QAExamples,
  retriever: Retriever,
  params: Any,
  snapshots: Path,
  seed: int = 0,
) -> Ranker:
  """A ranker over the questions of a file.

  Args:
    kind: 'retriever'; 'bm25'; 'gold', the blocks of the articles that are
      known to state the answer, those that hold it first; 'random' blocks; or
      'dense:' and the folder of a sentence encoder: see eval.dense.
    questions: of the file.
    examples: the same questions as arrays.
    retriever: with its index.
    params: of the model.
    snapshots: where a sentence encoder's embeddings are kept.
    seed: of 'random'.

  Raises:
    UserError: no such kind, or the file does not say which articles are gold.
  """
  corpus = retriever.corpus
  if kind == 'retriever':
    return _retrieved(retriever, params, examples)
  if kind.startswith(_DENSE):
    return _retrieved(
      *dense_retriever(
        kind.removeprefix(_DENSE), corpus, retriever.lengths, snapshots
      ),
      examples,
    )
  if kind == 'bm25':
    return _bm25([question.question for question in questions], corpus)
  if kind == 'gold':
    return _gold(questions, corpus)
  if kind == 'random':
    return lambda rows, k: np.stack(
      [
        np.random.default_rng([seed, int(row)])
        .choice(corpus.num_blocks, k, replace=False)
        .astype(np.int32)
        for row in rows
      ]
    )
  raise UserError(
    f'ranker is {kind!r}, expected one of {", ".join(RANKERS)}, or '
    f'{_DENSE} and the folder of a sentence encoder.'
  )


def _retrieved(
  retriever: Retriever, params: Any, examples: QAExamples
) -> Ranker:
  def rank(rows: np.ndarray, k: int) -> np.ndarray:
    query = retriever.question_inputs(examples.rows(rows))
    return retriever.retrieve(params, query, k).block_ids

  return rank


def _bm25(questions: list[str], corpus: Corpus) -> Ranker:
  bm25s = require('bm25s', 'baselines')
  documents = (
    f'{corpus.title(block_id)} {corpus.text(block_id)}'
    for block_id in range(corpus.num_blocks)
  )
  index = bm25s.BM25()
  index.index(
    bm25s.tokenize(list(documents), stopwords='en', show_progress=False),
    show_progress=False,
  )

  def rank(rows: np.ndarray, k: int) -> np.ndarray:
    tokens = bm25s.tokenize(
      [questions[row] for row in rows], stopwords='en', show_progress=False
    )
    block_ids, _ = index.retrieve(
      tokens, k=min(k, corpus.num_blocks), show_progress=False
    )
    return block_ids.astype(np.int32)

  return rank


def _gold(questions: Sequence[Question], corpus: Corpus) -> Ranker:
  if not any(question.titles for question in questions):
    raise UserError(
      'The question file does not say which articles state the answers (no '
      '"titles"), so the gold documents are not known.'
    )
  by_title: dict[str, list[int]] = {}
  for block_id in range(corpus.num_blocks):
    by_title.setdefault(corpus.title(block_id), []).append(block_id)

  def rank(rows: np.ndarray, k: int) -> np.ndarray:
    block_ids = np.full((len(rows), k), NULL_BLOCK_ID, np.int32)
    for found, row in zip(block_ids, rows, strict=True):
      gold = [
        block_id
        for title in questions[row].titles
        for block_id in by_title.get(title, [])
      ]
      # A reader sees the first few of a long article's blocks only.
      states_answer = hits(corpus, questions[row], np.array(gold, int))
      held = dict(zip(gold, states_answer, strict=True))
      gold.sort(key=lambda block_id: not held[block_id])
      found[: len(gold)] = gold[:k]
    return block_ids

  return rank
