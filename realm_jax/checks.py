"""Checks of shapes and settings: errors that say which disagrees, and how."""

from typing import Any

from realm_jax.errors import UserError


def check_at_least(config: Any, **least: int) -> None:
  """Checks fields of a configuration dataclass.

  Args:
    config: the dataclass.
    **least: field name -> the smallest value it may have.

  Raises:
    UserError: a value is smaller.
  """
  for name, bound in least.items():
    if getattr(config, name) < bound:
      raise UserError(
        f'{type(config).__name__}.{name} is {getattr(config, name)}, expected '
        f'at least {bound}.'
      )


def check_microbatches(config: Any) -> None:
  """Raises UserError if config.num_microbatches does not divide batch_size."""
  if config.batch_size % config.num_microbatches:
    name = type(config).__name__
    raise UserError(
      f'{name}.batch_size is {config.batch_size}, expected a multiple of '
      f'{name}.num_microbatches, which is {config.num_microbatches}.'
    )


def check_shapes(**arrays: tuple[Any, str]) -> dict[str, int]:
  """Checks that arrays agree about the sizes of their named dimensions.

  Args:
    **arrays: argument name -> (array, dimension names separated by spaces). A
      dimension may also be given as a number.

  Returns:
    dimension name -> size.

  Raises:
    ValueError: a rank differs, or two arrays disagree about a dimension.
  """
  sizes: dict[str, tuple[int, str]] = {}
  for argument, (array, names) in arrays.items():
    dims = names.split()
    if len(dims) != len(array.shape):
      raise ValueError(
        f'{argument} has shape {tuple(array.shape)}, expected '
        f'{len(dims)} dimensions: [{", ".join(dims)}].'
      )
    for dim, size in zip(dims, array.shape, strict=True):
      if dim.isdigit():
        expected, source = int(dim), 'its definition'
      else:
        expected, source = sizes.setdefault(dim, (size, argument))
      if size != expected:
        raise ValueError(
          f'{argument} has shape {tuple(array.shape)}: its {dim} is {size}, '
          f'but {source} has {expected}.'
        )
  return {dim: size for dim, (size, _) in sizes.items()}
