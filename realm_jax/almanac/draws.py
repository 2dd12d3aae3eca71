"""Random draws that are the same bytes on every platform and version.

Only the raw output of a numpy bit generator is used, which numpy promises to
keep (the methods of Generator may change between versions), and integer
arithmetic after it. Every entity and every document has its own stream, so
nothing depends on the order in which others were made.
"""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar('T')
_MASK = (1 << 64) - 1


class Draws:
  """A stream of draws: splitmix64 (Steele et al., 2014) from one state."""

  def __init__(self, state: int):
    self._state = state

  def below(self, limit: int) -> int:
    """An integer from 0 to limit - 1."""
    self._state = state = (self._state + 0x9E3779B97F4A7C15) & _MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
    return ((state ^ (state >> 31)) * limit) >> 64

  def between(self, low: int, high: int) -> int:
    """An integer from low to high, both included."""
    return low + self.below(high - low + 1)

  def chance(self, percent: int) -> bool:
    """True in so many of a hundred cases."""
    return self.below(100) < percent

  def pick(self, options: Sequence[T]) -> T:
    """One of the options."""
    return options[self.below(len(options))]

  def shuffled(self, options: Sequence[T]) -> list[T]:
    """The options in random order (Fisher and Yates)."""
    result = list(options)
    for last in range(len(result) - 1, 0, -1):
      other = self.below(last + 1)
      result[last], result[other] = result[other], result[last]
    return result


def streams(key: Sequence[int], count: int) -> list[Draws]:
  """Independent streams.

  Args:
    key: non-negative integers that name the family of streams.
    count: how many streams.
  """
  generator = np.random.PCG64(np.random.SeedSequence(list(key)))
  return [Draws(state) for state in generator.random_raw(count).tolist()]
