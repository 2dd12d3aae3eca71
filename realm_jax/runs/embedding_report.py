"""What commands that embed blocks show, and what they say when stopped."""

import contextlib
import errno
import functools
import signal
import threading
from collections.abc import Iterator
from typing import Any

from realm_jax.costs.embedding import embedding_flops, product_rate
from realm_jax.errors import UserError
from realm_jax.models.realm import RealmConfig
from realm_jax.refresh.throughput import Throughput

# Less is no time to measure a machine for, and mostly compilation.
_SECONDS_TO_RATE = 10.0


def embedding_report(
  throughput: Throughput, model: RealmConfig, num_devices: int
) -> str:
  """A sentence: blocks and tokens a second, padding, share of the machine.

  Args:
    throughput: of what was embedded.
    model: that embedded it.
    num_devices: that shared the work.
  """
  if not throughput.num_blocks:
    return ''
  said = (
    f'{throughput.blocks_per_second:,.0f} blocks/s, '
    f'{throughput.tokens_per_second:,.0f} tokens/s, '
    f'{throughput.padding_share:.0%} padding'
  )
  if throughput.seconds >= _SECONDS_TO_RATE:
    rate = _product_rate(model, num_devices)
    if rate is not None:
      flops = embedding_flops(model, throughput.num_texts) / throughput.seconds
      said += f', {flops / rate:.0%} of the rate of matrix products here'
  return f'{said}.'


@functools.cache
def _product_rate(model: RealmConfig, num_devices: int) -> float | None:
  return product_rate(model, num_devices)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
  """SIGTERM ends a build as Ctrl-C does; both say how to go on.

  Raises:
    KeyboardInterrupt: with a message.
    UserError: the disk is full.
  """

  def interrupt(number: int, frame: Any) -> None:
    raise KeyboardInterrupt

  in_main = threading.current_thread() is threading.main_thread()
  previous = signal.signal(signal.SIGTERM, interrupt) if in_main else None
  try:
    yield
  except KeyboardInterrupt as error:
    raise KeyboardInterrupt(
      'stopped. What was embedded is kept: the same command goes on with it.'
    ) from error
  except OSError as error:
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
      raise
    raise UserError(
      f'The snapshot cannot be written: {error}. Free some space: the same '
      'command goes on with what was embedded.'
    ) from error
  finally:
    if in_main:
      signal.signal(signal.SIGTERM, previous)
