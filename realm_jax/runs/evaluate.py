"""Evaluate a run on a file of questions."""

import dataclasses
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from realm_jax import __version__
from realm_jax.data.closed_book import closed_book_answer, closed_book_batch
from realm_jax.data.qa import Question, load_questions
from realm_jax.data.qa_examples import QAExamples
from realm_jax.data.qa_warnings import checked_examples
from realm_jax.errors import UserError
from realm_jax.eval.answering import Answer, Answerer, batches_of, pad_blocks
from realm_jax.eval.predictions import (
  by_answer_source,
  by_question_type,
  summarise,
)
from realm_jax.eval.rankers import Ranker, make_ranker
from realm_jax.eval.retrieval import DEFAULT_KS
from realm_jax.eval.system import System, open_system
from realm_jax.eval.verdicts import (
  closed_book_prediction,
  hits,
  open_book_prediction,
)
from realm_jax.folders import (
  MANIFEST,
  check_kind,
  file_checksum,
  make_folder,
  write_json,
  write_json_lines,
)
from realm_jax.index.config import IndexConfig
from realm_jax.models.inference import make_fill_in
from realm_jax.predictor import check_num_read

METRICS = 'metrics.json'
PREDICTIONS = 'predictions.jsonl'
_BATCH_SIZE = 32


def evaluate(
  run: str,
  questions: str,
  out: str,
  *,
  corpus: str | None = None,
  ranker: str = 'retriever',
  num_read: int = 5,
  max_questions: int | None = None,
  index: IndexConfig | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Measures retrieval and answers.

  What has been measured already, of the same inputs, is not measured again.

  Args:
    run: folder of a finished run: fine-tuned for answers, closed-book, or any
      other for retrieval alone.
    questions: file of questions with answers.
    out: folder for metrics.json and predictions.jsonl.
    corpus: folder of the corpus to search; None for the run's.
    ranker: how blocks are found: see eval.rankers.
    num_read: blocks that the reader sees, 1 to the number of blocks.
    max_questions: only the first so many, at least 1.
    index: what to search with.
    console: where to print; None for the terminal.

  Returns:
    What metrics.json holds: each metric's mean and 95 % bootstrap interval over
    the questions that have it, of all and in groups (see eval.predictions), and
    what it was measured with. Of answers: exact_match, the official verdict;
    span_exact_match, by wordpieces, as ORQA's code measures in training;
    reader_oracle, whether a right span was there to read; f1 (but of regular
    expressions, regex_search: found anywhere in the answer);
    retrieval_utility, the mean over the documents read, in nats, as
    eval.answering.Document has it; answer_probability, the mean, and
    expected_calibration_error, by how far it misses the share that is right.
    Of documents: recall_at_k, mean_reciprocal_rank, among the 100 best.

  Raises:
    FileNotFoundError: a folder or file is missing.
    UserError: the run, corpus and questions do not go together, a number is
      out of its range, or out is a folder of something else.
  """
  if max_questions is not None and max_questions < 1:
    raise UserError(
      f'max_questions is {max_questions}, expected at least 1: of no questions '
      'nothing can be measured. Leave --max-questions away for all.'
    )
  check_kind(Path(out), 'evaluation')
  loaded = load_questions(questions)
  asked = loaded[:max_questions]
  system = open_system(run, corpus, index)
  closed_book = system.run.stage == 'closed_book'
  if ranker == 'retriever' and not (closed_book or system.run.finds_blocks):
    raise UserError(
      f'Run {run} has no trained embedder, and would find blocks at random. '
      'Import one beside it, train it, or give another --ranker.'
    )
  if not closed_book:
    check_num_read(num_read, system.corpus)
  inputs = {
    **_inputs(system, questions, max_questions),
    'ranker': 'none' if closed_book else ranker,
    'index': dataclasses.asdict(index or IndexConfig()),
    'num_read': num_read if system.run.reads_spans else None,
  }
  if measured := _measured_already(Path(out), inputs):
    return _shown(measured, out, console)
  examples = checked_examples(
    questions,
    loaded,
    asked,
    system.corpus.wordpiece,
    system.lengths,
    functools.partial(
      (console or Console()).print, style='yellow', markup=False
    ),
  )
  rank = None
  if not closed_book:
    rank = make_ranker(
      ranker,
      asked,
      examples,
      system.retriever,
      system.run.params,
      system.run.path / 'index',
    )
  folder = make_folder(out)
  # From here on the folder is not whole, until metrics.json is there again.
  (folder / METRICS).unlink(missing_ok=True)
  if rank is None:
    predictions = _closed_book(system, asked, examples)
  else:
    predictions = _open_book(system, asked, examples, rank, num_read)
  write_json_lines(folder / PREDICTIONS, predictions)
  metrics = {
    'metrics': summarise(predictions),
    'by_question_type': by_question_type(predictions),
    'by_answer_source': by_answer_source(predictions),
    'num_questions': len(asked),
    'run': str(run),
    'questions': str(questions),
    **inputs,
  }
  write_json(folder / METRICS, metrics)
  return _shown(metrics, out, console)


def _shown(
  metrics: dict[str, Any], out: str, console: Console | None
) -> dict[str, Any]:
  """Prints the figures, and returns them."""
  console = console or Console()
  table = Table(title=f'{metrics["num_questions"]} questions')
  for name in ('metric', 'mean', '95 % interval'):
    table.add_column(name, justify='left' if name == 'metric' else 'right')
  for name, value in metrics['metrics'].items():
    interval = f'{value["low"]:.3f} to {value["high"]:.3f}'
    table.add_row(name, f'{value["mean"]:.3f}', interval)
  console.print(table)
  for title, name in (
    ('type of question', 'by_question_type'),
    ('answer read in', 'by_answer_source'),
  ):
    if metrics.get(name):
      console.print(_groups(title, metrics[name]))
  console.print(f'Figures and predictions: {out}')
  return metrics


def _groups(title: str, groups: dict[str, dict[str, Any]]) -> Table:
  """Means of groups of questions."""
  # A group has not all: expressions have no F1.
  names = dict.fromkeys(n for values in groups.values() for n in values)
  del names['num_questions']
  table = Table(title)
  for name in ('questions', *names):
    table.add_column(name, justify='right')
  for group, values in groups.items():
    means = [f'{values[n]["mean"]:.3f}' if n in values else '' for n in names]
    table.add_row(group, str(values['num_questions']), *means)
  return table


def _inputs(
  system: System, questions: str, max_questions: int | None
) -> dict[str, Any]:
  """What the figures depend on, but for how documents are found and read."""
  return {
    'run_manifest_sha256': file_checksum(system.run.path / MANIFEST),
    'stage': system.run.stage,
    'step': system.run.num_steps,
    'questions_sha256': file_checksum(Path(questions)),
    'max_questions': max_questions,
    'corpus_fingerprint': system.corpus.fingerprint,  # and of the index
    'realm_jax': __version__,
  }


def _measured_already(
  folder: Path, inputs: dict[str, Any]
) -> dict[str, Any] | None:
  """What metrics.json holds, if the folder is whole and of these inputs."""
  path = folder / METRICS
  if not (path.is_file() and (folder / PREDICTIONS).is_file()):
    return None
  try:
    metrics = json.loads(path.read_text(encoding='utf-8'))
  except ValueError:
    return None  # damaged: measured again
  if not isinstance(metrics, dict):
    return None
  same = all(metrics.get(name) == value for name, value in inputs.items())
  return metrics if same else None


def _open_book(
  system: System,
  asked: Sequence[Question],
  examples: QAExamples,
  rank: Ranker,
  num_read: int,
) -> list[dict[str, Any]]:
  """Retrieves for every question; reads if the run was fine-tuned."""
  num_ranked = min(max(num_read, *DEFAULT_KS), system.corpus.num_blocks)
  answerer = Answerer(system.run.model, system.retriever)
  predictions: list[dict[str, Any]] = []
  for rows in batches_of(len(asked), _BATCH_SIZE):
    block_ids = rank(rows, num_ranked)
    if system.run.reads_spans:
      answers: Sequence[Answer | None] = answerer.answer(
        system.run.params,
        examples.rows(rows),
        pad_blocks(block_ids, num_read),
      )
    else:
      answers = [None] * len(rows)
    for row, found, answer in zip(rows, block_ids, answers, strict=True):
      if len(predictions) == row:  # not a repetition that filled the batch
        # However many were read, the same number is judged.
        judged = hits(system.corpus, asked[row], found[: max(DEFAULT_KS)])
        predictions.append(open_book_prediction(asked[row], answer, judged))
  return predictions


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
        text = closed_book_answer(ids, wordpiece)
        predictions.append(closed_book_prediction(asked[row], text))
  return predictions
