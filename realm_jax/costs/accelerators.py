"""What accelerators can do: datasheets, and what was measured on them.

A rate that nobody measured here is the datasheet's times an assumed share.
"""

import dataclasses
import statistics

import jax

from realm_jax.bench.floors import PRODUCT, READ, Probes
from realm_jax.bench.timing import time_in_turn
from realm_jax.costs.work import Work
from realm_jax.errors import UserError
from realm_jax.index.memory import free_host_bytes
from realm_jax.models.attention import fused_problem
from realm_jax.models.encoder import EncoderConfig

_GB = 10**9
_MIB = 1 << 20
# What large products and long copies reach of a datasheet's figures: on H100
# and H200 they were measured at 0.80 and 0.90.
_PRODUCT_SHARE, _COPY_SHARE = 0.8, 0.85
# A pass on a CPU beside a pass that only reads: it writes as well, and computes
# exponentials and random bits. Fitted to steps (experiments/plan).
_CPU_PASS_SHARE = 1 / 3
# The same on a GPU, beside a copy; slow products of attention and many small
# kernels are in it. Between what a step and what embedding took on an H200
# (experiments/accelerator).
_GPU_PASS_SHARE = 1 / 2
_PASSES = f'other passes at {_GPU_PASS_SHARE:.0%} of the rate of copies'
_DATASHEET = (
  f'datasheet; assumed reachable: {_PRODUCT_SHARE:.0%} of the products, '
  f'{_COPY_SHARE:.0%} of the bandwidth'
)


@dataclasses.dataclass(frozen=True)
class Accelerator:
  """One device.

  Attributes:
    name: as `plan --accelerator` has it.
    memory_bytes: of the device; None where it cannot be told.
    peak_flops: bfloat16 products a second, by the datasheet; None on a CPU.
    flops_per_second: reached by large bfloat16 products.
    float32_share: of that, with float32 operands as JAX multiplies them by
      default: TF32 on GPUs, one bfloat16 pass on TPUs.
    bytes_per_second: reached by passes beside the products, reading and writing
      counted.
    source: which of these were measured, and where.
    has_fused_attention: whether models.attention has a kernel for it.
  """

  name: str
  memory_bytes: float | None
  peak_flops: float | None
  flops_per_second: float
  float32_share: float
  bytes_per_second: float
  source: str
  has_fused_attention: bool = False

  def fuses(
    self, config: EncoderConfig, num_devices: int, training: bool
  ) -> bool:
    """Whether attention is one kernel, as models.attention.is_fused has it.

    Args:
      config: of the encoder.
      num_devices: how many there are.
      training: with dropout.
    """
    dropout_rate = config.attention_dropout_rate if training else 0
    if config.attention == 'xla' or not self.has_fused_attention:
      return False
    if fused_problem(config.dtype, config.head_size, dropout_rate):
      return False
    return config.attention == 'fused' or num_devices == 1

  def seconds(self, work: Work, dtype: str, num_devices: int = 1) -> float:
    """Time of some work, evenly spread, nothing overlapping.

    Args:
      work: on all devices together.
      dtype: of the products' operands.
      num_devices: how many share it.
    """
    share = self.float32_share if dtype in ('float32', 'float64') else 1.0
    products = work.flops / (self.flops_per_second * share)
    return (products + work.num_bytes / self.bytes_per_second) / num_devices


def _from_datasheet(
  name: str,
  gigabytes: float,
  teraflops: float,
  gigabytes_per_second: float,
  float32_share: float,
) -> Accelerator:
  is_gpu = name.startswith('a100')
  return Accelerator(
    name,
    gigabytes * _GB,
    teraflops * 1e12,
    teraflops * 1e12 * _PRODUCT_SHARE,
    float32_share,
    gigabytes_per_second
    * 1e9
    * _COPY_SHARE
    * (_GPU_PASS_SHARE if is_gpu else 1),
    f'{_DATASHEET}; {_PASSES}' if is_gpu else _DATASHEET,
    has_fused_attention=is_gpu,
  )


def _hopper(
  name: str, mebibytes: int, teraflops: float, gigabytes_per_second: float
) -> Accelerator:
  return Accelerator(
    name,
    mebibytes * _MIB,
    989e12,
    teraflops * 1e12,
    0.5,
    gigabytes_per_second * 1e9 * _GPU_PASS_SHARE,
    'products, copies and memory measured on one such card (8192-wide '
    f'bfloat16); {_PASSES}; peak and TF32 by datasheet',
    has_fused_attention=True,
  )


ACCELERATORS = {
  found.name: found
  for found in (
    _hopper('h100', 81_559, 798, 3000),
    _hopper('h200', 143_771, 788, 4300),
    _from_datasheet('a100', 80, 312, 2039, 0.5),
    _from_datasheet('a100-40gb', 40, 312, 1555, 0.5),
    _from_datasheet('v3', 32, 123, 900, 1.0),
    _from_datasheet('v4', 32, 275, 1200, 1.0),
    _from_datasheet('v5e', 16, 197, 819, 1.0),
    _from_datasheet('v5p', 95, 459, 2765, 1.0),
    _from_datasheet('v6e', 32, 918, 1640, 1.0),
  )
}

CPU = 'cpu'
_PASS_SHARES = {CPU: _CPU_PASS_SHARE, 'gpu': _GPU_PASS_SHARE}
NAMES = (CPU, *ACCELERATORS)


def probed(platform: str, rates: dict[str, float]) -> Accelerator:
  """A device by rates that were measured on it, as Probes gives them."""
  on_cpu = platform == CPU
  return Accelerator(
    platform,
    # Its memory is what is free, where that can be told.
    free_host_bytes() if on_cpu else None,
    None,
    rates['flops_per_second'],
    1.0,  # measured in the dtype itself
    rates['bytes_per_second'] * _PASS_SHARES.get(platform, 1.0),
    'measured now; memory: what is free now',
    has_fused_attention=not on_cpu,
  )


def measured_cpu(rounds: int = 3) -> Accelerator:
  """This machine's processor, probed now: a second or two."""
  probes = Probes(CPU, 'float32')
  seconds = time_in_turn(probes.calls, rounds)
  rates = probes.rates(
    statistics.median(seconds[PRODUCT]), statistics.median(seconds[READ])
  )
  return probed(CPU, rates)


def find(name: str) -> Accelerator:
  """An accelerator by its name; 'cpu' is measured on the spot.

  Raises:
    UserError: it is not in the table.
  """
  if name == CPU:
    return measured_cpu()
  if name not in ACCELERATORS:
    raise UserError(
      f'{name!r} is no accelerator that plan knows, expected one of '
      f'{", ".join(NAMES)}.'
    )
  return ACCELERATORS[name]


def peak_at_hand() -> float | None:
  """bfloat16 products a second of the first device, by its datasheet."""
  if jax.local_devices()[0].platform == CPU:
    return None
  try:
    return ACCELERATORS[at_hand()].peak_flops
  except UserError:
    return None


def at_hand() -> str:
  """The name of what JAX has as its first device.

  Raises:
    UserError: it is not in the table.
  """
  device = jax.local_devices()[0]
  if device.platform == CPU:
    return CPU
  kind = device.device_kind.lower().replace(' lite', 'e')
  if kind == 'tpu v5':
    return 'v5p'
  # The longest first: an A100 of 40 GB is an A100 as well.
  for name in sorted(ACCELERATORS, key=len, reverse=True):
    if all(part in kind for part in name.split('-')):
      return name
  raise UserError(
    f'The device at hand, {device.device_kind}, is not one that plan knows. '
    f'Name one that is like it with --accelerator: {", ".join(NAMES)}.'
  )
