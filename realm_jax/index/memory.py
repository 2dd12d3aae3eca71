"""Running out of memory, foreseen: what is needed against what is free."""

import jax

from realm_jax.errors import UserError

_GIB = 1 << 30


def free_host_bytes() -> int | None:
  """Memory that the host can still give; None where that cannot be told."""
  try:
    with open('/proc/meminfo', encoding='ascii') as lines:
      for line in lines:
        if line.startswith('MemAvailable:'):
          return int(line.split()[1]) * 1024
  except OSError:
    pass
  return None


def free_device_bytes(device: jax.Device) -> int | None:
  """Memory that a device can still give; None where that cannot be told."""
  if device.platform == 'cpu':
    return free_host_bytes()
  stats = device.memory_stats()
  if not stats or 'bytes_limit' not in stats:
    return None
  return stats['bytes_limit'] - stats.get('bytes_in_use', 0)


def check_free(
  needed_bytes: int, free_bytes: int | None, what: str, advice: str
) -> None:
  """Raises UserError if more is needed than is free.

  Args:
    needed_bytes: an estimate.
    free_bytes: None where it is not known; nothing is refused then.
    what: what needs it, the subject of the message.
    advice: what to do, a sentence.
  """
  if free_bytes is not None and needed_bytes > free_bytes:
    raise UserError(
      f'{what} needs about {needed_bytes / _GIB:,.2f} GiB, but '
      f'{free_bytes / _GIB:,.2f} GiB are free. {advice}'
    )
