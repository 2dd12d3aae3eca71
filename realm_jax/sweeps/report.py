"""What a sweep leaves: tables, plots, and a report of both."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from realm_jax.eval.charts import Curve, bands_from_records, save_chart
from realm_jax.eval.report import write_report
from realm_jax.folders import make_folder
from realm_jax.sweeps.cells import SweepConfig
from realm_jax.sweeps.measurements import Measurements
from realm_jax.sweeps.results import Row
from realm_jax.sweeps.stages import CellRun
from realm_jax.sweeps.tables import (
  comma_separated,
  latex,
  markdown,
  report_notes,
  summary_rows,
)


def write_results(
  sweep: Path,
  rows: Sequence[Row],
  runs: Sequence[CellRun],
  config: SweepConfig,
  measured: Measurements,
  settings: Mapping[str, Any],
) -> None:
  """Writes table.md, .csv and .tex, plots/ and report.html.

  Args:
    sweep: the sweep's folder.
    rows: as results.collect gives them.
    runs: all cells with all seeds.
    config: of the sweep.
    measured: of the cells.
    settings: shown at the end of the report.

  Raises:
    ImportError: the extra `report` is not installed.
  """
  made_with = measured.made_with()
  for name, text in (
    ('table.md', markdown(rows, config, made_with)),
    ('table.csv', comma_separated(rows, config)),
    ('table.tex', latex(rows, config, made_with)),
  ):
    _replace(sweep / name, text)
  groups = _plotted(_curves(measured, runs, config))
  plots = make_folder(sweep / 'plots')
  for quantity, curves, series in groups:
    save_chart(curves, series, plots / quantity.replace('/', '_'))
  write_report(
    sweep / 'report.html',
    config.title,
    summary_rows(rows, config),
    [curve for _, curves, _ in groups for curve in curves],
    notes=report_notes(rows, config, made_with),
    config=settings,
  )


def _replace(path: Path, text: str) -> None:
  """Writes a text; a reader sees the old file or the new one, whole."""
  partial = path.with_name(path.name + '.partial')
  partial.write_text(text, encoding='utf-8')
  os.replace(partial, path)


def _curves(
  measured: Measurements, runs: Sequence[CellRun], config: SweepConfig
) -> list[Curve]:
  """Of the pre-training of the cells; cells that share it share a line."""
  cells: dict[tuple[str, ...], list[CellRun]] = {}
  for name in dict.fromkeys(run.cell.name for run in runs):
    own = [r for r in runs if r.cell.name == name and r.pretrained]
    if own:
      shared = tuple(r.pretrained.name for r in own if r.pretrained)
      cells.setdefault(shared, own)
  records = {
    own[0].cell.name: [
      found
      for run in own
      if run.pretrained and (found := measured.records.get(run.pretrained.name))
    ]
    for own in cells.values()
  }
  there = {name: found for name, found in records.items() if found}
  return bands_from_records(there, config.curves)


def _plotted(
  curves: Sequence[Curve],
) -> list[tuple[str, list[Curve], dict[str, int]]]:
  """Quantity, its curves, and the number of each run, the same in all."""
  names = list(dict.fromkeys(curve.run for curve in curves))
  series = {name: number for number, name in enumerate(names)}
  return [
    (quantity, [c for c in curves if c.quantity == quantity], series)
    for quantity in dict.fromkeys(curve.quantity for curve in curves)
  ]
