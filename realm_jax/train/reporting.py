"""What a run says of itself: metrics.jsonl, TensorBoard, the screen."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.progress import (
  BarColumn,
  MofNCompleteColumn,
  Progress,
  TaskProgressColumn,
  TextColumn,
  TimeRemainingColumn,
)
from rich.text import Text
from tensorboardX import SummaryWriter

from realm_jax import hosts
from realm_jax.train.warning_signs import JUDGED, warnings_of

METRICS_FILE = 'metrics.jsonl'
console = Console(stderr=True)


def warn(message: str) -> None:
  """Says once, of all hosts, what does not stop the run."""
  if hosts.is_first():
    console.print(message, style='yellow', markup=False)


def read_metrics(run: Path) -> list[dict[str, float]]:
  """The records of a run, oldest first: {'step': ..., name: value, ...}."""
  path = Path(run) / METRICS_FILE
  if not path.is_file():
    return []
  records = []
  for line in path.read_text(encoding='utf-8').splitlines():
    try:
      records.append(json.loads(line))
    except ValueError:
      break  # the line that a killed run was writing
  return records


class _Display(Progress):
  """The bar, and below it what was measured last: both fit 80 columns."""

  line = ''

  def get_renderables(self) -> Iterator[RenderableType]:
    """What rich draws, top to bottom."""
    yield from super().get_renderables()
    if self.line:
      yield Text(f'  {self.line}', no_wrap=True, overflow='ellipsis')


class Reporter:
  """Writes the metrics of a run and shows its progress."""

  def __init__(
    self,
    run: Path,
    title: str,
    num_steps: int,
    first_step: int,
    num_candidates: int = 0,
  ):
    """Opens the run's metrics; records after first_step are dropped.

    Args:
      run: the run's folder.
      title: shown before the bar.
      num_steps: of the whole run.
      first_step: steps done before: a resumed run writes its later records
        anew.
      num_candidates: with the null document, for warnings.
    """
    kept = [
      record
      for record in read_metrics(run)
      if first_step and record['step'] <= first_step
    ]
    # Renamed, so that a kill at this moment does not lose them.
    partial = run / f'{METRICS_FILE}.partial'
    partial.write_text(
      ''.join(f'{json.dumps(record)}\n' for record in kept), encoding='utf-8'
    )
    os.replace(partial, run / METRICS_FILE)
    self._file = open(  # noqa: SIM115 (closed by close)
      run / METRICS_FILE, 'a', encoding='utf-8'
    )
    # TensorBoard forgets the records from purge_step on; those of first_step
    # itself are not written anew.
    self._board = SummaryWriter(
      str(run / 'tensorboard'), purge_step=first_step + 1 if first_step else 0
    )
    self._num_candidates = num_candidates
    self._shown: dict[str, float] = {}
    self._in_a_row: dict[str, int] = {}
    self._warned: set[str] = set()
    self._progress = _Display(
      TextColumn('{task.description}'),
      BarColumn(bar_width=20),
      MofNCompleteColumn(),
      TaskProgressColumn(),
      TimeRemainingColumn(),
      console=console,
    )
    self._task = self._progress.add_task(
      title, total=num_steps, completed=first_step
    )
    self._progress.start()
    self._last = (first_step, time.perf_counter())

  def _write(self, record: dict[str, Any]) -> None:
    self._file.write(json.dumps(record) + '\n')
    self._file.flush()

  def report(self, step: int, metrics: dict[str, Any]) -> None:
    """Records metrics measured after `step` updates; scalars of any kind."""
    record = {name: float(value) for name, value in metrics.items()}
    now = time.perf_counter()
    if 'tokens' in record:
      last_step, last_time = self._last
      steps_per_second = (step - last_step) / max(now - last_time, 1e-9)
      record['tokens_per_second'] = record.pop('tokens') * steps_per_second
      self._last = (step, now)
    self._write({'step': step, **record})
    for name, value in record.items():
      self._board.add_scalar(name, value, step)
    self._shown.update(record)
    self._warn(step, record)

  def _warn(self, step: int, record: dict[str, float]) -> None:
    """Warns once of what enough records in a row show."""
    warnings = dict(warnings_of(record, self._num_candidates))
    for kind, (metric, patience) in JUDGED.items():
      if metric not in record:
        continue
      so_far = self._in_a_row.get(kind, 0)
      self._in_a_row[kind] = so_far + 1 if kind in warnings else 0
      if self._in_a_row[kind] >= patience and kind not in self._warned:
        self._warned.add(kind)
        console.print(f'[yellow]step {step}: {warnings[kind]}[/yellow]')
        self._board.add_text('warnings', warnings[kind], step)

  def advance(self, step: int) -> None:
    """Moves the progress bar."""
    names = (
      ('loss', 'loss', '.3f'),
      ('accuracy', 'accuracy', '.2f'),
      ('retrieval_utility', 'utility', '.2f'),
      ('probe_recall@5', 'probe R@5', '.3f'),
      ('tokens_per_second', 'tokens/s', ',.0f'),
      ('index_age', 'index age', '.0f'),
    )
    self._progress.line = '  '.join(
      f'{label} {self._shown[name]:{spec}}'
      for name, label, spec in names
      if name in self._shown
    )
    self._progress.update(self._task, completed=step)

  def close(self) -> None:
    """Ends the progress display and closes the files."""
    self._progress.stop()
    self._file.close()
    self._board.close()


class Silent(Reporter):
  """The reporter of a process that leaves it to another to report."""

  def __init__(self):
    """Opens nothing."""

  def report(self, step: int, metrics: dict[str, Any]) -> None:
    """Does nothing."""

  def advance(self, step: int) -> None:
    """Does nothing."""

  def close(self) -> None:
    """Does nothing."""
