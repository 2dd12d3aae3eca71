"""Jobs of a sweep: which stages run together, where, and what came of them."""

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import NamedTuple

from realm_jax.errors import USER_ERRORS, UserError
from realm_jax.sweeps.cores import Cores, pin
from realm_jax.sweeps.stages import CellRun, Stage

# Of what a failed job has printed, so much is kept.
_KEPT = 20_000
# Processes that share an accelerator take the memory that they need; each would
# else take most of it at once. What the user has set stands.
_SHARED = {'XLA_PYTHON_CLIENT_PREALLOCATE': 'false'}


class Job(NamedTuple):
  """Stages that run one after the other in one process.

  Attributes:
    name: of letters, digits, dots and dashes: what {cell} stands for.
    stages: in order.
    needs: names of the jobs that must have been done.
  """

  name: str
  stages: tuple[Stage, ...]
  needs: frozenset[str]


def jobs_of(runs: Sequence[CellRun]) -> list[Job]:
  """The fewest jobs in which each stage is run once.

  A stage that several cells or seeds share is a job of its own; what is left of
  a cell with a seed is another.

  Args:
    runs: all cells with all seeds.

  Returns:
    Jobs, each after those that it needs.
  """
  users = Counter(stage.name for run in runs for stage in run.stages)
  job_of: dict[str, str] = {}
  members: dict[str, list[Stage]] = {}
  for run in runs:
    for stage in run.stages:
      if stage.name in job_of:
        continue
      name = stage.name if users[stage.name] > 1 else run.name
      job_of[stage.name] = name
      members.setdefault(name, []).append(stage)
  jobs = []
  for name, stages in members.items():
    inputs = {s.name for stage in stages for s in stage.inputs.values()}
    needs = {job_of[one] for one in inputs} - {name}
    jobs.append(Job(name, tuple(stages), frozenset(needs)))
  return list(_ordered(jobs))


def needed_for(runs: Sequence[CellRun], jobs: Sequence[Job]) -> list[Job]:
  """Those of the jobs of a sweep that have a stage of some of its cells."""
  names = {stage.name for run in runs for stage in run.stages}
  return [job for job in jobs if names & {stage.name for stage in job.stages}]


def _ordered(jobs: Sequence[Job]) -> Iterator[Job]:
  """Jobs after those they need; of those that could go, in the given order."""
  done: set[str] = set()
  left = list(jobs)
  while left:
    job = next(job for job in left if job.needs <= done)
    left.remove(job)
    done.add(job.name)
    yield job


def run_here(job: Job, stages: Path) -> None:
  """Runs a job in this process.

  Args:
    job: what to run.
    stages: folder of all stages.

  Raises:
    Whatever a stage raises; what is done of it is kept.
  """
  for stage in job.stages:
    stage.run(stages)


class Failure(NamedTuple):
  """Why a job was not done.

  Attributes:
    message: a line.
    log: file with the rest; None where it was not started.
  """

  message: str
  log: Path | None


Start = Callable[[Job], None]


def run_jobs(
  jobs: Sequence[Job],
  start: Start,
  num_workers: int,
  logs: Path,
  tell: Callable[[Job, Failure | None], None],
  stop: Callable[[], None] = lambda: None,
) -> dict[str, Failure]:
  """Runs jobs, each once those it needs are done.

  What fails leaves out those that need it, and does not end the others.

  Args:
    jobs: as jobs_of gives them.
    start: runs one; raises if it fails.
    num_workers: jobs at a time; with 1 they run in this thread.
    logs: folder for what failed jobs have printed; a job that is done now has
      no log there any more.
    tell: called after each job.
    stop: ends what start has running, when this is interrupted.

  Returns:
    Job name -> why it was not done.
  """
  failed: dict[str, Failure] = {}

  def finish(job: Job, failure: Failure | None) -> None:
    if failure is not None:
      failed[job.name] = failure
    else:
      _log(logs, job).unlink(missing_ok=True)
    tell(job, failure)

  try:
    if num_workers == 1:
      for job in jobs:
        finish(job, _blocked(job, failed) or _attempt(job, start, logs))
    else:
      _run_at_once(num_workers, jobs, start, logs, failed, finish, stop)
  except BaseException:
    stop()
    raise
  return failed


def _run_at_once(
  num_workers: int,
  jobs: Sequence[Job],
  start: Start,
  logs: Path,
  failed: dict[str, Failure],
  finish: Callable[[Job, Failure | None], None],
  stop: Callable[[], None],
) -> None:
  """Runs several jobs at a time, each in a thread; see run_jobs.

  Args:
    num_workers: how many.
    jobs: as run_jobs has them.
    start: as run_jobs has it.
    logs: as run_jobs has it.
    failed: job name -> why it was not done; `finish` adds to it.
    finish: called in this thread when a job has ended or cannot start.
    stop: as run_jobs has it.
  """
  waiting, done = list(jobs), set[str]()
  running: dict[Future, Job] = {}
  with ThreadPoolExecutor(num_workers) as pool:
    try:
      while waiting or running:
        for job in list(waiting):
          blocked = _blocked(job, failed)
          if blocked:
            waiting.remove(job)
            finish(job, blocked)
          elif job.needs <= done and len(running) < num_workers:
            waiting.remove(job)
            running[pool.submit(_attempt, job, start, logs)] = job
        for future in wait(running, return_when=FIRST_COMPLETED).done:
          job = running.pop(future)
          finish(job, future.result())
          if job.name not in failed:
            done.add(job.name)
    except BaseException:
      stop()  # the pool waits for what is running
      raise


def _blocked(job: Job, failed: dict[str, Failure]) -> Failure | None:
  """Why a job cannot start: one that it needs has failed."""
  missing = sorted(job.needs & failed.keys())
  if not missing:
    return None
  return Failure(f'not started, as it needs {missing[0]}, which failed', None)


def _attempt(job: Job, start: Start, logs: Path) -> Failure | None:
  """Runs a job; what it raises goes to its log."""
  try:
    start(job)
  except Exception as error:
    known = isinstance(error, USER_ERRORS)
    text = str(error) if known else traceback.format_exc()
    logs.mkdir(parents=True, exist_ok=True)
    path = _log(logs, job)
    path.write_text(text[-_KEPT:] + '\n', encoding='utf-8')
    lines = [line for line in str(error).splitlines() if line.strip()]
    return Failure(lines[-1] if lines else type(error).__name__, path)
  return None


def _log(logs: Path, job: Job) -> Path:
  return logs / f'{job.name}.txt'


class Processes:
  """Runs each job in a process of its own, perhaps on another machine."""

  def __init__(
    self, own: Sequence[str], launcher: str | None, num_workers: int = 1
  ):
    """Keeps its arguments.

    Args:
      own: command that runs this sweep, to which `--only JOB` is added.
      launcher: command that is run in its place, with {cell} for the name of
        the job: it must return when the job has ended, with status 0 if that is
        done.
      num_workers: most jobs at a time; without a launcher they share the cores.

    Raises:
      UserError: the launcher has no {cell}, or cannot be read as a command.
    """
    self._own = list(own)
    self._launcher: list[str] | None = None
    self._cores = Cores(num_workers, pinned=launcher is None)
    self._running: set[subprocess.Popen] = set()
    self._lock = threading.Lock()
    if launcher is not None:
      try:
        self._launcher = shlex.split(launcher)
      except ValueError as error:
        raise UserError(f'--launcher {launcher!r}: {error}.') from error
      if not any('{cell}' in word for word in self._launcher):
        raise UserError(
          f'--launcher is {launcher!r}, expected a command with {{cell}} in '
          "it: 'srun realm-jax sweep --gin FILE --out OUT --only {cell}'."
        )

  def __call__(self, job: Job) -> None:
    """Runs a job and waits for it.

    Raises:
      RuntimeError: with what it printed, if it ends with another status than 0.
      FileNotFoundError: there is no such command.
    """
    command = [*self._own, '--only', job.name]
    if self._launcher is not None:
      command = [w.replace('{cell}', job.name) for w in self._launcher]
    with self._cores.lent() as cores:
      process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors='replace',
        env=_SHARED | os.environ,
        # A group of its own, so that what it starts can be stopped with it.
        start_new_session=True,
      )
      pin(process.pid, cores)
      with self._lock:
        self._running.add(process)
      printed, _ = process.communicate()
      with self._lock:
        self._running.discard(process)
    if process.returncode:
      raise RuntimeError(
        f'{shlex.join(command)}\nended with status {process.returncode}:\n'
        + printed[-_KEPT:]
      )

  def stop(self) -> None:
    """Asks what is running to save and end."""
    with self._lock:
      for process in self._running:
        with contextlib.suppress(ProcessLookupError):
          os.killpg(process.pid, signal.SIGTERM)


def own_command(arguments: Sequence[str]) -> list[str]:
  """The command line that runs `realm-jax sweep` with this interpreter."""
  return [sys.executable, '-m', 'realm_jax.cli', 'sweep', *arguments]
