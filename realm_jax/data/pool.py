"""Work for all cores of a machine, its results in order."""

import collections
import itertools
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from realm_jax.errors import UserError

_Item = TypeVar('_Item')
_Result = TypeVar('_Result')
_AHEAD = 3  # items a worker that are read before the first result is taken

_function: Callable[[Any], Any]  # of this process, made by _start


def num_cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # not on a Mac
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def ordered_map(
  make: Callable[[], Callable[[Any], _Result]],
  items: Iterable[_Item],
  workers: int,
) -> Iterator[tuple[_Item, _Result]]:
  """Applies a function to items in several processes.

  Args:
    make: () -> the function; called once in each process. It is sent there, as
      are the items, so all must be picklable.
    items: read a few ahead of the results, so that memory stays bounded.
    workers: processes; with 1 all is done in this one.

  Yields:
    Each item with its result, in order.

  Raises:
    UserError: a process was killed, most often for want of memory.
  """
  if workers == 1:
    function = make()
    for item in items:
      yield item, function(item)
    return
  items = iter(items)
  # Processes begin empty: a copy of this one would copy locks that its threads,
  # JAX's among them, may hold.
  context = multiprocessing.get_context('spawn')
  with ProcessPoolExecutor(workers, context, _start, (make,)) as pool:
    waiting: collections.deque[tuple[_Item, Future]] = collections.deque()
    try:
      while True:
        wanted = workers * _AHEAD - len(waiting)
        for item in itertools.islice(items, wanted):
          waiting.append((item, pool.submit(_apply, item)))
        if not waiting:
          return
        item, result = waiting.popleft()
        yield item, result.result()
    except BrokenProcessPool as error:
      raise UserError(
        f'One of {workers} worker processes was killed, expected all to live: '
        'the machine may have run out of memory. Run the command again, with '
        'fewer workers; it goes on where it was.'
      ) from error
    finally:
      pool.shutdown(wait=False, cancel_futures=True)


def _start(make: Callable[[], Callable[[Any], Any]]) -> None:
  global _function
  # One thread a worker: there are as many workers as cores.
  os.environ['TOKENIZERS_PARALLELISM'] = 'false'
  _function = make()


def _apply(item: Any) -> Any:
  return _function(item)
