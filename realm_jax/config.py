"""Run functions with their settings from gin files: the only user of gin.

A gin file imports modules and binds parameters of the functions in
`realm_jax.runs` and of the configuration dataclasses that they take:

    from __gin__ import dynamic_registration
    from realm_jax.runs import pretrain
    from realm_jax.train import loop
    pretrain.PretrainConfig.num_candidates = 8
    loop.LoopConfig.num_steps = 200_000

A dataclass of which something is bound is handed to the function by itself.
`include 'FILE'` is looked for in the folder of the including file, then in the
working directory. Between files, a binding in a scope (`ict/loop...`) stands
over one without; `--set` stands over both.
"""

import contextlib
import dataclasses
import functools
import inspect
import os
import types
import typing
from collections.abc import Callable, Iterator, Sequence
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


def _complete(target: Callable | type) -> str:
  """The name under which gin keeps the bindings of a target."""
  return f'{target.__module__}.{target.__name__}'


def _import_line(target: Callable | type) -> str:
  package, _, module = target.__module__.rpartition('.')
  return f'from {package} import {module}' if package else f'import {module}'


def _reachable(function: Callable) -> list[Callable | type]:
  """The function and the dataclasses it takes, directly or inside another."""
  found: list[Callable | type] = [function]
  for target in found:
    found += [c for c in _config_parameters(target).values() if c not in found]
  return found


@contextlib.contextmanager
def _user_errors(what: str) -> Iterator[None]:
  """Turns gin's complaints about a text into UserError."""
  try:
    yield
  except UserError:
    raise
  except (
    ValueError,
    SyntaxError,
    ImportError,
    AttributeError,
    NameError,
    OSError,
  ) as error:
    raise UserError(f'{what}: {str(error).strip()}') from error


def _parse(gin: Any, text: str, what: str) -> None:
  with _user_errors(what):
    gin.parse_config(text)


def _parse_file(gin: Any, path: Path) -> None:
  """Parses a file; includes are relative to the file that includes."""
  if not path.is_file():
    raise FileNotFoundError(f'There is no gin file {path}.')
  folders = ['']  # gin's own search path is for all files alike

  @contextlib.contextmanager
  def reader(name: str) -> Iterator[Any]:
    outer = list(folders)
    folders[:] = [str(Path(name).absolute().parent), '']
    try:
      with open(name, encoding='utf-8') as stream:
        yield stream
    except UnicodeDecodeError as error:
      raise UserError(
        f'gin file {name}: invalid UTF-8 at byte {error.start}.'
      ) from error
    finally:
      folders[:] = outer

  config = gin.config
  kept = config._FILE_READERS, config._LOCATION_PREFIXES
  config._FILE_READERS = [(reader, os.path.isfile)]
  config._LOCATION_PREFIXES = folders
  try:
    with _user_errors(f'gin file {path}'):
      gin.parse_config_file(str(path))
  finally:
    config._FILE_READERS, config._LOCATION_PREFIXES = kept


def _scope_and_selector(setting: str) -> tuple[str, str, str]:
  """'a/b/loop.LoopConfig.seed=3' -> 'a/b', 'loop.LoopConfig', 'seed'."""
  name = setting.partition('=')[0].strip()
  scope, _, name = name.rpartition('/')
  selector, _, parameter = name.rpartition('.')
  return scope, selector, parameter


def _apply_settings(gin: Any, header: str, settings: Sequence[str]) -> None:
  """Binds settings, also where a file bound the same in a narrower scope."""
  # Those without a scope first: of two settings the narrower one counts.
  for setting in sorted(
    settings, key=lambda s: bool(_scope_and_selector(s)[0])
  ):
    name, equals, value = setting.partition('=')
    if not equals or not name.strip():
      raise UserError(
        f'--set {setting!r} is not of the form NAME=VALUE, such as '
        'loop.LoopConfig.num_steps=500.'
      )
    scope, selector, parameter = _scope_and_selector(setting)
    if selector:
      for (where, complete), bound in gin.config._CONFIG.items():
        is_narrower = where and (not scope or where.startswith(f'{scope}/'))
        if is_narrower and f'.{complete}'.endswith(f'.{selector}'):
          bound.pop(parameter, None)
    _parse(gin, f'{header}{name.strip()} = {value}', f'--set {setting}')


def configured(
  function: Callable,
  files: Sequence[str | Path] = (),
  settings: Sequence[str] = (),
  like: Callable | None = None,
) -> Callable:
  """A run function with parameters bound.

  Args:
    function: one of `realm_jax.runs`.
    files: gin files; later ones override earlier ones.
    settings: 'module.Class.name=value' or 'module.function.name=value'; they
      override the files, in whatever scope these bind the name; 'scope/...'
      overrides in that scope alone.
    like: another run function: what is bound to its parameters is bound to
      those of the same name and dataclass here, so that one file serves both.

  Returns:
    The function; arguments it is called with override what is bound.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: a name or value does not exist or parse; the message names it.
  """
  gin = _parsed(files, settings, [function])
  if like is not None:
    _take_over(gin, function, like)
  _bind(gin, [function], settings)
  return _without_notes(gin.query_parameter('%RUN').scoped_configurable_fn)


def bound_arguments(
  functions: Sequence[Callable],
  files: Sequence[str | Path] = (),
  settings: Sequence[str] = (),
) -> list[dict[str, Any]]:
  """What files and settings bind to the parameters of several functions.

  Args:
    functions: run functions, or dataclasses, that the files are meant for.
    files: as configured has them.
    settings: as configured has them; of any of the functions.

  Returns:
    Of each function, parameter -> value: dataclasses are made. What is not
    bound is not there.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: as configured, or a dataclass refuses its values.
  """
  gin = _parsed(files, settings, functions)
  _bind(gin, functions, settings)
  found = []
  for function in functions:
    bound = gin.config._CONFIG.get(('', _complete(function)), {})
    made = {name: _make(value) for name, value in bound.items()}
    found.append(made)
  return found


def _make(value: Any) -> Any:
  """The dataclass that a reference stands for; other values as they are."""
  call = getattr(value, 'scoped_configurable_fn', None)
  return value if call is None else _without_notes(call)()


def _parsed(
  files: Sequence[str | Path],
  settings: Sequence[str],
  functions: Sequence[Callable],
) -> Any:
  """gin, with files and settings parsed."""
  import gin

  gin.clear_config()
  for path in files:
    _parse_file(gin, Path(path))
  _apply_settings(gin, _header(functions), settings)
  return gin


def _header(functions: Sequence[Callable]) -> str:
  """Lines that let the names of functions, and what they take, be bound."""
  imports = {
    _import_line(target)
    for function in functions
    for target in _reachable(function)
  }
  return '\n'.join([_HEADER, *sorted(imports), ''])


def _bind(
  gin: Any, functions: Sequence[Callable], settings: Sequence[str]
) -> None:
  """Hands dataclasses over to the functions, and checks all that is bound."""
  header = _header(functions)
  for function in functions:
    _hand_over_dataclasses(gin, header, function)
    _parse(gin, f'{header}RUN = @{_selector(function)}', 'gin')
  _check_references(gin)
  for function in functions:
    _check_values(gin, function)
  _check_scopes(gin, functions, settings)


def _take_over(gin: Any, function: Callable, like: Callable) -> None:
  """Binds to a function what is bound to another's parameters alike."""
  theirs, ours = _config_parameters(like), _config_parameters(function)
  bound = gin.config._CONFIG
  own = bound.setdefault(('', _complete(function)), {})
  for name, value in bound.get(('', _complete(like)), {}).items():
    if name in ours and ours[name] is theirs.get(name):
      own.setdefault(name, value)


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
  # What is bound in a scope is for references to that scope.
  bound = {selector for (scope, selector) in gin.config._CONFIG if not scope}
  targets = _reachable(function)
  for target in reversed(targets):  # the innermost first
    for name, config in _config_parameters(target).items():
      holder = _complete(target)
      own = gin.config._CONFIG.get(('', holder), {})
      if _complete(config) in bound and name not in own:
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
  targets = {_complete(target): target for target in _reachable(function)}
  for (scope, complete), bound in gin.config._CONFIG.items():
    if complete not in targets:
      continue
    target = targets[complete]
    hints = typing.get_type_hints(target)
    for name, value in bound.items():
      if isinstance(value, gin.config.ConfigurableReference):
        if value.config_key[1] in targets:
          _check_complete(gin, targets[value.config_key[1]], value)
      elif not _fits(value, hints.get(name, Any)):
        expected = getattr(hints[name], '__name__', str(hints[name]))
        where = f'{scope}/' if scope else ''
        raise UserError(
          f'{where}{target.__name__}.{name} is {value!r}, expected {expected}.'
        )


def _check_complete(gin: Any, target: Callable | type, reference: Any) -> None:
  """Refuses a reference to a dataclass that lacks a field."""
  if not dataclasses.is_dataclass(target):
    return
  # A scope a/b sees what is bound in '', 'a' and 'a/b'.
  bound = {
    name
    for num_scopes in range(len(reference.scopes) + 1)
    for name in gin.config._CONFIG.get(
      ('/'.join(reference.scopes[:num_scopes]), _complete(target)), {}
    )
  }
  for parameter in inspect.signature(target).parameters.values():
    if parameter.default is parameter.empty and parameter.name not in bound:
      where = ''.join(f'{scope}/' for scope in reference.scopes)
      raise UserError(
        f'{where}{_selector(target)}.{parameter.name} has no default: set it '
        'as well.'
      )


def _check_scopes(
  gin: Any, functions: Sequence[Callable], settings: Sequence[str]
) -> None:
  """Refuses settings in a scope that nothing refers to."""
  targets = {
    _complete(target)
    for function in functions
    for target in _reachable(function)
  }
  used = {
    scope
    for (_, complete), bound in gin.config._CONFIG.items()
    if complete in targets
    for value in bound.values()
    if isinstance(value, gin.config.ConfigurableReference)
    for scope in value.scopes
  }
  for setting in settings:
    scope, selector, parameter = _scope_and_selector(setting)
    unused = set(scope.split('/')) - used
    if scope and selector and unused:
      names = ' and '.join(_selector(function) for function in functions)
      raise UserError(
        f'--set {setting}: {names} takes nothing from scope {scope}, expected '
        f'{" or ".join(sorted(used)) or "no scope"}. '
        f'Set {selector}.{parameter}.'
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
