"""Work in several processes."""

import os
import signal

import pytest

from realm_jax.data.pool import ordered_map
from realm_jax.errors import UserError


class Double:
  """Twice a number; 3 kills the process that should do it."""

  def __call__(self, number):
    if number == 3:
      os.kill(os.getpid(), signal.SIGKILL)
    return 2 * number


@pytest.mark.parametrize('workers', [1, 2])
def test_results_come_in_order_whatever_the_number_of_workers(workers):
  items = [5, 1, 4, 2, 8, 7, 6]
  results = list(ordered_map(Double, items, workers))
  assert results == [(item, 2 * item) for item in items]


def test_a_killed_worker_is_said_and_not_waited_for():
  with pytest.raises(UserError, match='One of 2 worker processes was killed'):
    list(ordered_map(Double, range(9), 2))
