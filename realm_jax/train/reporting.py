"""What a run says of itself: metrics.jsonl, TensorBoard, the screen."""

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
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

METRICS_FILE = 'metrics.jsonl'
# Records in a row that must look like a collapse before the user is warned: one
# batch may by chance.
PATIENCE = 5
console = Console(stderr=True)


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


def warnings_of(
  record: dict[str, float], num_candidates: int
) -> list[tuple[str, str]]:
  """Says in words when a retriever seems to collapse.

  Args:
    record: metrics of one step; those that are missing are not judged.
    num_candidates: with the null document. Below 2 nothing is retrieved and
      nothing is judged.

  Returns:
    (kind, message) of each; kinds are the same whatever the figures.
  """
  if num_candidates < 2:
    return []
  warnings = []
  if record.get('retrieval_spread', 1.0) < 0.1:
    warnings.append(
      (
        'spread',
        'The retriever may be collapsing: nearly the same documents are found '
        f'for all queries of a batch (only {record["distinct_blocks"]:.0%} of '
        'those found differ). Lower the learning rate.',
      )
    )
  entropy = record.get('retrieval_entropy')
  if entropy is not None and num_candidates > 2:
    if entropy > 0.98 * np.log(num_candidates):
      warnings.append(
        (
          'uniform',
          f'p(z given x) is nearly uniform (entropy {entropy:.2f} of at most '
          f'{np.log(num_candidates):.2f} nats): the documents do not seem to '
          'help yet.',
        )
      )
    elif entropy < 0.01:
      warnings.append(
        (
          'one document',
          f'p(z given x) is nearly one document (entropy {entropy:.3f} nats): '
          'the retriever no longer explores.',
        )
      )
  null_mass = record.get('null_mass', 0.0)
  if null_mass > 0.9:
    warnings.append(
      (
        'null document',
        f'The null document has {null_mass:.0%} of p(z given x): the reader '
        'hardly uses retrieved documents.',
      )
    )
  return warnings


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
    if 'loss' in record:  # else of an event between steps
      self._warn(step, record)

  def _warn(self, step: int, record: dict[str, float]) -> None:
    """Warns once of what PATIENCE records in a row show."""
    warnings = dict(warnings_of(record, self._num_candidates))
    self._in_a_row = {
      kind: self._in_a_row.get(kind, 0) + 1 for kind in warnings
    }
    for kind, message in warnings.items():
      if self._in_a_row[kind] >= PATIENCE and kind not in self._warned:
        self._warned.add(kind)
        console.print(f'[yellow]step {step}: {message}[/yellow]')

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
