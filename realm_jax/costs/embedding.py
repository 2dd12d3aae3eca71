"""What embedding blocks takes of a machine."""

from collections.abc import Mapping

import jax

from realm_jax.costs.accelerators import at_hand, find
from realm_jax.costs.work import embedder_work
from realm_jax.errors import UserError
from realm_jax.models.realm import RealmConfig


def embedding_flops(model: RealmConfig, num_texts: Mapping[int, int]) -> float:
  """Matrix products of embedding texts, padding included.

  Args:
    model: sizes.
    num_texts: padded length -> texts of that length.
  """
  return sum(
    embedder_work(model, num, length, train=False).flops
    for length, num in num_texts.items()
  )


def product_rate(model: RealmConfig, num_devices: int) -> float | None:
  """Products a second of the devices at hand, in the model's dtype.

  A CPU is measured, which takes a second or two; of an accelerator it is what
  `realm-jax plan` reckons with. None for one that is not known.

  Args:
    model: whose encoder's dtype counts.
    num_devices: that share the work; those of a CPU are one processor.
  """
  try:
    accelerator = find(at_hand())
  except UserError:
    return None
  dtype = model.encoder.dtype
  wide = dtype in ('float32', 'float64')
  rate = accelerator.flops_per_second
  rate *= accelerator.float32_share if wide else 1.0
  on_cpu = jax.local_devices()[0].platform == 'cpu'
  return rate * (1 if on_cpu else num_devices)
