"""Attention of some positions to all: by XLA's products, or in one kernel.

    xla    scores, softmax, dropout and context, on any backend; on a CPU a few
           texts at a time
    fused  cuDNN's flash attention on NVIDIA GPUs, which never holds the scores

The fused kernel has no dropout of its own that changes from step to step, and
computes in 16 bits only. On TPUs there is no fused one here: Pallas's kernels
want lengths in multiples of 128, where 288 and 96 are REALM's.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from realm_jax.errors import UserError
from realm_jax.models.layers import lowest_if_none
from realm_jax.types import Array

ATTENTIONS = ('auto', 'xla', 'fused')

_FUSED_DTYPES = ('bfloat16', 'float16')
_FUSED_HEAD_MULTIPLE, _FUSED_HEAD_MAX = 8, 128
# The first GPUs that cuDNN's flash attention runs on: compute capability 8.0.
_FUSED_CAPABILITY = 8
# Shorter texts have few scores; with 'auto' XLA has them.
_FUSED_LENGTH = 64
# Fewer scores are computed at once, more in as many parts as this.
_SCORES_IN_ONE, _NUM_PARTS = 1 << 20, 8


def fused_problem(
  dtype: str, head_size: int, dropout_rate: float
) -> str | None:
  """What rules fused attention out on any device, in words; None: nothing."""
  if dtype not in _FUSED_DTYPES:
    return f'dtype is {dtype}, expected one of {", ".join(_FUSED_DTYPES)}'
  if head_size % _FUSED_HEAD_MULTIPLE or head_size > _FUSED_HEAD_MAX:
    return (
      f'a head is {head_size} wide, expected a multiple of '
      f'{_FUSED_HEAD_MULTIPLE} of at most {_FUSED_HEAD_MAX}'
    )
  if dropout_rate:
    return f'attention_dropout_rate is {dropout_rate}, expected 0'
  return None


def _has_fused_kernel() -> bool:
  """Whether the default device is a GPU that fused attention runs on."""
  capability = str(getattr(jax.local_devices()[0], 'compute_capability', ''))
  major = capability.partition('.')[0]  # '9.0'; ROCm has 'gfx90a'
  return major.isdigit() and int(major) >= _FUSED_CAPABILITY


def is_fused(
  choice: str,
  dtype: str,
  head_size: int,
  dropout_rate: float,
  num_positions: int,
  length: int,
) -> bool:
  """Whether attention is to be fused.

  With 'auto' it is where it can be, texts are not short, and there is one
  device: on several it is untested. A layer that is computed at some positions
  only is never fused: it has few scores.

  Args:
    choice: one of ATTENTIONS.
    dtype: of the arithmetic.
    head_size: width of a head.
    dropout_rate: of attention in this call; 0 outside training.
    num_positions: positions that attend.
    length: positions that are attended to.

  Raises:
    UserError: it is asked for, and the device or the arguments rule it out.
  """
  if choice == 'xla' or num_positions < length:
    return False
  problem = fused_problem(dtype, head_size, dropout_rate)
  if problem is None and not _has_fused_kernel():
    problem = (
      f'the device is {jax.local_devices()[0].device_kind}, expected an NVIDIA '
      f'GPU of compute capability {_FUSED_CAPABILITY}.0 or later'
    )
  if choice == 'auto':
    return not problem and length >= _FUSED_LENGTH and jax.device_count() == 1
  if problem:
    raise UserError(
      f"EncoderConfig.attention is 'fused', but {problem}. Set it to 'auto' "
      'for fused attention only where there is one.'
    )
  return True


def attend_fused(query: Array, key: Array, value: Array, mask: Array) -> Array:
  """Attention in one kernel, without dropout.

  Args:
    query: [batch, length, num_heads, head_size].
    key: as query.
    value: as query.
    mask: [batch, length] bool; true at real tokens, which are the first ones.
      A text without any is attended to at its first position.

  Returns:
    [batch, length, num_heads, head_size] in the dtype of query.
  """
  lengths = jnp.maximum(mask.sum(axis=-1, dtype=jnp.int32), 1)
  return jax.nn.dot_product_attention(
    query, key, value, key_value_seq_lengths=lengths, implementation='cudnn'
  )


def num_parts(batch: int, num_scores: int) -> int:
  """In how many parts attention is best computed by XLA, a batch at most.

  Args:
    batch: texts.
    num_scores: of all of them.
  """
  alone_on_cpu = jax.default_backend() == 'cpu' and jax.device_count() == 1
  if alone_on_cpu and num_scores >= _SCORES_IN_ONE:
    return min(batch, _NUM_PARTS)
  return 1


def attend_in_parts(
  query: Array,
  key: Array,
  value: Array,
  mask: Array,
  kept: Array | None,
  attend_part: Callable[..., Array],
  parts: int,
) -> Array:
  """Attention of some texts at a time: the numbers are the same.

  A CPU finds the scores of a part in its cache in the next pass over them, and
  computes parts side by side, where XLA has one product of many small matrices
  on one core at a time. On a mesh it would tear apart what lies on one device.

  Args:
    query: as all others but parts, as `attend` has it.
    key: the same.
    value: the same.
    mask: the same.
    kept: the same.
    attend_part: `attend` of the arguments above.
    parts: how many; at most batch.
  """
  arrays = (query, key, value, mask, kept)
  batch = query.shape[0]
  stops = [batch * (number + 1) // parts for number in range(parts)]
  slices = [
    slice(start, stop) for start, stop in zip([0, *stops], stops, strict=False)
  ]
  return jnp.concatenate(
    [
      attend_part(*(None if a is None else a[part] for a in arrays))
      for part in slices
    ]
  )


def attend(
  query: Array,
  key: Array,
  value: Array,
  mask: Array,
  kept: Array | None,
  mask_bias: float | None,
  dropout: Callable[[Array, Array | None], Array],
) -> Array:
  """Attention by XLA.

  Args:
    query: [batch, num_positions, num_heads, head_size].
    key: [batch, length, num_heads, head_size].
    value: as key.
    mask: [batch, length] bool; true at real tokens.
    kept: [batch, num_heads, num_positions, length] bool; the weights that
      dropout keeps. None: all.
    mask_bias: added to the scores of padding; see EncoderConfig.
    dropout: (weights, kept) -> what is left of the weights.

  Returns:
    [batch, num_positions, num_heads, head_size] in the dtype of value. Scores
    and softmax are in float32 at least.
  """
  dtype = jnp.promote_types(query.dtype, jnp.float32)
  # [batch, 1, 1, length]
  bias = jnp.where(mask, 0, lowest_if_none(mask_bias, dtype))[:, None, None, :]
  # [batch, num_heads, num_positions or length, head_size]
  query, key, value = (array.swapaxes(1, 2) for array in (query, key, value))
  # [batch, num_heads, num_positions, length]
  scores = bias + jnp.einsum(
    'bhqd,bhkd->bhqk',
    query * query.shape[-1] ** -0.5,
    key,
    preferred_element_type=dtype,
  )
  highest = scores.max(axis=-1, keepdims=True)
  weights = jnp.exp(scores - jax.lax.stop_gradient(highest))
  totals = weights.sum(axis=-1, keepdims=True)
  # The softmax's division comes after the sum over values, where there is less
  # to divide, forwards and backwards.
  context = jnp.einsum(
    'bhqk,bhkd->bhqd',
    dropout(weights, kept).astype(value.dtype),
    value,
    preferred_element_type=dtype,
  )
  return (context / totals).astype(value.dtype).swapaxes(1, 2)
