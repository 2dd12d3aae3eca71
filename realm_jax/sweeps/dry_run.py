"""What a sweep would do: its cells, the stages they share, and the cost."""

from collections import Counter
from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from realm_jax.runs.plan import duration
from realm_jax.sweeps.cost import planned_seconds
from realm_jax.sweeps.jobs import Job
from realm_jax.sweeps.stages import CellRun


def show_plan(
  runs: Sequence[CellRun],
  num_measured: int,
  todo: Sequence[Job],
  accelerator: str | None,
  console: Console,
) -> None:
  """Prints the cells, what they share, and the cost of what is missing.

  Args:
    runs: every cell with every seed.
    num_measured: of these, how many have been measured.
    todo: the jobs of the others.
    accelerator: what to reckon with: see realm-jax plan.
    console: where to print.
  """
  console.print(_cells(runs))
  if num_measured:
    console.print(
      f'{num_measured} of {len(runs)} cells and seeds have been measured.'
    )
  costs = {job.name: _pretrain_seconds(job, accelerator) for job in todo}
  console.print(_jobs(runs, todo, costs))
  stages = {stage.name: stage for run in runs for stage in run.stages}
  counts = Counter(stage.kind for stage in stages.values())
  each = ', '.join(f'{count} {kind}' for kind, count in counts.items())
  console.print(
    f'Stages: {each}; unshared they would be '
    f'{sum(len(run.stages) for run in runs)}. Pre-training takes about '
    f'{duration(sum(costs.values()))} in all, by realm-jax plan, one job at a '
    'time; of the other stages there is no cost model.'
  )


def _pretrain_seconds(job: Job, accelerator: str | None) -> float:
  """Of the pre-training in a job; 0 where it has none."""
  planned = [planned_seconds(stage, accelerator) for stage in job.stages]
  return sum(seconds for seconds in planned if seconds is not None)


def _cells(runs: Sequence[CellRun]) -> Table:
  """Each cell with what it sets."""
  cells = {run.cell.name: run.cell for run in runs}
  table = Table(title=f'{len(cells)} cells')
  for head in ('cell', 'settings'):
    table.add_column(head, overflow='fold')
  for cell in cells.values():
    table.add_row(escape(cell.name), escape('\n'.join(cell.settings)))
  return table


def _jobs(
  runs: Sequence[CellRun], todo: Sequence[Job], costs: dict[str, float]
) -> Table:
  """Each job with its stages, how many cells need it, and its cost."""
  users = Counter(stage.name for run in runs for stage in run.stages)
  table = Table(title=f'{len(todo)} jobs, each stage once')
  for head in ('job', 'stages', 'of cells', 'pre-training'):
    table.add_column(head, overflow='fold')
  for job in todo:
    table.add_row(
      job.name,
      ', '.join(stage.kind for stage in job.stages),
      str(max(users[stage.name] for stage in job.stages)),
      duration(costs[job.name]) if costs[job.name] else '',
    )
  return table
