"""Several processes, one on each host, that run one stage together.

All of them call the same function with the same settings. JAX makes one set of
devices of theirs; each process makes its own rows of every batch, and what the
devices compute is whole. Process 0 writes the files, which all read: their
folders lie on a file system that they share. With one process everything here
does nothing.

A process that fails ends at once; the others then fail in the next computation
that they share, or are ended by JAX within two minutes, however they wait.
"""

import contextlib
import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from realm_jax.errors import USER_ERRORS, UserError
from realm_jax.settings import as_json, differences

# Hosts of a pod are not started at the same moment.
_START_SECONDS = 300
# Process 0 keeps the others connected, and leaves after them.
_LEAVE_SECONDS = 3
_TEXT_SIZE = 4096
_FLAGS = '--coordinator, --num-processes and --process-id'


def are_several() -> bool:
  """Whether there are other processes."""
  return jax.process_count() > 1


def is_first() -> bool:
  """Whether this process is the one that writes files and says things."""
  return jax.process_index() == 0


def name() -> str:
  """What to call this process in a message."""
  return f'process {jax.process_index()} of {jax.process_count()}'


def start(
  coordinator: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
  seconds: float = _START_SECONDS,
) -> None:
  """Joins the other processes; before anything else is done with JAX.

  Args:
    coordinator: host and port at which process 0 can be reached; None where
      the cluster says all three: a TPU pod, Slurm, Kubernetes, Open MPI.
    num_processes: in all.
    process_id: of this one, from 0.
    seconds: to wait for the others; then the program ends with a message and
      status 2.

  Raises:
    UserError: some arguments are missing or out of range, or there is no such
      cluster.
  """
  given = (coordinator, num_processes, process_id)
  if any(argument is not None for argument in given):
    _check(*given)
  if num_processes == 1:
    return
  if coordinator is not None and process_id == 0:
    _check_port(coordinator)
  with _time_limit(*given, seconds):
    try:
      jax.distributed.initialize(
        *given,
        # JAX would end the program with a stack trace.
        initialization_timeout=int(seconds) + 60,
      )
    except ValueError as error:
      if coordinator is not None:
        raise
      raise UserError(
        'This is not a TPU pod, nor a job of Slurm, Kubernetes or Open MPI '
        f'that JAX knows ({error}). Say where the processes are with {_FLAGS}.'
      ) from error


def _check(
  coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
  if coordinator is None or num_processes is None or process_id is None:
    raise UserError(f'{_FLAGS} go together: give all three.')
  host, _, port = coordinator.rpartition(':')
  if not host or not port.isdecimal():
    raise UserError(
      f'--coordinator is {coordinator!r}, expected HOST:PORT, where process 0 '
      'can be reached by the others, such as 10.0.0.1:1234.'
    )
  if num_processes < 1:
    raise UserError(f'--num-processes is {num_processes}, expected 1 or more.')
  if not 0 <= process_id < num_processes:
    raise UserError(
      f'--process-id is {process_id}, expected 0 to {num_processes - 1}: '
      f'--num-processes is {num_processes}.'
    )


@contextlib.contextmanager
def _time_limit(
  coordinator: str | None,
  num_processes: int | None,
  process_id: int | None,
  seconds: float,
) -> Iterator[None]:
  """Ends the program with a message if the others have not come by then."""

  def end() -> None:
    if coordinator is None or num_processes is None:
      advice = 'Start the command on all hosts of the cluster.'
    elif process_id and not _can_be_reached(coordinator):
      advice = (
        f'Nothing answers at {coordinator}: start process 0 there, with a port '
        'that the other hosts can reach.'
      )
    else:
      advice = (
        f'Start {num_processes} processes with this --coordinator, and with '
        f'--process-id 0 to {num_processes - 1}.'
      )
    print(
      'realm-jax: the other processes have not come within '
      f'{seconds:.0f} seconds. {advice}',
      file=sys.stderr,
      flush=True,
    )
    os._exit(2)

  timer = threading.Timer(seconds, end)
  timer.daemon = True
  timer.start()
  try:
    yield
  finally:
    timer.cancel()


def _check_port(address: str) -> None:
  """Raises UserError where JAX would crash: another program has the port."""
  if 'JAX_COORDINATOR_BIND_ADDRESS' in os.environ:
    return  # listens elsewhere
  try:
    socket.create_server(('', int(address.rpartition(':')[2]))).close()
  except (OSError, OverflowError) as error:
    raise UserError(
      f'--coordinator is {address}, but process 0 cannot listen at that port '
      f'({error}). Choose another port.'
    ) from error


def _can_be_reached(address: str) -> bool:
  host, _, port = address.rpartition(':')
  try:
    with socket.create_connection((host, int(port)), timeout=5):
      return True
  except OSError:
    return False


def leave(status: int) -> NoReturn:
  """Ends a process that has failed without waiting for the others to end."""
  sys.stdout.flush()
  sys.stderr.flush()
  if is_first():
    # Others that fail for the same reason can still say so.
    time.sleep(_LEAVE_SECONDS)
  os._exit(status)


def by_first(function: Callable[[], Any]) -> Any:
  """Calls a function in process 0 while the others wait for it.

  Args:
    function: returns JSON values, or raises an error.

  Returns:
    What it returned, in all processes.

  Raises:
    UserError: it raised one; in all processes, as is any other error.
  """
  if not are_several():
    return function()
  answer: dict[str, Any] = {}
  raised: Exception | None = None
  if is_first():
    try:
      answer['value'] = function()
    except Exception as error:
      raised = error
      kind = 'user_error' if isinstance(error, USER_ERRORS) else 'error'
      answer[kind] = str(error) or type(error).__name__
  answer = json.loads(_texts(json.dumps(answer))[0])
  if raised is not None:
    raise raised
  if 'user_error' in answer:
    raise UserError(answer['user_error'])
  if 'error' in answer:
    raise RuntimeError(f'Process 0 failed: {answer["error"]}')
  return answer['value']


def part_of(rows: np.ndarray) -> np.ndarray:
  """The rows that are this process's to work on, as many in each process.

  Args:
    rows: [num_rows, ...], the same in all; the last are repeated where the
      processes do not divide their number.
  """
  if not are_several():
    return rows
  size = -(-len(rows) // jax.process_count())
  first = jax.process_index() * size
  return rows[np.minimum(np.arange(first, first + size), len(rows) - 1)]


def join_parts(part: Any, num_rows: int) -> np.ndarray:
  """What was made of each part_of num_rows, in all processes."""
  return multihost_utils.process_allgather(np.asarray(part), tiled=True)[
    :num_rows
  ]


def as_numpy(array: Any) -> np.ndarray:
  """A whole array, also of one that lies on devices of other processes too.

  All processes do this together.
  """
  if isinstance(array, jax.Array) and not array.is_fully_addressable:
    return multihost_utils.process_allgather(array, tiled=True)
  return np.asarray(array)


def check_same(
  what: str, settings: dict[str, Any], ignored: tuple[str, ...] = ()
) -> None:
  """Raises UserError in all processes if they were given other settings.

  Args:
    what: the settings are, for the message.
    settings: JSON values and dataclasses.
    ignored: keys, at any depth, whose values may differ.
  """
  if not are_several():
    return
  first, *others = map(json.loads, _texts(json.dumps(as_json(settings))))
  for number, other in enumerate(others, 1):
    lines = [
      f'{path}: {old!r} in process 0, {new!r} in process {number}'
      for path, old, new in differences(first, other, ignored)
    ]
    if lines:
      raise UserError(
        f'Process {number} was given another {what} than process 0:\n  '
        + '\n  '.join(lines)
        + '\nGive all processes the same settings.'
      )


def asked_to_stop(step: int) -> bool:
  """Whether a process was sent SIGTERM; true at one step in all of them.

  JAX listens for the signal, and lets the processes agree in the background on
  a step that none of them has reached. Costs less than a microsecond.

  Args:
    step: updates done; to be asked after each.
  """
  return are_several() and multihost_utils.reached_preemption_sync_point(step)


def _texts(text: str) -> list[str]:
  """The texts of all processes, in their order."""
  data = np.frombuffer(text.encode(), np.uint8)
  lengths = multihost_utils.process_allgather(np.int32(len(data)))
  # Of few sizes, for each is compiled.
  size = max(_TEXT_SIZE, 1 << int(lengths.max() - 1).bit_length())
  padded = np.zeros(size, np.uint8)
  padded[: len(data)] = data
  return [
    row[:length].tobytes().decode()
    for row, length in zip(
      multihost_utils.process_allgather(padded), lengths, strict=True
    )
  ]
