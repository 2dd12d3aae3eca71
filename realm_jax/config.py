"""Run functions with their settings from gin files: the only user of gin.

A gin file imports modules and binds parameters of the functions in
`realm_jax.runs` and of the configuration dataclasses that they take:

    from __gin__ import dynamic_registration
    from realm_jax.runs import pretrain
    from realm_jax.train import loop
    pretrain.PretrainConfig.num_candidates = 8
    loop.LoopConfig.num_steps = 200_000

A dataclass of which something is bound is handed to the function by itself.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from realm_jax.errors import USER_ERRORS, UserError

_HEADER = 'from __gin__ import dynamic_registration'


def _dataclass_of(annotation: Any) -> type | None:
  """The dataclass in `X` or `X | None`."""
  for option in typing.get_args(annotation) or (annotation,):
    if isinstance(option, type) and dataclasses.is_dataclass(option):
      return option
  return None


def _config_parameters(function: Callable) -> dict[str, type]:
  """Parameter name -> dataclass, of a function or of a dataclass."""
  hints = typing.get_type_hints(function)
  return {
    name: found
    for name, annotation in hints.items()
    if name != 'return' and (found := _dataclass_of(annotation))
  }


def _selector(target: Callable | type) -> str:
  module = target.__module__.rpartition('.')[2]
  return f'{module}.{target.__name__}'


def _import_line(target: Callable | type) -> str:
  package, _, module = target.__module__.rpartition('.')
  return f'from {package} import {module}' if package else f'import {module}'


def _reachable(function: Callable) -> list[Callable | type]:
  """The function and the dataclasses it takes, directly or inside another."""
  found: list[Callable | type] = [function]
  for target in found:
    found += [c for c in _config_parameters(target).values() if c not in found]
  return found


def _parse(gin: Any, text: str, what: str) -> None:
  try:
    gin.parse_config(text)
  except (
    ValueError,
    SyntaxError,
    ImportError,
    AttributeError,
    NameError,
    OSError,
  ) as error:
    raise UserError(f'{what}: {str(error).strip()}') from error


def configured(
  function: Callable,
  files: Sequence[str | Path] = (),
  settings: Sequence[str] = (),
) -> Callable:
  """A run function with parameters bound.

  Args:
    function: one of `realm_jax.runs`.
    files: gin files; later ones override earlier ones.
    settings: 'module.Class.name=value' or 'module.function.name=value'; they
      override the files.

  Returns:
    The function; arguments it is called with override what is bound.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: a name or value does not exist or parse; the message names it.
  """
  import gin

  gin.clear_config()
  imports = sorted({_import_line(target) for target in _reachable(function)})
  header = '\n'.join([_HEADER, *imports, ''])
  for path in files:
    if not Path(path).is_file():
      raise FileNotFoundError(f'There is no gin file {path}.')
    try:
      text = Path(path).read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
      raise UserError(
        f'gin file {path}: invalid UTF-8 at byte {error.start}.'
      ) from error
    _parse(gin, text, f'gin file {path}')
  for setting in settings:
    name, equals, value = setting.partition('=')
    if not equals or not name.strip():
      raise UserError(
        f'--set {setting!r} is not of the form NAME=VALUE, such as '
        'loop.LoopConfig.num_steps=500.'
      )
    _parse(gin, f'{header}{name.strip()} = {value}', f'--set {setting}')
  _hand_over_dataclasses(gin, header, function)
  _parse(gin, f'{header}RUN = @{_selector(function)}', 'gin')
  _check_references(gin)
  _check_values(gin, function)
  return _without_notes(gin.query_parameter('%RUN').scoped_configurable_fn)


def _without_notes(function: Callable) -> Callable:
  """Takes gin's notes about where it was off the messages of user errors."""

  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    try:
      return function(*args, **kwargs)
    except USER_ERRORS as error:
      message, note, _ = str(error).partition('\n  In call to configurable')
      if not note:
        raise
      kind = next(kind for kind in USER_ERRORS if isinstance(error, kind))
      raise kind(message).with_traceback(error.__traceback__) from None

  return call


def _hand_over_dataclasses(gin: Any, header: str, function: Callable) -> None:
  """Binds each dataclass that has bindings to the parameter that takes it."""
  bound = {selector for (_, selector) in gin.config._CONFIG}
  targets = _reachable(function)
  for target in reversed(targets):  # the innermost first
    for name, config in _config_parameters(target).items():
      complete = f'{config.__module__}.{config.__name__}'
      holder = f'{target.__module__}.{target.__name__}'
      own = gin.config._CONFIG.get(('', holder), {})
      if complete in bound and name not in own:
        _parse(
          gin,
          f'{header}{_selector(target)}.{name} = @{_selector(config)}()',
          'gin',
        )
        bound.add(holder)


def _check_references(gin: Any) -> None:
  """Refuses macros that are used but not defined, and defined but not used."""
  try:
    gin.finalize()
  except ValueError as error:
    raise UserError(f'gin: {str(error).strip()}') from error
  used = {
    reference.config_key[0]
    for reference in gin.config.iterate_references(gin.config._CONFIG)
    if reference.config_key[1].endswith('macro')
  }
  defined = {
    scope
    for scope, selector in gin.config._CONFIG
    if selector.endswith('macro') and scope != 'RUN'
  }
  if defined - used:
    raise UserError(
      f'gin: {", ".join(sorted(defined - used))} is defined but used nowhere. '
      'Is the name misspelt?'
    )


def _check_values(gin: Any, function: Callable) -> None:
  """Refuses values of another type, and fields that have none."""
  for target in _reachable(function):
    bound = gin.config._CONFIG.get(
      ('', f'{target.__module__}.{target.__name__}')
    )
    if bound is None:
      continue
    hints = typing.get_type_hints(target)
    for name, value in bound.items():
      is_reference = isinstance(value, gin.config.ConfigurableReference)
      if not is_reference and not _fits(value, hints.get(name, Any)):
        expected = getattr(hints[name], '__name__', str(hints[name]))
        raise UserError(
          f'{target.__name__}.{name} is {value!r}, expected {expected}.'
        )
    if dataclasses.is_dataclass(target):
      missing = [
        parameter.name
        for parameter in inspect.signature(target).parameters.values()
        if parameter.default is parameter.empty and parameter.name not in bound
      ]
      if missing:
        raise UserError(
          f'{_selector(target)}.{missing[0]} has no default: set it as well.'
        )


def _fits(value: Any, hint: Any) -> bool:
  """Whether a value is what an annotation says, as far as can be told."""
  options = typing.get_args(hint)
  origin = typing.get_origin(hint)
  if origin in (typing.Union, types.UnionType):
    return any(_fits(value, option) for option in options)
  if hint in (int, float):
    numbers = int if hint is int else (int, float)
    return isinstance(value, numbers) and not isinstance(value, bool)
  if isinstance(origin, type) and issubclass(origin, Sequence):
    return isinstance(value, (list, tuple))
  if hint in (bool, str, types.NoneType) or dataclasses.is_dataclass(hint):
    return isinstance(value, hint)
  return True
