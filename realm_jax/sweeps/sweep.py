"""Ablations: every cell with every seed, one table."""

import contextlib
import dataclasses
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from realm_jax.errors import UserError
from realm_jax.eval.tables import rich_table
from realm_jax.folders import make_folder, read_json, write_json
from realm_jax.optional import require
from realm_jax.settings import as_json, differences
from realm_jax.sweeps.cells import SweepConfig, cells_of
from realm_jax.sweeps.dry_run import show_plan
from realm_jax.sweeps.jobs import (
  Failure,
  Job,
  Processes,
  jobs_of,
  needed_for,
  own_command,
  run_here,
  run_jobs,
)
from realm_jax.sweeps.measurements import (
  is_measured,
  keep,
  read_measurements,
)
from realm_jax.sweeps.report import write_results
from realm_jax.sweeps.results import Row, collect
from realm_jax.sweeps.stages import CellRun, Sources, plan_cell, sweep_config
from realm_jax.sweeps.tables import summary_rows

_CONFIG = 'sweep.json'
_MEASUREMENTS = 'measurements'


def sweep(
  out: str,
  gin: Sequence[str],
  settings: Sequence[str] = (),
  *,
  corpus: str | None = None,
  questions: str | None = None,
  test_questions: str | None = None,
  probe_questions: str | None = None,
  bert: str | None = None,
  stages: str | None = None,
  jobs: int = 1,
  launcher: str | None = None,
  only: str | None = None,
  collect_only: bool = False,
  dry_run: bool = False,
  accelerator: str | None = None,
  console: Console | None = None,
) -> list[Row]:
  """Runs all cells with all seeds, and writes one table of them.

  Stages that cells share are run once. Stopped and started again it goes on; a
  stage that fails leaves out the cells that need it, and no others.

  Args:
    out: the sweep's folder: table.md, .csv, .tex, plots/, report.html, stages/.
    gin: files that describe the sweep and its runs: see cells.SweepConfig.
    settings: 'NAME=VALUE', for all cells; what a cell sets stands over them.
    corpus: folder of a prepared corpus; with questions and test_questions, or
      none of the three for the almanac.
    questions: file of training questions.
    test_questions: file of questions that are measured on.
    probe_questions: file of questions for pretrain's recall curve.
    bert: weights that ict starts from.
    stages: folder of the stages, which several sweeps may share; None for
      stages/ in out.
    jobs: stages, or cells, run at a time, each in a process of its own; 1 runs
      them here.
    launcher: command that runs a job elsewhere: see jobs.Processes.
    only: name of a job: run it, and nothing else.
    collect_only: run nothing; write the table of what has been measured, though
      jobs may be running.
    dry_run: print cells, stages and what they cost; run nothing.
    accelerator: what dry_run reckons with: see realm-jax plan.
    console: where to print; None for the terminal.

  Returns:
    The rows of the table; none of `only` and `dry_run`.

  Raises:
    FileNotFoundError: a file or folder is missing.
    UserError: the sweep is described wrongly, out is another sweep's, or a
      stage has failed; then the table is written of what is there.
  """
  console = console or Console()
  if jobs < 1:
    raise UserError(f'jobs is {jobs}, expected at least 1.')
  sources = Sources(corpus, questions, test_questions, probe_questions, bert)
  sources.check()
  config = sweep_config(gin, settings)
  runs = [
    plan_cell(cell, seed, gin, settings, sources)
    for cell in cells_of(config)
    for seed in config.seeds
  ]
  kept = Path(out) / _MEASUREMENTS
  missing = [run for run in runs if not is_measured(run, kept)]
  todo = needed_for(missing, jobs_of(runs))
  if dry_run:
    num_measured = len(runs) - len(missing)
    show_plan(runs, num_measured, todo, accelerator, console)
    return []
  folder = make_folder(out)
  _check_folder(folder, config, runs)
  made = Path(stages) if stages else folder / 'stages'
  if only is not None:
    run_here(_named(jobs_of(runs), only), made)
    return []
  # Known now rather than after the training.
  for module in ('jinja2', 'matplotlib'):
    require(module, 'report')
  failed: dict[str, Failure] = {}
  if collect_only:
    for job in todo:
      _keep(job, made, kept)
  else:
    arguments = _command_line(out, gin, settings, sources, stages)
    failed = _run(todo, folder, made, kept, jobs, launcher, arguments, console)
  measured = read_measurements(runs, kept)
  rows = collect(runs, config, measured)
  write_results(folder, rows, runs, config, measured, _described(config, runs))
  console.print(rich_table(summary_rows(rows, config), title=config.title))
  console.print(f'Tables, plots and report: {out}', markup=False)
  if failed:
    raise UserError(_failures(failed, runs, todo))
  return rows


def _keep(job: Job, stages: Path, kept: Path) -> None:
  """Keeps what the stages of a job have measured."""
  for stage in job.stages:
    keep(stage, stages, kept)


def _described(config: SweepConfig, runs: Sequence[CellRun]) -> dict[str, Any]:
  """The sweep as sweep.json holds it: also which stages each cell is of."""
  return as_json(
    {
      'sweep': dataclasses.asdict(config),
      'cells': {run.name: [stage.name for stage in run.stages] for run in runs},
    }
  )


def _check_folder(
  folder: Path, config: SweepConfig, runs: Sequence[CellRun]
) -> None:
  """Keeps what the sweep is; refuses the folder of something else.

  Measurements alone are welcome, as another machine may have made them; so are
  further cells, seeds and metrics. A cell that is there already must be of the
  same stages.
  """
  path = folder / _CONFIG
  now = _described(config, runs)
  if path.is_file():
    before = read_json(path)
    if before == now:
      return  # jobs that start together would write it over each other
    lines = [
      where
      for where, old, new in differences(before['cells'], now['cells'])
      if old is not None and new is not None
    ]
    if lines:
      raise UserError(
        f'{folder} holds a sweep whose cells {", ".join(lines[:3])} are of '
        'other settings. Choose another --out, or delete the folder.'
      )
  elif any(path.name != _MEASUREMENTS for path in folder.iterdir()):
    raise UserError(
      f'{folder} holds something else than a sweep. Give an empty or a new '
      'folder.'
    )
  write_json(path, now)


def _named(jobs: Sequence[Job], name: str) -> Job:
  for job in jobs:
    if job.name == name:
      return job
  raise UserError(
    f'There is no job {name!r} in this sweep. --dry-run shows them all.'
  )


def _command_line(
  out: str,
  gin: Sequence[str],
  settings: Sequence[str],
  sources: Sources,
  stages: str | None,
) -> list[str]:
  """The arguments of this sweep, for other processes."""
  arguments = ['--out', out]
  for path in gin:
    arguments += ['--gin', path]
  for setting in settings:
    arguments += ['--set', setting]
  for name, value in {**sources._asdict(), 'stages': stages}.items():
    if value is not None:
      arguments += [f'--{name.replace("_", "-")}', value]
  return arguments


def _run(
  todo: Sequence[Job],
  folder: Path,
  stages: Path,
  kept: Path,
  num_workers: int,
  launcher: str | None,
  arguments: Sequence[str],
  console: Console,
) -> dict[str, Failure]:
  """Runs the jobs and keeps what they measure; returns those that failed."""
  number = 0

  def tell(job: Job, failure: Failure | None) -> None:
    nonlocal number
    number += 1
    _keep(job, stages, kept)
    outcome = 'done' if failure is None else f'[red]{escape(failure.message)}'
    console.print(f'[dim]{number}/{len(todo)}[/dim] {job.name}: {outcome}')

  logs = folder / 'failed'
  if num_workers == 1 and launcher is None:
    return run_jobs(todo, lambda job: run_here(job, stages), 1, logs, tell)
  processes = Processes(own_command(arguments), launcher, num_workers)
  with _terminated_as_interrupted():
    return run_jobs(todo, processes, num_workers, logs, tell, processes.stop)


@contextlib.contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
  """SIGTERM raises KeyboardInterrupt, so that processes are not left behind."""
  if threading.current_thread() is not threading.main_thread():
    yield
    return

  def interrupt(number: int, frame: Any) -> None:
    del number, frame
    raise KeyboardInterrupt('Stopped; run again to go on.')

  previous = signal.signal(signal.SIGTERM, interrupt)
  try:
    yield
  finally:
    signal.signal(signal.SIGTERM, previous)


def _failures(
  failed: dict[str, Failure], runs: Sequence[CellRun], todo: Sequence[Job]
) -> str:
  """Which cells lack something, and where the reason stands."""
  missing = {
    stage.name for job in todo if job.name in failed for stage in job.stages
  }
  cells = [
    run.name
    for run in runs
    if any(stage.name in missing for stage in run.stages)
  ]
  logs = [f'  {f.log}: {f.message}' for f in failed.values() if f.log]
  return (
    f'{len(cells)} of {len(runs)} cells and seeds are not done: '
    f'{", ".join(cells[:6])}{", ..." if len(cells) > 6 else ""}.\n'
    + '\n'.join(logs)
    + '\nThe table has the others. Run the same command again to try anew.'
  )
