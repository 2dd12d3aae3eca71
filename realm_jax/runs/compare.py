"""Compare two evaluations of the same questions."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from realm_jax.errors import UserError
from realm_jax.eval.comparison import (
  Comparison,
  check_same_questions,
  compare_values,
)
from realm_jax.eval.predictions import read_predictions, values_of

_COLUMNS = ('A', 'B', 'A - B', '95 % interval', 'p', 'A/B wins')
_SURE = 0.05  # a p-value below it


def compare(
  a: str,
  b: str,
  *,
  metrics: Sequence[str] = (),
  as_json: bool = False,
  console: Console | None = None,
) -> dict[str, Any]:
  """Says by how much A is better than B, and how sure that is.

  Args:
    a: folder of an evaluation, or its predictions.jsonl.
    b: another, of the same questions.
    metrics: which to compare; all that both have if empty.
    as_json: print JSON in place of a table.
    console: where to print; None for the terminal.

  Returns:
    Metric -> the fields of Comparison.

  Raises:
    FileNotFoundError: there is no such evaluation.
    UserError: they are of different questions, or a metric is not in both.
  """
  console = console or Console()
  of_a, of_b = read_predictions(a), read_predictions(b)
  check_same_questions(of_a, of_b)
  values_a, values_b = values_of(of_a), values_of(of_b)
  shared = {
    name: _paired(values_a[name], values_b[name])
    for name in values_a
    if name in values_b
  }
  shared = {name: pair for name, pair in shared.items() if len(pair[0])}
  if not shared:
    raise UserError(
      f'{a} and {b} have no metric in common, expected what realm-jax evaluate '
      'writes. Predictions without metrics are for realm-jax score.'
    )
  unknown = [name for name in metrics if name not in shared]
  if unknown:
    raise UserError(
      f'{", ".join(unknown)} is not in both evaluations, expected some of '
      f'{", ".join(shared)}.'
    )
  found = {name: compare_values(*shared[name]) for name in (metrics or shared)}
  if as_json:
    console.out(json.dumps(_as_json(found)), highlight=False)
  else:
    _show(found, a, b, console)
  return _as_json(found)


def _paired(
  a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """The values of the questions for which both have the metric."""
  _, in_a, in_b = np.intersect1d(a[0], b[0], return_indices=True)
  return a[1][in_a], b[1][in_b]


def _as_json(found: dict[str, Comparison]) -> dict[str, Any]:
  return {
    name: {**one._asdict(), 'difference': one.difference._asdict()}
    for name, one in found.items()
  }


def _show(
  found: dict[str, Comparison], a: str, b: str, console: Console
) -> None:
  console.print(f'A: {a}\nB: {b}', markup=False, highlight=False)
  # Narrow: all of it goes into 80 columns.
  table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
  table.add_column('metric', no_wrap=True)
  for name in _COLUMNS:
    table.add_column(name, justify='right')
  for name, one in found.items():
    difference = one.difference
    table.add_row(
      name,
      f'{one.a:.3f}',
      f'{one.b:.3f}',
      f'{difference.mean:+.3f}',
      f'{difference.low:+.3f}..{difference.high:+.3f}',
      '< 1e-4' if one.p_value < 1e-4 else f'{one.p_value:.2g}',
      f'{one.num_a_better}/{one.num_b_better}',
    )
  console.print(table)
  console.print(_verdict(found), highlight=False)
  if len(found) > 1:
    console.print(
      f'The p-values are not corrected for there being {len(found)} of them.'
    )


def _verdict(found: dict[str, Comparison]) -> str:
  """Which is better in what, a line for each of A, B and neither."""
  better: dict[str, list[str]] = {'A is': [], 'B is': [], 'Neither is': []}
  for name, one in found.items():
    if one.p_value >= _SURE:
      side = 'Neither is'
    else:
      side = 'A is' if one.difference.mean > 0 else 'B is'
    better[side].append(name)
  because = f' (p < {_SURE})'
  by_chance = ' beyond what the choice of questions explains'
  return '\n'.join(
    f'{side} better in {", ".join(names)}'
    f'{by_chance if side == "Neither is" else because}.'
    for side, names in better.items()
    if names
  )
