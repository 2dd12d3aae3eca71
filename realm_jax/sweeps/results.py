"""What the cells of a sweep scored: figures, differences, and of what."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from realm_jax.errors import UserError
from realm_jax.eval.intervals import Interval, crossed_interval
from realm_jax.sweeps.cells import PRETRAIN, SweepConfig
from realm_jax.sweeps.measurements import Measurements
from realm_jax.sweeps.stages import CellRun


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
    num_seeds: of which some metric has been measured.
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
  provenance: list[Mapping[str, str]]


def collect(
  runs: Sequence[CellRun], config: SweepConfig, measured: Measurements
) -> list[Row]:
  """The table, of what has been measured so far.

  Args:
    runs: all cells with all seeds.
    config: metrics and reference.
    measured: of these cells.

  Raises:
    UserError: two cells were measured on different questions.
  """
  names = list(dict.fromkeys(run.cell.name for run in runs))
  by_cell = {
    name: _of_cell([r for r in runs if r.cell.name == name], measured)
    for name in names
  }
  reference = config.reference or names[0]
  for name in names:
    _check_same_questions(name, reference, by_cell)
  return [_row(name, by_cell, reference, config.metrics) for name in names]


def _of_cell(runs: Sequence[CellRun], measured: Measurements) -> _Measured:
  found = _Measured({}, [])
  for run in runs:
    for name, stage in run.evaluations.items():
      evaluation = measured.evaluations.get(stage.name)
      if evaluation is None:
        continue
      found.provenance.append(evaluation.provenance)
      for metric, values in evaluation.values.items():
        by_seed = found.values.setdefault(f'{name}/{metric}', {})
        by_seed[run.seed] = values
      # What has been evaluated has been pre-trained to its end.
      if run.pretrained is not None:
        records = measured.records.get(run.pretrained.name, ())
        for recorded, value in _recorded(records).items():
          by_seed = found.values.setdefault(f'{PRETRAIN}/{recorded}', {})
          by_seed[run.seed] = np.zeros(1, np.int64), np.array([value])
  return found


def _check_same_questions(
  cell: str, reference: str, by_cell: Mapping[str, _Measured]
) -> None:
  """Raises UserError where differences would be of different questions."""
  ours, theirs = (
    {one['asked'] for one in by_cell[name].provenance}
    for name in (cell, reference)
  )
  if len(ours | theirs) > 1:
    raise UserError(
      f'Cells {cell!r} and {reference!r} were not all measured on the same '
      'questions with the same answers: they cannot be compared in one sweep.'
    )


def _recorded(records: Sequence[Mapping[str, float]]) -> dict[str, float]:
  """Means over the records of a run, and of seconds the sums."""
  by_name: dict[str, list[float]] = {}
  for record in records:
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
