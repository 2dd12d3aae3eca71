"""Importing what an extra installs."""

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
  """Imports an optional module.

  Args:
    module: dotted name of the module.
    extra: the extra of realm_jax that installs it.

  Raises:
    ImportError: it is not installed; the message says how to install it.
  """
  try:
    return importlib.import_module(module)
  except ImportError as error:
    raise ImportError(
      f'{module} could not be imported ({error}). It comes with an extra: '
      f"pip install 'realm_jax[{extra}]'."
    ) from error
