"""A builder that follows a training run: what is published is embedded.

It reads config.json and published/ of the run's folder and leaves snapshots
there. It may be killed at any moment and started again: nothing else is kept.
"""

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from realm_jax.errors import UserError
from realm_jax.folders import MANIFEST, check_kind, is_whole, read_json
from realm_jax.refresh.publishing import Published, published
from realm_jax.train.run_folder import (
  CONFIG_FILE,
  VOCAB_FILE,
  snapshot_folder,
)

_LOCK_FILE = 'builder.lock'
_POLL_SECONDS = 1.0


@contextlib.contextmanager
def only_builder(run: Path) -> Iterator[None]:
  """Holds the lock of a run's builder; the system frees that of a dead one.

  Raises:
    UserError: another process holds it.
  """
  with open(run / _LOCK_FILE, 'a+', encoding='utf-8') as stream:
    try:
      fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      stream.seek(0)
      raise UserError(
        f'Process {stream.read().strip()} follows run {run} already, expected '
        'one builder. Stop that one, or leave it to it.'
      ) from error
    stream.truncate(0)
    stream.write(f'{os.getpid()}\n')
    stream.flush()
    yield


def builder_pid(run: Path) -> int | None:
  """The process that follows a run now; None if there is none."""
  try:
    with open(run / _LOCK_FILE, encoding='utf-8') as stream:
      try:
        fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
      except BlockingIOError:
        return int(stream.read())
  except (FileNotFoundError, ValueError):
    pass
  return None


def wait_for_config(
  run: Path,
  tell: Callable[[str], None],
  sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
  """The config.json of a run, whose trainer may not have started yet.

  Raises:
    UserError: the folder is something else than a run.
  """
  waiting = False
  while not (run / CONFIG_FILE).is_file():
    _check_no_other(run)
    if not waiting:
      tell(f'Waiting for the trainer: there is no {run / CONFIG_FILE} yet.')
      waiting = True
    sleep(_POLL_SECONDS)
  return read_json(run / CONFIG_FILE)


def _check_no_other(run: Path) -> None:
  """Raises UserError where no run can begin."""
  if run.exists() and not run.is_dir():
    raise UserError(f'{run} is a file, expected the folder of a run.')
  check_kind(run, 'run')
  known = {VOCAB_FILE, f'{VOCAB_FILE}.partial', CONFIG_FILE}
  known |= {f'{CONFIG_FILE}.partial'}
  there = {path.name for path in run.iterdir()} if run.is_dir() else set()
  if there - known:
    raise UserError(
      f'{run} holds {", ".join(sorted(there - known)[:3])}, but no '
      f'{CONFIG_FILE}: expected the folder of a run of realm-jax pretrain '
      'or finetune.'
    )


def follow(
  run: Path,
  build: Callable[[Published, Path], str],
  tell: Callable[[str], None],
  sleep: Callable[[float], None] = time.sleep,
) -> None:
  """Embeds the newest of what a run publishes, until the run has finished.

  Args:
    run: the run's folder.
    build: build(published, folder) makes a snapshot in a folder, which may hold
      a part of it, and returns what to tell of it. It may fail where the run
      has deleted the parameters; raises UserError if they are damaged.
    tell: what is called with lines for the user.
    sleep: called with seconds.
  """
  done: set[tuple[int, str]] = set()
  waiting_after = None
  while True:
    # Asked first: after it has finished a run publishes no more.
    finished = is_whole(run)
    found = published(run)
    newest = found[-1] if found else None
    if newest and _snapshot_made(run, newest):
      done.add((newest.step, newest.params_fingerprint))
    if newest and (newest.step, newest.params_fingerprint) not in done:
      _build(run, found, done, build, tell)
      continue
    if finished:
      tell('The run has finished, and there is nothing newer to embed.')
      return
    last = newest.step if newest else -1
    if waiting_after != last:
      of_run = f'after step {last}' if newest else 'of the run'
      tell(f'Waiting for parameters {of_run}.')
      waiting_after = last
    sleep(_POLL_SECONDS)


def _build(
  run: Path,
  found: list[Published],
  done: set[tuple[int, str]],
  build: Callable[[Published, Path], str],
  tell: Callable[[str], None],
) -> None:
  """Embeds the last of what was found."""
  newest = found[-1]
  last_done = max((step for step, _ in done), default=-1)
  for entry in found[:-1]:
    if entry.step > last_done and not _snapshot_made(run, entry):
      tell(f'Step {entry.step} is passed over for step {newest.step}.')
  folder = snapshot_folder(run, newest.step)
  if is_whole(folder):  # of other parameters of this step
    shutil.rmtree(folder)
  done.add((newest.step, newest.params_fingerprint))
  published_at = _published_at(newest)
  tell(f'Step {newest.step}, published {_age(published_at)} ago: embedding.')
  try:
    told = build(newest, folder)
  except Exception as error:
    if not is_whole(newest.folder):
      tell(f'Step {newest.step} was deleted by the run meanwhile.')
    elif isinstance(error, UserError):
      tell(f'Step {newest.step} is left out: {error}')
    else:
      raise
  else:
    age = _age(published_at)
    tell(f'Step {newest.step}, published {age} ago: in place. {told}')


def _snapshot_made(run: Path, entry: Published) -> bool:
  """Whether the snapshot of these parameters, and no others, is there."""
  folder = snapshot_folder(run, entry.step)
  try:
    manifest = json.loads((folder / MANIFEST).read_text(encoding='utf-8'))
  except (FileNotFoundError, NotADirectoryError):
    return False
  return manifest['params_fingerprint'] == entry.params_fingerprint


def _published_at(entry: Published) -> datetime:
  """When parameters were published; now if they are gone again."""
  try:
    modified = (entry.folder / MANIFEST).stat().st_mtime
  except FileNotFoundError:
    return datetime.now()
  return datetime.fromtimestamp(modified)


def _age(then: datetime) -> str:
  """Time since then: '0:12:07'."""
  return str(max(datetime.now() - then, timedelta())).split('.')[0]
