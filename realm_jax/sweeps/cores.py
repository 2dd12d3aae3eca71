"""The cores of this machine, shared among jobs that run at the same time."""

import contextlib
import importlib.util
import os
import queue
from collections.abc import Iterator
from importlib.metadata import entry_points

# How JAX finds what it computes with, where that is not the CPU.
_ACCELERATORS = ('jax_plugins', 'libtpu')


class Cores:
  """Lends each job as many cores as any other, and nobody else's.

  XLA starts as many threads as it may use cores. Two processes that may use
  both cores of a machine took 3.0 s for a training step; with one each, 2.6.

  Where an accelerator may compute, or the system pins no process, nothing is
  lent: the processes use all cores.
  """

  def __init__(self, num_jobs: int, pinned: bool = True):
    """Shares the cores that this process may use.

    Args:
      num_jobs: at a time; of more jobs than cores, several use one.
      pinned: False lends nothing: the jobs run elsewhere.
    """
    self._shares: queue.SimpleQueue[frozenset[int]] = queue.SimpleQueue()
    none = [frozenset[int]()] * num_jobs
    for share in _shares(num_jobs) if pinned else none:
      self._shares.put(share)

  @contextlib.contextmanager
  def lent(self) -> Iterator[frozenset[int]]:
    """The cores of one job, until it has ended; empty where none are lent."""
    share = self._shares.get()
    try:
      yield share
    finally:
      self._shares.put(share)


def pin(process_id: int, cores: frozenset[int]) -> None:
  """Lets a process that has just begun use these cores only; all if empty."""
  if cores:
    with contextlib.suppress(ProcessLookupError):  # it has ended already
      os.sched_setaffinity(process_id, cores)


def _shares(num_jobs: int) -> list[frozenset[int]]:
  if num_jobs == 1 or not _only_cpu() or not hasattr(os, 'sched_getaffinity'):
    return [frozenset()] * num_jobs
  cores = sorted(os.sched_getaffinity(0))
  # As many for each: how sums are split over threads, and so their last bits,
  # must not depend on which share a job happens to get.
  size = max(len(cores) // num_jobs, 1)
  starts = [i * size % len(cores) for i in range(num_jobs)]
  return [frozenset(cores[start : start + size]) for start in starts]


def _only_cpu() -> bool:
  """Whether JAX has nothing but the CPU; asking it would begin to use a GPU."""
  if os.environ.get('JAX_PLATFORMS') == 'cpu':
    return True
  found = any(importlib.util.find_spec(name) for name in _ACCELERATORS)
  return not found and not entry_points(group='jax_plugins')
