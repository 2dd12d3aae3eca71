"""Initial weights from which a small reader soon learns to copy.

From BERT's random weights a reader of two layers needs thousands of steps
before it copies anything from a document: attention must learn where to look
and values must learn to carry a word's identity, and neither pays before the
other is there. Here values carry identity from the start, so that looking pays
at once, and positions are sinusoids, so that neighbours look alike. In the
spirit of mimetic initialisation (Trockman and Kolter, 2023). Nothing else of
the architecture changes, and pretrained weights do not need it.
"""

from typing import Any

import jax
import jax.numpy as jnp

from realm_jax.models.encoder import EncoderConfig
from realm_jax.types import Array

_NOISE = 0.02
# Wavelengths up to about the length of a joint sequence.
_LONGEST_WAVE = 200.0


def copying_init(reader: Any, config: EncoderConfig, rng: Array) -> Any:
  """Replaces some of a reader's new weights.

  Args:
    reader: the 'reader' tree of init_params; not changed.
    config: of its encoder.
    rng: a JAX random key.

  Returns:
    The tree with value kernels orthogonal, attention output kernels their
    transposes, the masked-LM head's kernel the identity, each with a little
    noise, and positions sinusoids of the scale of the word embeddings.
  """
  size = config.hidden_size
  encoder = dict(reader['encoder'])
  for number in range(config.num_layers):
    name = f'layers_{number}'
    orthogonal_rng, *noise_rngs = jax.random.split(
      jax.random.fold_in(rng, number), 3
    )
    orthogonal = jax.random.orthogonal(orthogonal_rng, size)
    encoder[name] = dict(encoder[name])
    encoder[name]['attention'] = {
      **encoder[name]['attention'],
      'value': _with_kernel(
        encoder[name]['attention']['value'], orthogonal, noise_rngs[0]
      ),
      'output': _with_kernel(
        encoder[name]['attention']['output'], orthogonal.T, noise_rngs[1]
      ),
    }
  encoder['embeddings'] = {
    **encoder['embeddings'],
    'position': config.initializer_range
    * _sinusoids(config.max_positions, size),
  }
  head = dict(reader['mlm_head'])
  head_rng = jax.random.fold_in(rng, config.num_layers)
  head['dense'] = _with_kernel(head['dense'], jnp.eye(size), head_rng)
  return {**reader, 'encoder': encoder, 'mlm_head': head}


def _with_kernel(dense: Any, kernel: Array, rng: Array) -> Any:
  """A dense layer's parameters with another kernel, and noise on it."""
  noise = _NOISE * jax.random.normal(rng, kernel.shape)
  return {**dense, 'kernel': kernel + noise}


def _sinusoids(num_positions: int, size: int) -> Array:
  """[num_positions, size]: Vaswani et al. (2017), with shorter waves."""
  half = (size + 1) // 2
  positions = jnp.arange(num_positions)[:, None]
  angles = positions / _LONGEST_WAVE ** (jnp.arange(half)[None, :] / half)
  waves = jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)
  return waves[:, :size]
