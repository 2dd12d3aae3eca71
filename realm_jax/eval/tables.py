"""One table of systems and metrics: on the screen, in Markdown, in a report."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

from realm_jax.eval.intervals import Interval


@dataclass(frozen=True)
class SummaryRow:
  """What one system scored.

  Attributes:
    system: its name, as the table shows it.
    metrics: name -> its value, with or without an interval. Shares are between
      0 and 1, utilities in nats. A metric that is missing or None shows as a
      dash.
    is_reference: a bound or a control, such as the reader given the right
      document: shown, but never marked as the best.
  """

  system: str
  metrics: Mapping[str, Interval | float | None]
  is_reference: bool = False


class Cell(NamedTuple):
  """One value, ready to show.

  Attributes:
    text: the value; a dash for none.
    interval: 'low to high', or '' where it is not known.
    half_width: '±' and half the width of the interval, or ''.
    is_best: no other row that is not a reference has a higher value.
    bar: (low, mean, high) as shares of the width of a bar from 0 to 1; None for
      what is no share, such as nats. Without an interval all three are equal.
  """

  text: str
  interval: str
  half_width: str
  is_best: bool
  bar: tuple[float, float, float] | None


class Unit(NamedTuple):
  """How a metric is shown.

  Attributes:
    label: its heading, without the unit.
    factor: what values are multiplied by: 100 for shares, which are in percent.
    decimals: after the point.
    name: of the unit.
    is_score: whether the highest value is the best.
  """

  label: str
  factor: float
  decimals: int
  name: str
  is_score: bool = True


_LABELS = {
  'em': 'EM',
  'exact_match': 'EM',
  'span_exact_match': 'span EM',
  'span_em': 'span EM',
  'f1': 'F1',
  'mean_reciprocal_rank': 'MRR',
  'retrieval_utility': 'utility',
}
_NATS = ('retrieval_utility', 'loss')
_SHARES = ('index_overlap', 'source_found', 'distinct_blocks', 'null_mass')


def metric_label(name: str) -> str:
  """How a metric is headed: 'R@5 (%)' for recall_at_5, 'utility (nats)'."""
  unit = metric_unit(name)
  return f'{unit.label} ({unit.name})' if unit.name else unit.label


def metric_unit(name: str) -> Unit:
  """How a metric is shown.

  Args:
    name: 'zero_shot_' may stand before it, or 'pretrain/' before what training
      has recorded.
  """
  if name.startswith('pretrain/'):
    return _training_unit(name.removeprefix('pretrain/'))
  shot = '0-shot ' if name.startswith('zero_shot_') else ''
  name = name.removeprefix('zero_shot_')
  if name in _NATS:
    return Unit(shot + _LABELS.get(name, name), 1, 2, 'nats')
  recall = re.fullmatch(r'recall(?:_at_|@)(\d+)', name)
  label = f'R@{recall[1]}' if recall else _LABELS.get(name, name)
  return Unit(shot + label, 100, 1, '%')


def _training_unit(name: str) -> Unit:
  """Of what training has recorded, which is no score."""
  label = name.replace('_', ' ')
  if name in _SHARES or '_recall@' in name:
    return Unit(label, 100, 1, '%', is_score=False)
  if name.endswith('_seconds'):
    return Unit(label.removesuffix(' seconds'), 1, 1, 's', is_score=False)
  if name == 'index_age':
    return Unit(label, 1, 1, 'steps', is_score=False)
  return Unit(label, 1, 2, '', is_score=False)


def metric_names(rows: Sequence[SummaryRow]) -> list[str]:
  """The metrics of the rows, in the order in which they first appear."""
  return list(dict.fromkeys(name for row in rows for name in row.metrics))


def summary_cells(
  rows: Sequence[SummaryRow], metrics: Sequence[str] | None = None
) -> list[list[Cell]]:
  """The cells of a table: a list a row, a cell a metric.

  Args:
    rows: one a system.
    metrics: which metrics, in which order; all of the rows' by default.
  """
  metrics = metric_names(rows) if metrics is None else metrics
  best = {
    name: max(
      (
        _interval(row, name).mean
        for row in rows
        if not row.is_reference and not math.isnan(_interval(row, name).mean)
      ),
      default=math.nan,
    )
    for name in metrics
  }
  return [
    [_cell(row, name, best[name], len(rows) > 1) for name in metrics]
    for row in rows
  ]


def _interval(row: SummaryRow, name: str) -> Interval:
  value = row.metrics.get(name)
  if isinstance(value, Interval):
    return value
  mean = math.nan if value is None else float(value)
  return Interval(mean, math.nan, math.nan, math.nan, 1)


def _cell(row: SummaryRow, name: str, best: float, compared: bool) -> Cell:
  value = _interval(row, name)
  if math.isnan(value.mean):
    return Cell('—', '', '', False, None)
  unit = metric_unit(name)
  factor, decimals = unit.factor, unit.decimals
  is_share = factor == 100
  known = not (math.isnan(value.low) or math.isnan(value.high))
  low, high = (value.low, value.high) if known else (value.mean, value.mean)
  return Cell(
    text=_number(factor * value.mean, decimals),
    interval=(
      f'{_number(factor * low, decimals)} to {_number(factor * high, decimals)}'
      if known
      else ''
    ),
    half_width=(
      f'±{_number(factor * (high - low) / 2, decimals)}' if known else ''
    ),
    is_best=(
      compared and unit.is_score and not row.is_reference and value.mean == best
    ),
    bar=((_clip(low), _clip(value.mean), _clip(high)) if is_share else None),
  )


def _number(value: float, decimals: int) -> str:
  text = f'{value:.{decimals}f}'
  # No minus at what rounds to zero.
  return text.lstrip('-') if float(text) == 0 else text


def _clip(share: float) -> float:
  return min(max(share, 0.0), 1.0)


def rich_table(
  rows: Sequence[SummaryRow],
  metrics: Sequence[str] | None = None,
  title: str | None = None,
) -> Table:
  """The table for a terminal; the best value of a column is bold.

  To fit, it shows half the width of an interval in place of its ends.

  Args:
    rows: one a system.
    metrics: which metrics, in which order; all of the rows' by default.
    title: printed above it.
  """
  metrics = metric_names(rows) if metrics is None else metrics
  table = Table(title=title, title_justify='left', box=box.SIMPLE_HEAD)
  table.add_column('system', overflow='fold', min_width=14)
  for name in metrics:
    table.add_column(metric_label(name), justify='right')
  for row, cells in zip(rows, summary_cells(rows, metrics), strict=True):
    table.add_row(
      Text(row.system, style='dim' if row.is_reference else ''),
      *(_rich_cell(cell) for cell in cells),
    )
  return table


def _rich_cell(cell: Cell) -> Text:
  return Text.assemble(
    (cell.text, 'bold' if cell.is_best else ''),
    (f' {cell.half_width}' if cell.half_width else '', 'dim'),
  )


def markdown_table(
  rows: Sequence[SummaryRow], metrics: Sequence[str] | None = None
) -> str:
  """The table in Markdown; the best value of a column is bold.

  Args:
    rows: one a system.
    metrics: which metrics, in which order; all of the rows' by default.

  Returns:
    Its lines, with a newline after the last.
  """
  metrics = metric_names(rows) if metrics is None else metrics
  lines = [
    ['system', *(metric_label(name) for name in metrics)],
    ['---', *('---:' for _ in metrics)],
    *(
      [escape_markdown(row.system), *(_markdown_cell(cell) for cell in cells)]
      for row, cells in zip(rows, summary_cells(rows, metrics), strict=True)
    ),
  ]
  return ''.join(f'| {" | ".join(line)} |\n' for line in lines)


def escape_markdown(text: str) -> str:
  """Text that Markdown shows as it is, inside a table."""
  return re.sub(r'([\\`*_|<>\[\]])', r'\\\1', text).replace('\n', ' ')


def _markdown_cell(cell: Cell) -> str:
  text = f'**{cell.text}**' if cell.is_best else cell.text
  return f'{text} ({cell.interval})' if cell.interval else text
