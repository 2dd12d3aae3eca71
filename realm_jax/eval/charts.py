"""Curves over training steps, as SVG that takes its colours from the page.

A chart is drawn in stand-in colours, which are then replaced by the CSS
variables --ink, --grid and --series-1 to --series-8: the page sets them, once
for a light and once for a dark screen. Runs also differ in dashes and markers,
so that they can be told apart without colours. The same charts can be saved as
files of their own, in fixed colours.
"""

import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from realm_jax.optional import require

NUM_SERIES = 8


class _Palette(NamedTuple):
  """Colours of a chart: of text, of lines behind the curves, of the curves."""

  ink: str
  grid: str
  series: tuple[str, ...]


_STAND_INS = _Palette(
  '#fe00a0', '#fe00a1', tuple(f'#fe01{i:02x}' for i in range(NUM_SERIES))
)
# Those of the report on a light screen.
_ON_PAPER = _Palette(
  '#1d2329',
  '#e0e3e6',
  (
    '#0072b2',
    '#d55e00',
    '#009e73',
    '#8a6d00',
    '#b3508a',
    '#3d4a57',
    '#7a3b12',
    '#4f9aa0',
  ),
)
# (dashes in line widths, marker) by series.
_STYLES = (
  ((1, 0), 'o'),
  ((4, 1.6), 's'),
  ((1.2, 1.4), '^'),
  ((5, 1.5, 1.2, 1.5), 'D'),
  ((2.4, 1.2), 'v'),
  ((7, 2), 'X'),
  ((2, 3), 'P'),
  ((3, 1, 1, 1, 1, 1), '>'),
)
# More points than this are averaged: a line cannot show them; and of several
# lines with bands, a batch's noise would hide one behind the other.
_MAX_POINTS, _MAX_BAND_POINTS = 100, 20


@dataclass(frozen=True)
class Curve:
  """One quantity of one run over its training steps.

  Attributes:
    quantity: what was measured, by its name in metrics.jsonl. Curves of the
      same quantity share a chart.
    run: whose it is, as the legend names it.
    steps: [num_points] increasing.
    values: [num_points]; NaN leaves a gap.
    band: two of [num_points]: from where to where it went in several runs of
      which the values are the mean; empty for none.
  """

  quantity: str
  run: str
  steps: Sequence[float]
  values: Sequence[float]
  band: Sequence[Sequence[float]] = ()

  def __post_init__(self):
    for line in (self.values, *self.band):
      if len(self.steps) != len(line):
        raise ValueError(
          f'{self.quantity} of {self.run} has {len(self.steps)} steps and '
          f'{len(line)} values, expected as many.'
        )


@dataclass(frozen=True)
class Quantity:
  """How a quantity is headed and drawn.

  Attributes:
    title: above the chart.
    unit: what a value means.
    is_share: between 0 and 1, so the axis shows that whole range in percent.
  """

  title: str
  unit: str
  is_share: bool = False


QUANTITIES = {
  'loss': Quantity('Loss', 'nats, lower is better'),
  'retrieval_utility': Quantity(
    'Retrieval utility', 'nats a masked token, over no document'
  ),
  'retrieval_entropy': Quantity(
    'Entropy of p(z given x)', 'nats; 0 where one document has it all'
  ),
  'index_age': Quantity('Index age', 'steps since the snapshot in use'),
  **{
    f'gradient_norm/{part}': Quantity(
      f'Gradient norm, {part.replace("_", " ")}', 'of the loss, before clipping'
    )
    for part in ('query_tower', 'document_tower', 'projections', 'reader')
  },
}


def describe(quantity: str) -> Quantity:
  """The heading of a quantity; one that is not known is headed by its name."""
  recall = re.fullmatch(r'probe_recall@(\d+)', quantity)
  if recall:
    return Quantity(
      f'Probe recall at {recall[1]}',
      f'questions with an answer in {recall[1]} documents',
      is_share=True,
    )
  return QUANTITIES.get(quantity, Quantity(quantity, ''))


def curves_from_records(
  runs: Mapping[str, Sequence[Mapping[str, float]]],
  quantities: Sequence[str] = (
    'probe_recall@5',
    'loss',
    'retrieval_utility',
    'index_age',
  ),
) -> list[Curve]:
  """Curves of what runs recorded, a quantity after another.

  Args:
    runs: name -> the records of its metrics.jsonl, each with 'step' and some of
      the quantities. Of records of the same step, as a resumed run may leave
      them, the last counts.
    quantities: which, in which order.

  Returns:
    A Curve a quantity and run; none where a run never recorded the quantity.
  """
  curves = []
  for quantity in quantities:
    for run, records in runs.items():
      values = {
        record['step']: record[quantity]
        for record in records
        if 'step' in record and record.get(quantity) is not None
      }
      if values:
        steps = sorted(values)
        curves.append(
          Curve(quantity, run, steps, [values[step] for step in steps])
        )
  return curves


def bands_from_records(
  cells: Mapping[str, Sequence[Sequence[Mapping[str, float]]]],
  quantities: Sequence[str],
) -> list[Curve]:
  """Curves of the means over runs of the same kind, with bands.

  Args:
    cells: name -> the records of each of its runs, as curves_from_records has
      them.
    quantities: which, in which order.

  Returns:
    A Curve a quantity and cell, of the steps that all its runs recorded, means
    over equal stretches where those are many; the band is from the least to
    the greatest of the runs, none of a single run.
  """
  curves = []
  for quantity in quantities:
    for cell, records in cells.items():
      runs = curves_from_records(
        {str(number): one for number, one in enumerate(records)}, [quantity]
      )
      if not runs:
        continue
      steps = sorted(set.intersection(*(set(run.steps) for run in runs)))
      if not steps:
        continue
      by_step = [dict(zip(run.steps, run.values, strict=True)) for run in runs]
      thinned = [
        _thinned(steps, [values[step] for step in steps], _MAX_BAND_POINTS)
        for values in by_step
      ]
      points = thinned[0][0].tolist()
      lines = np.stack([line for _, line in thinned])  # [num_runs, num_points]
      band = (lines.min(axis=0), lines.max(axis=0)) if len(runs) > 1 else ()
      curves.append(Curve(quantity, cell, points, lines.mean(axis=0), band))
  return curves


def last_value(curve: Curve) -> str:
  """The last value of a curve, in the form its chart shows; '' of none."""
  values = np.asarray(curve.values, np.float64)
  finite = values[np.isfinite(values)]
  if finite.size == 0:
    return ''
  if describe(curve.quantity).is_share:
    return f'{100 * finite[-1]:.1f} %'
  value = finite[-1]
  return f'{value:.0f}' if value == round(value) else f'{value:.3g}'


def draw_chart(curves: Sequence[Curve], series: Mapping[str, int]) -> str:
  """Draws curves of one quantity.

  Args:
    curves: of one quantity, a run each.
    series: run -> its number, from 0: the same run looks the same in every
      chart.

  Returns:
    An <svg> element to stand inside an HTML page.

  Raises:
    ImportError: matplotlib is not installed; it comes with the extra `report`.
  """
  stream = io.StringIO()
  _figure(
    curves,
    series,
    _STAND_INS,
    lambda figure, _: figure.savefig(stream, format='svg', transparent=True),
  )
  return _for_page(stream.getvalue(), _in_words(curves))


def save_chart(
  curves: Sequence[Curve], series: Mapping[str, int], path: Path
) -> None:
  """Saves a chart with its title and legend as path.png and path.svg.

  Args:
    curves: of one quantity, a run each.
    series: as draw_chart has it.
    path: without an ending; its folder must exist.

  Raises:
    ImportError: matplotlib is not installed; it comes with the extra `report`.
  """

  def save(figure, axes) -> None:
    quantity = describe(curves[0].quantity)
    unit = f' ({quantity.unit})' if quantity.unit else ''
    axes.set_title(quantity.title + unit, fontsize=9, loc='left')
    figure.legend(
      loc='outside lower left', ncols=2, frameon=False, handlelength=4
    )
    figure.set_size_inches(4.8, 2.6 + 0.2 * ((len(curves) + 1) // 2))
    # Without the date, the same curves are the same file.
    figure.savefig(path.with_suffix('.svg'), metadata={'Date': None})
    figure.savefig(path.with_suffix('.png'), dpi=160)

  _figure(curves, series, _ON_PAPER, save)


def _figure(
  curves: Sequence[Curve],
  series: Mapping[str, int],
  palette: _Palette,
  save: Callable[[Any, Any], None],
) -> None:
  """Draws curves of one quantity and hands figure and axes to `save`."""
  matplotlib = require('matplotlib', 'report')
  figures = require('matplotlib.figure', 'report')
  quantity = curves[0].quantity
  settings = {
    'svg.fonttype': 'none',  # text stays text, in the page's font
    'svg.hashsalt': quantity,
    'font.size': 9,
    'text.parse_math': False,
  }
  with matplotlib.rc_context(settings):
    figure = figures.Figure(figsize=(4.8, 2.6), layout='constrained')
    axes = figure.add_subplot()
    _dress(axes, describe(quantity), palette)
    for curve in curves:
      _draw(axes, curve, series[curve.run], palette)
    save(figure, axes)


def legend_sample(series: int) -> str:
  """An <svg> element that shows the line of a run, for a legend."""
  dashes, marker = _STYLES[series % NUM_SERIES]
  colour = f'var(--series-{series % NUM_SERIES + 1})'
  shapes = {
    'o': '<circle cx="16" cy="6" r="3.4"/>',
    's': '<rect x="13" y="3" width="6" height="6"/>',
    '^': '<path d="M16 1.8 20 9.2H12Z"/>',
    'D': '<path d="M16 1.6 20.4 6 16 10.4 11.6 6Z"/>',
    'v': '<path d="M16 10.2 20 2.8H12Z"/>',
    'X': '<path d="m13 3 6 6m0-6-6 6" stroke-width="2.4"/>',
    'P': '<path d="M16 2v8M12 6h8" stroke-width="2.4"/>',
    '>': '<path d="M20.2 6 11.8 2V10Z"/>',
  }
  pattern = ' '.join(f'{2 * length:g}' for length in dashes)
  return (
    f'<svg class="sample" viewBox="0 0 32 12" aria-hidden="true" '
    f'fill="{colour}" stroke="{colour}">'
    f'<path d="M1 6H31" stroke-width="2" stroke-dasharray="{pattern}"/>'
    f'{shapes[marker]}</svg>'
  )


def _dress(axes, quantity: Quantity, palette: _Palette) -> None:
  ticker = require('matplotlib.ticker', 'report')
  axes.spines[['top', 'right', 'left']].set_visible(False)
  axes.spines['bottom'].set_color(palette.grid)
  axes.tick_params(color=palette.grid, labelcolor=palette.ink, length=0, pad=5)
  axes.grid(axis='y', color=palette.grid, linewidth=0.8)
  axes.set_axisbelow(True)
  axes.set_xlabel('step', color=palette.ink)
  axes.xaxis.set_major_locator(ticker.MaxNLocator(5, integer=True))
  axes.xaxis.set_major_formatter(ticker.EngFormatter(sep=''))
  axes.yaxis.set_major_locator(ticker.MaxNLocator(5))
  axes.margins(x=0.02, y=0.08)
  if quantity.is_share:
    axes.set_ylim(-0.02, 1.02)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
    axes.yaxis.set_major_formatter(ticker.PercentFormatter(1, decimals=0))


def _draw(axes, curve: Curve, series: int, palette: _Palette) -> None:
  steps, values = _thinned(curve.steps, curve.values)
  colour = palette.series[series % NUM_SERIES]
  if curve.band:
    low, high = (_thinned(curve.steps, line)[1] for line in curve.band)
    axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
  dashes, marker = _STYLES[series % NUM_SERIES]
  (line,) = axes.plot(
    steps,
    values,
    color=colour,
    label=curve.run,
    linewidth=1.6,
    clip_on=False,
    marker=marker,
    markersize=4,
    markeredgewidth=0.5 if marker in 'XP' else 0,
    # About eight a line, not at the same steps for every run.
    markevery=(series % max(1, len(steps) // 8), max(1, len(steps) // 8)),
  )
  if len(dashes) > 2 or dashes[1] > 0:
    line.set_dashes(dashes)


def _thinned(
  given_steps: Sequence[float],
  given_values: Sequence[float],
  max_points: int = _MAX_POINTS,
) -> tuple[np.ndarray, np.ndarray]:
  """Means over equal stretches of a line that has too many points."""
  steps = np.asarray(given_steps, np.float64)
  values = np.asarray(given_values, np.float64)
  values = np.where(np.isfinite(values), values, np.nan)
  if len(steps) <= max_points:
    return steps, values
  parts = np.array_split(np.arange(len(steps)), max_points)
  return (
    np.array([steps[part].mean() for part in parts]),
    np.array(
      [
        np.nan if np.isnan(values[part]).all() else np.nanmean(values[part])
        for part in parts
      ]
    ),
  )


def _in_words(curves: Sequence[Curve]) -> str:
  """What a reader who cannot see the chart is told."""
  title = describe(curves[0].quantity).title
  ends = '; '.join(
    f'{curve.run} ends at {last_value(curve)}'
    for curve in curves
    if last_value(curve)
  )
  return f'{title} over training steps: {ends or "no values"}.'


def _for_page(svg: str, words: str) -> str:
  svg = re.sub(
    r'<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>',
    '',
    svg[svg.index('<svg') :],
    flags=re.DOTALL,
  )
  # Namespaces go without saying in HTML; the size is the page's business.
  label = f'role="img" aria-label="{html.escape(words)}"'
  svg = re.sub(
    r'<svg[^>]*(viewBox="[^"]*")[^>]*>',
    lambda found: f'<svg {label} {found[1]}>',
    svg,
    count=1,
  )
  # Names that nothing refers to would clash between the charts of a page.
  used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg))
  svg = re.sub(r'\sid="([^"]*)"', lambda m: m[0] if m[1] in used else '', svg)
  svg = re.sub(r'font-family: [^;"]*;? ?', '', svg)
  svg = svg.replace(_STAND_INS.ink, 'var(--ink)')
  svg = svg.replace(_STAND_INS.grid, 'var(--grid)')
  for i, colour in enumerate(_STAND_INS.series, start=1):
    svg = svg.replace(colour, f'var(--series-{i})')
  return re.sub(r'\s*\n\s*', ' ', svg).strip()
