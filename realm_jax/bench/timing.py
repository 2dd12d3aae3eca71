"""Times of contenders on a machine that is shared: in turn, round by round.

What else runs on a machine slows all that is measured in the same round, and so
leaves ratios alone that absolute times would lose.
"""

import os
import platform
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax

# Seconds. Threads of numpy and FAISS go on spinning when their work is done,
# and would be in the way of whoever is next.
_REST = 0.2


def machine() -> dict[str, Any]:
  """What figures were measured on: JSON values."""
  device = jax.local_devices()[0]
  return {
    'device': getattr(device, 'device_kind', device.platform),
    'processor': platform.processor() or platform.machine(),
    'cores': os.cpu_count(),
    'jax': jax.__version__,
  }


def time_in_turn(
  calls: Mapping[Any, Callable[[], Any]], rounds: int, warm: bool = False
) -> dict[Any, list[float]]:
  """Calls everything once for every round, in order.

  Args:
    calls: name -> what to time. Called once before the first round, to compile
      and to fill caches. JAX arrays that it returns are waited for.
    rounds: how many.
    warm: call everything once more, untimed, before it is timed: buffers that
      lay idle during the turns of others may have gone back to the system, and
      work that goes on and on, such as training, does not lose them.

  Returns:
    name -> [rounds] seconds.
  """
  for call in calls.values():
    jax.block_until_ready(call())
  seconds: dict[Any, list[float]] = {name: [] for name in calls}
  for _ in range(rounds):
    for name, call in calls.items():
      time.sleep(_REST)
      if warm:
        jax.block_until_ready(call())
      start = time.perf_counter()
      jax.block_until_ready(call())
      seconds[name].append(time.perf_counter() - start)
  return seconds
