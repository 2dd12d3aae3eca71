"""Which snapshot was searched when: the log of a run, and what follows it.

served.jsonl has a line whenever what is searched changes:

  {"step": 130, "index_step": 100}

after 130 steps the snapshot of step 100 was taken into use. A line is on disk
before anything is searched in what it names. Where snapshots come from other
devices or processes, the log is what makes a run repeatable: one that goes on
from an earlier checkpoint, or replays the log of another run, does at each step
what the log says, and only behind its end what comes of itself.
"""

import json
import os
from pathlib import Path
from typing import NamedTuple

from realm_jax import hosts
from realm_jax.errors import UserError
from realm_jax.folders import file_checksum

SERVED_FILE = 'served.jsonl'


class Served(NamedTuple):
  """A line of the log.

  Attributes:
    step: updates done when the snapshot was taken into use.
    index_step: of the snapshot.
    refresh: the schedule of the run; on the first line.
  """

  step: int
  index_step: int
  refresh: str | None = None


def _served_file(path: str | Path) -> Path:
  """The log: the file itself, or that of a run's folder."""
  path = Path(path)
  return path / SERVED_FILE if path.is_dir() else path


def identify_served(path: str | Path) -> dict[str, str]:
  """What a run that follows a log records of it."""
  file = _served_file(path)
  return {'file': str(file), 'sha256': file_checksum(file)}


def read_served(path: str | Path) -> list[Served]:
  """The lines of a log, oldest first; a last one that was torn is left out.

  Args:
    path: the file, or the folder of a run.

  Raises:
    UserError: there is none, it is something else, or nothing is in it.
  """
  path = _served_file(path)
  if not path.is_file():
    raise UserError(
      f'{path} does not exist, expected the log of a pre-training run.'
    )
  whole = path.read_text(encoding='utf-8').split('\n')[:-1]
  try:
    lines = [Served(**json.loads(line)) for line in whole]
  except (ValueError, TypeError) as error:
    raise UserError(
      f'{path} is no log of what a pre-training run searched: {error}.'
    ) from error
  steps = [line.step for line in lines]
  if steps != sorted(set(steps)) or steps[:1] != [0]:
    raise UserError(
      f'The steps of {path} are {steps[:5]}, expected 0 and rising ones: it is '
      'no log of what a pre-training run searched.'
    )
  return lines


class ServedLog:
  """The log of one run, which is read on starting and added to.

  Attributes:
    lines: all of them.
  """

  def __init__(self, folder: Path):
    """Opens the log of a run's folder; there need not be one yet."""
    self._path = folder / SERVED_FILE
    self.lines: list[Served] = []
    if self._path.is_file() and self._path.stat().st_size:
      self.lines = read_served(self._path)
      self._write_all()  # without a torn line, behind which none may be added

  def _write_all(self) -> None:
    if not hosts.is_first():
      return
    partial = self._path.with_name(self._path.name + '.partial')
    partial.write_text(''.join(map(_as_text, self.lines)), encoding='utf-8')
    os.replace(partial, self._path)

  @property
  def last_step(self) -> int:
    """Of the last line; -1 where there is none."""
    return self.lines[-1].step if self.lines else -1

  def index_step(self, step: int) -> int | None:
    """Which snapshot is taken into use after so many steps; None for none."""
    return {line.step: line.index_step for line in self.lines}.get(step)

  def needs(self, index_step: int, step: int) -> bool:
    """Whether a snapshot is taken into use after `step` steps or later."""
    return any(
      line.index_step == index_step and line.step >= step for line in self.lines
    )

  def append(self, line: Served) -> None:
    """Adds a line, unless it is there, and sees that it is on disk."""
    if line.step <= self.last_step:
      assert self.index_step(line.step) == line.index_step, line
      return
    self.lines.append(line)
    if not hosts.is_first():
      return
    with open(self._path, 'a', encoding='utf-8') as stream:
      stream.write(_as_text(line))
      stream.flush()
      os.fsync(stream.fileno())

  def copy(self, lines: list[Served]) -> None:
    """Takes over the lines of another run, to follow them."""
    self.lines = list(lines)
    self._write_all()


def _as_text(line: Served) -> str:
  values = {k: v for k, v in line._asdict().items() if v is not None}
  return json.dumps(values) + '\n'
