"""What a machine can do at best: the floor that a search is compared with.

A search multiplies every query with every block, and reads every block once a
batch. Neither can go faster than a large matrix product, or than reading memory
and doing nothing else, on the same machine at the same time.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_SIZE = {'cpu': 2048, 'gpu': 8192, 'tpu': 8192}
# Larger than any cache.
_READ_BYTES = {'cpu': 256 << 20, 'gpu': 4 << 30, 'tpu': 1 << 30}

PRODUCT, READ = 'matrix product', 'read'


class Probes:
  """Two calls to be timed, and the rates that their times mean."""

  def __init__(self, platform: str, dtype: str):
    """Makes their arrays.

    Args:
      platform: 'cpu', 'gpu' or 'tpu'. A CPU is probed with numpy, whose matrix
        product is the best there is to call; an accelerator with JAX.
      dtype: of the product on an accelerator; float32 on a CPU.
    """
    size = _SIZE[platform]
    num_read = _READ_BYTES[platform] // 4
    self._num_products = 2 * size**3
    self._num_bytes = 4 * num_read
    if platform == 'cpu':
      matrix = np.ones((size, size), np.float32)
      rows = np.ones((num_read // 128, 128), np.float32)
      vector = np.ones(128, np.float32)
      self.calls: dict[str, Callable[[], Any]] = {
        PRODUCT: lambda: matrix @ matrix,
        READ: lambda: rows @ vector,
      }
    else:
      # Random, because a GPU multiplies numbers that are all alike faster.
      keys = jax.random.split(jax.random.key(0))
      square = jax.random.normal(
        keys[0], (size, size), 'bfloat16' if dtype == 'int8' else dtype
      )
      numbers = jax.random.normal(keys[1], (num_read,), jnp.float32)
      product = jax.jit(lambda matrix: matrix @ matrix)
      total = jax.jit(jnp.sum)
      self.calls = {
        PRODUCT: lambda: product(square),
        READ: lambda: total(numbers),
      }

  def rates(self, product_seconds: float, read_seconds: float) -> dict:
    """Operations and bytes a second."""
    return {
      'flops_per_second': self._num_products / product_seconds,
      'bytes_per_second': self._num_bytes / read_seconds,
    }

  def floor(
    self,
    product_seconds: float,
    read_seconds: float,
    batch: int,
    num_blocks: int,
    embed_dim: int,
    itemsize: int,
  ) -> float:
    """Seconds that a search takes at least, by the times of both probes."""
    rates = self.rates(product_seconds, read_seconds)
    operations = 2 * batch * num_blocks * embed_dim
    num_bytes = num_blocks * embed_dim * itemsize
    return max(
      operations / rates['flops_per_second'],
      num_bytes / rates['bytes_per_second'],
    )
