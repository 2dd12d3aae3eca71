"""What a run says of itself: metrics.jsonl, TensorBoard, the screen."""

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import (
  BarColumn,
  Progress,
  TaskProgressColumn,
  TextColumn,
  TimeRemainingColumn,
)
from tensorboardX import SummaryWriter

METRICS_FILE = 'metrics.jsonl'
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


def warnings_of(record: dict[str, float], num_candidates: int) -> list[str]:
  """Says in words when a retriever seems to collapse.

  Args:
    record: metrics of one step; those that are missing are not judged.
    num_candidates: with the null document.
  """
  messages = []
  distinct = record.get('distinct_blocks', 1.0)
  if distinct < 0.1:
    messages.append(
      f'The retriever may be collapsing: only {distinct:.0%} of the documents '
      'retrieved in this batch differ. Lower the learning rate.'
    )
  entropy = record.get('retrieval_entropy')
  if entropy is not None and num_candidates > 2:
    if entropy > 0.98 * np.log(num_candidates):
      messages.append(
        f'p(z given x) is nearly uniform (entropy {entropy:.2f} of at most '
        f'{np.log(num_candidates):.2f} nats): the documents do not seem to '
        'help yet.'
      )
    elif entropy < 0.01:
      messages.append(
        f'p(z given x) is nearly one document (entropy {entropy:.3f} nats): '
        'the retriever no longer explores.'
      )
  if record.get('null_mass', 0.0) > 0.9:
    messages.append(
      f'The null document has {record["null_mass"]:.0%} of p(z given x): the '
      'reader hardly uses retrieved documents.'
    )
  return messages


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
    self._board = SummaryWriter(str(run / 'tensorboard'), purge_step=first_step)
    self._num_candidates = num_candidates
    self._shown: dict[str, float] = {}
    self._warned: set[str] = set()
    self._progress = Progress(
      TextColumn('{task.description}'),
      BarColumn(bar_width=20),
      TaskProgressColumn(),
      TimeRemainingColumn(),
      TextColumn('{task.fields[line]}'),
      console=console,
    )
    self._task = self._progress.add_task(
      title, total=num_steps, completed=first_step, line=''
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
    for message in warnings_of(record, self._num_candidates):
      kind = message.split('(')[0].split(':')[0]
      if kind not in self._warned:
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
    line = '  '.join(
      f'{label} {self._shown[name]:{spec}}'
      for name, label, spec in names
      if name in self._shown
    )
    self._progress.update(self._task, completed=step, line=line)

  def close(self) -> None:
    """Ends the progress display and closes the files."""
    self._progress.stop()
    self._file.close()
    self._board.close()
