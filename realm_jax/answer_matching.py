"""Where answers lie in token sequences, on the device.

What ORQA's custom C++ operation does, as plain JAX over fixed shapes.
"""

import jax.numpy as jnp

from realm_jax.types import Array


def match_answers(
  token_ids: Array, mask: Array, answer_ids: Array, answer_lens: Array
) -> Array:
  """Marks the positions at which an answer begins.

  Args:
    token_ids: [batch, n, length] int32; blocks or joint sequences.
    mask: [batch, n, length] int or bool; the whole answer must lie on true
      positions.
    answer_ids: [batch, num_answers, answer_len] int32, zero-padded.
    answer_lens: [batch, num_answers] int32; 0 for a slot without an answer,
      which matches nowhere.

  Returns:
    [batch, n, length, num_answers] bool.
  """
  length, answer_len = token_ids.shape[-1], answer_ids.shape[-1]
  token_ids = jnp.where(mask.astype(bool), token_ids, -1)
  padded = jnp.pad(
    token_ids, ((0, 0), (0, 0), (0, answer_len)), constant_values=-1
  )
  matches = (answer_lens > 0)[:, None, None, :]
  for offset in range(answer_len):
    # [batch, n, length, num_answers]
    equal = (
      padded[:, :, offset : offset + length, None]
      == answer_ids[:, None, None, :, offset]
    )
    beyond = (offset >= answer_lens)[:, None, None, :]
    matches = matches & (equal | beyond)
  return matches


def right_spans(
  token_ids: Array,
  mask: Array,
  answer_ids: Array,
  answer_lens: Array,
  max_span_width: int,
) -> Array:
  """Marks the spans that equal an answer, at any occurrence.

  Args:
    token_ids: [batch, n, length] int32.
    mask: [batch, n, length] int or bool; where an answer may lie.
    answer_ids: [batch, num_answers, answer_len] int32.
    answer_lens: [batch, num_answers] int32.
    max_span_width: wordpieces in the widest span; wider answers match nothing.

  Returns:
    [batch, n, num_spans] bool, spans by width, then start.
  """
  length = token_ids.shape[-1]
  matches = match_answers(token_ids, mask, answer_ids, answer_lens)
  by_width = []
  for width in range(1, min(max_span_width, length) + 1):
    of_width = (answer_lens == width)[:, None, None, :]
    by_width.append(
      (matches & of_width).any(axis=-1)[..., : length - width + 1]
    )
  return jnp.concatenate(by_width, axis=-1)
