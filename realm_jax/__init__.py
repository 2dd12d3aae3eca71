"""Retrieval-augmented language model pre-training in JAX.

Importing this package loads nothing heavy: submodules are imported by name,
and `Predictor` is loaded when it is first asked for.
"""

__version__ = '0.1.0'


def __getattr__(name: str):
  if name == 'Predictor':
    from realm_jax.predictor import Predictor

    return Predictor
  raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
