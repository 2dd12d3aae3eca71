"""What the cells of a sweep scored: figures, differences, and of what."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realm_jax import eval as eval_package
from realm_jax.eval.comparison import check_same_questions
from realm_jax.eval.intervals import Interval, crossed_interval
from realm_jax.eval.predictions import read_predictions, values_of
from realm_jax.folders import MANIFEST, package_versions, read_json
from realm_jax.sweeps.cells import EVALUATIONS, PRETRAIN, SweepConfig
from realm_jax.sweeps.stages import CellRun, Stage
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import index_folder

# What a metric's value depends on, in realm_jax/eval.
_METRIC_SOURCES = (
  'answers.py',
  'predictions.py',
  'retrieval.py',
  'verdicts.py',
)


class Figure(NamedTuple):
  """One metric of one cell.

  Attributes:
    interval: mean over seeds and questions, 95 %: intervals.crossed_interval.
    deviation: standard deviation over the seeds; NaN of one.
    by_seed: seed -> mean over the questions.
    difference: to the reference cell, over the seeds and questions that both
      have; None of the reference itself.
  """

  interval: Interval
  deviation: float
  by_seed: Mapping[int, float]
  difference: Interval | None


class Row(NamedTuple):
  """A line of the table.

  Attributes:
    cell: its name.
    num_seeds: that have been measured.
    figures: metric -> Figure; what no seed has is not there.
    fingerprints: what it was measured with, the same for the same.
  """

  cell: str
  num_seeds: int
  figures: Mapping[str, Figure]
  fingerprints: Mapping[str, str]


# seed -> question rows and their values
BySeed = Mapping[int, tuple[np.ndarray, np.ndarray]]


class _Measured(NamedTuple):
  """Of a cell: metric -> seed -> values; and what each evaluation read."""

  values: dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]
  provenance: list[dict[str, str]]
  questions: dict[str, list[dict[str, Any]]]


def collect(
  runs: Sequence[CellRun], config: SweepConfig, stages: Path
) -> list[Row]:
  """The table, of what has been measured so far.

  Args:
    runs: all cells with all seeds.
    config: metrics and reference.
    stages: folder of all stages.

  Raises:
    UserError: two cells were measured on different questions.
  """
  names = list(dict.fromkeys(run.cell.name for run in runs))
  measured = {
    name: _measure([r for r in runs if r.cell.name == name], stages)
    for name in names
  }
  reference = config.reference or names[0]
  for name in names:
    for evaluation in EVALUATIONS:
      ours, theirs = (
        measured[n].questions.get(evaluation) for n in (name, reference)
      )
      if ours and theirs:
        check_same_questions(ours, theirs)
  return [_row(name, measured, reference, config.metrics) for name in names]


def _measure(runs: Sequence[CellRun], stages: Path) -> _Measured:
  measured = _Measured({}, [], {})
  for run in runs:
    for evaluation, stage in run.evaluations.items():
      folder = stage.folder(stages)
      if not (folder / 'metrics.json').is_file():
        continue
      predictions = read_predictions(folder)
      measured.provenance.append(_provenance(stage, folder, stages))
      measured.questions.setdefault(evaluation, predictions)
      for metric, values in values_of(predictions).items():
        by_seed = measured.values.setdefault(f'{evaluation}/{metric}', {})
        by_seed[run.seed] = values
      # What has been evaluated has been pre-trained to its end.
      if run.pretrained is not None:
        for name, value in _recorded(run.pretrained.folder(stages)).items():
          by_seed = measured.values.setdefault(f'{PRETRAIN}/{name}', {})
          by_seed[run.seed] = np.zeros(1, np.int64), np.array([value])
  return measured


def _recorded(run: Path) -> dict[str, float]:
  """Means over the records of a run, and of seconds the sums."""
  by_name: dict[str, list[float]] = {}
  for record in read_metrics(run):
    for name, value in record.items():
      if math.isfinite(value):
        by_name.setdefault(name, []).append(value)
  return {
    name: math.fsum(values) / (1 if name.endswith('_seconds') else len(values))
    for name, values in by_name.items()
  }


def _row(
  name: str,
  measured: Mapping[str, _Measured],
  reference: str,
  metrics: Sequence[str],
) -> Row:
  own, other = measured[name], measured[reference]
  figures = {
    metric: figure_of(
      own.values[metric],
      other.values.get(metric, {}) if name != reference else None,
    )
    for metric in metrics
    if own.values.get(metric)
  }
  seeds = {seed for metric in metrics for seed in own.values.get(metric, {})}
  return Row(
    name,
    len(seeds),
    figures,
    _fingerprints(own.provenance),
  )


def figure_of(own: BySeed, other: BySeed | None) -> Figure:
  """A metric of one system.

  Args:
    own: seed -> the questions that have the metric, and their values.
    other: of the system that it is compared with; None for no comparison.
  """
  by_seed = {seed: float(v.mean()) for seed, (_, v) in sorted(own.items())}
  means = list(by_seed.values())
  return Figure(
    crossed_interval(_matrix(own, sorted(own))),
    float(np.std(means, ddof=1)) if len(means) > 1 else math.nan,
    by_seed,
    None if other is None else _difference(own, other),
  )


def _difference(own: BySeed, other: BySeed) -> Interval | None:
  """Seed by seed and question by question; None where there is no pair."""
  seeds = sorted(own.keys() & other.keys())
  if not seeds:
    return None
  both = {
    **{(0, seed): own[seed] for seed in seeds},
    **{(1, seed): other[seed] for seed in seeds},
  }
  matrix = _matrix(both, list(both))
  return crossed_interval(matrix[: len(seeds)] - matrix[len(seeds) :])


def _matrix(by_key: Mapping[Any, Any], keys: Sequence[Any]) -> np.ndarray:
  """[keys, questions that all have]; the values of each."""
  rows = by_key[keys[0]][0]
  for key in keys:
    rows = np.intersect1d(rows, by_key[key][0])
  return np.stack(
    [
      values[np.searchsorted(own_rows, rows)]
      for own_rows, values in (by_key[key] for key in keys)
    ]
  )


def _provenance(stage: Stage, folder: Path, stages: Path) -> dict[str, str]:
  """What an evaluation searched, and with which questions and settings."""
  metrics = read_json(folder / 'metrics.json')
  corpus = metrics['corpus_fingerprint']
  run = stage.inputs['run'].folder(stages)
  snapshot = index_folder(run, corpus) / MANIFEST
  embeds = (
    read_json(snapshot)['params_fingerprint'] if snapshot.is_file() else ''
  )
  return {
    'corpus': corpus,
    'questions': metrics['questions_sha256'],
    'index': json.dumps([embeds, corpus, metrics['index']], sort_keys=True),
  }


def _fingerprints(provenance: Sequence[Mapping[str, str]]) -> dict[str, str]:
  """Of corpora, questions, and vectors with how they are searched."""
  return {
    name: _short({one[name] for one in provenance})
    for name in ('corpus', 'questions', 'index')
    if provenance
  }


def _short(values: set[str]) -> str:
  """A single value's beginning, or that of the hash of several."""
  if len(values) == 1 and len(value := next(iter(values))) == 64:
    return value[:12]
  text = '\n'.join(sorted(values))
  return hashlib.sha256(text.encode()).hexdigest()[:12]


def measured_with() -> dict[str, str]:
  """Package versions, and a hash of the code of the metrics."""
  digest = hashlib.sha256()
  for name in _METRIC_SOURCES:
    digest.update((Path(eval_package.__path__[0]) / name).read_bytes())
  return {'metrics': digest.hexdigest()[:12], **package_versions()}
