"""The table of a sweep, as Markdown, CSV and LaTeX."""

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence

from realm_jax.eval.intervals import Interval
from realm_jax.eval.tables import (
  SummaryRow,
  escape_markdown,
  metric_label,
  metric_unit,
)
from realm_jax.sweeps.cells import SweepConfig
from realm_jax.sweeps.results import Figure, Row

_CSV_COLUMNS = (
  'cell',
  'metric',
  'num_seeds',
  'mean',
  'standard_deviation',
  'low',
  'high',
  'difference',
  'difference_low',
  'difference_high',
  'corpus',
  'questions',
  'index',
)


def metric_key(metric: str) -> str:
  """A metric as eval.tables names it: 'zero_shot_recall_at_5'."""
  if metric.startswith('start/'):
    return f'zero_shot_{metric.removeprefix("start/")}'
  return metric.removeprefix('final/')


def _heading(metric: str) -> str:
  return metric_label(metric_key(metric))


def _formatter(metric: str) -> Callable[..., str]:
  """format(value, sign): a value of a metric in its unit; sign may be '+'."""
  unit = metric_unit(metric_key(metric))
  return lambda value, sign='': f'{unit.factor * value:{sign}.{unit.decimals}f}'


def markdown(
  rows: Sequence[Row], config: SweepConfig, made_with: Mapping[str, str]
) -> str:
  """The table with its provenance.

  A cell is 'mean ± standard deviation (95 % interval)'; in the column after
  it, the difference to the reference with its interval.

  Args:
    rows: as results.collect gives them.
    config: which metrics.
    made_with: as results.measured_with gives it.
  """
  heads = ['cell', 'seeds']
  for metric in config.metrics:
    heads += [_heading(metric), 'difference']
  lines = [heads, ['---', *('---:' for _ in heads[1:])]]
  for row in rows:
    line = [escape_markdown(row.cell), str(row.num_seeds)]
    for metric in config.metrics:
      line += _texts(row.figures.get(metric), metric, row.num_seeds)
    lines.append(line)
  table = ''.join(f'| {" | ".join(line)} |\n' for line in lines)
  provenance = _provenance(rows, made_with, escape_markdown)
  return f'{table}\n{_notes(rows, config)}\n\n{provenance}'


def _texts(figure: Figure | None, metric: str, num_seeds: int) -> list[str]:
  """Value and difference, as Markdown; tells of fewer seeds than the row's."""
  if figure is None:
    return ['—', '']
  number = _formatter(metric)
  low, high = number(figure.interval.low), number(figure.interval.high)
  text = number(figure.interval.mean)
  if not math.isnan(figure.deviation):
    text += f' ± {number(figure.deviation)}'
  text += f' ({low} to {high})'
  if len(figure.by_seed) < num_seeds:
    text += f', seeds: {len(figure.by_seed)}'
  difference = figure.difference
  if difference is None:
    return [text, '']
  of_difference = (
    f'{number(difference.mean, "+")} ({number(difference.low, "+")} to '
    f'{number(difference.high, "+")})'
  )
  return [
    text,
    f'**{of_difference}**' if _is_sure(difference) else of_difference,
  ]


def _is_sure(difference: Interval) -> bool:
  """Whether the interval leaves out 0."""
  return difference.low > 0 or difference.high < 0


def _notes(rows: Sequence[Row], config: SweepConfig) -> str:
  reference = config.reference or rows[0].cell
  seeds = ', '.join(map(str, config.seeds))
  text = (
    f'Mean ± standard deviation over the seeds ({seeds}); in brackets the 95 % '
    'interval, bootstrapped over seeds and questions. Differences are to '
    f'{escape_markdown(reference)}, paired by seed and question, bold where '
    'their interval leaves out 0.'
  )
  if any(metric.startswith('start/') for metric in config.metrics):
    text += ' Zero-shot: before fine-tuning.'
  return text


def report_notes(
  rows: Sequence[Row], config: SweepConfig, made_with: Mapping[str, str]
) -> list[str]:
  """What the report says below its table: see summary_rows."""
  seeds = ', '.join(map(str, config.seeds))
  reference = config.reference or rows[0].cell
  return [
    f'Means over the seeds ({seeds}) with the 95 % interval, bootstrapped over '
    f'seeds and questions; below them the differences to {reference}, paired '
    'by seed and question. 0-shot: before fine-tuning. Bands in the curves are '
    'from the least to the greatest of the seeds.',
    _provenance(rows, made_with),
  ]


def _provenance(
  rows: Sequence[Row],
  made_with: Mapping[str, str],
  escape: Callable[[str], str] = str,
) -> str:
  """Hashes that all rows share once, the others by row; versions."""
  shared, differing = {}, []
  measured = [row for row in rows if row.fingerprints]
  for name in ('corpus', 'questions', 'index'):
    values = {row.fingerprints[name] for row in measured}
    if len(values) == 1:
      shared[name] = values.pop()
    elif values:
      by_row = ', '.join(
        f'{escape(row.cell)} {row.fingerprints[name]}' for row in measured
      )
      differing.append(f'{name.capitalize()}: {by_row}.')
  same = ', '.join(f'{k} {v}' for k, v in {**shared, **made_with}.items())
  return '\n'.join([f'Made with {same}.', *differing]) + '\n'


def comma_separated(rows: Sequence[Row], config: SweepConfig) -> str:
  """A line a cell and metric, numbers unrounded, shares from 0 to 1."""
  stream = io.StringIO()
  writer = csv.writer(stream, lineterminator='\n')
  writer.writerow(_CSV_COLUMNS)
  for row in rows:
    for metric in config.metrics:
      figure = row.figures.get(metric)
      if figure is None:
        continue
      interval, difference = figure.interval, figure.difference
      numbers = [interval.mean, figure.deviation, interval.low, interval.high]
      if difference is not None:
        numbers += [difference.mean, difference.low, difference.high]
      texts = ['' if math.isnan(n) else repr(n) for n in numbers]
      writer.writerow(
        [
          row.cell,
          metric,
          len(figure.by_seed),
          *texts,
          *([''] * (7 - len(texts))),
          *(row.fingerprints[n] for n in ('corpus', 'questions', 'index')),
        ]
      )
  return stream.getvalue()


def latex(
  rows: Sequence[Row], config: SweepConfig, made_with: Mapping[str, str]
) -> str:
  """A tabular for the package booktabs: mean ± deviation, and difference."""
  columns = 'l' + 'rr' * len(config.metrics)
  heads = ['']
  for metric in config.metrics:
    heads += [_escape_latex(_heading(metric)), r'$\Delta$ (95\,\%)']
  lines = [
    *(f'% {line}' for line in _provenance(rows, made_with).splitlines()),
    rf'\begin{{tabular}}{{{columns}}}',
    r'\toprule',
    ' & '.join(heads) + r' \\',
    r'\midrule',
  ]
  for row in rows:
    texts = [_escape_latex(row.cell)]
    for metric in config.metrics:
      texts += _latex_texts(row.figures.get(metric), metric)
    lines.append(' & '.join(texts) + r' \\')
  return '\n'.join([*lines, r'\bottomrule', r'\end{tabular}', ''])


def _latex_texts(figure: Figure | None, metric: str) -> list[str]:
  if figure is None:
    return ['--', '']
  number = _formatter(metric)
  value = number(figure.interval.mean)
  if not math.isnan(figure.deviation):
    value += rf' \pm {number(figure.deviation)}'
  difference = figure.difference
  if difference is None:
    return [f'${value}$', '']
  ends = f'{number(difference.low, "+")}, {number(difference.high, "+")}'
  text = rf'{number(difference.mean, "+")}\;[{ends}]'
  if _is_sure(difference):
    text = rf'\mathbf{{{number(difference.mean, "+")}}}\;[{ends}]'
  return [f'${value}$', f'${text}$']


def _escape_latex(text: str) -> str:
  special = {'\\': r'\textbackslash{}', '~': r'\textasciitilde{}'}
  special |= {'^': r'\textasciicircum{}'}
  return re.sub(
    r'[\\~^&%$#_{}]', lambda m: special.get(m[0], '\\' + m[0]), text
  )


def summary_rows(rows: Sequence[Row], config: SweepConfig) -> list[SummaryRow]:
  """The table of the report: the cells, then their differences."""
  reference = config.reference or rows[0].cell
  values = [
    SummaryRow(
      row.cell,
      {
        metric_key(metric): figure.interval
        for metric in config.metrics
        if (figure := row.figures.get(metric))
      },
    )
    for row in rows
  ]
  differences = [
    SummaryRow(
      f'{row.cell} over {reference}',
      {
        metric_key(metric): figure.difference
        for metric in config.metrics
        if (figure := row.figures.get(metric)) and figure.difference
      },
      is_reference=True,
    )
    for row in rows
    if row.cell != reference and row.figures
  ]
  return values + differences
