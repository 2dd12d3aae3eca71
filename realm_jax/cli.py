"""The command line: only parsing. Every command calls one function of runs/."""

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from realm_jax import __version__
from realm_jax.commands import COMMANDS, GROUPS, HOSTS
from realm_jax.errors import USER_ERRORS


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='realm-jax',
    description='Retrieval-augmented language model pre-training in JAX.',
  )
  parser.add_argument(
    '--version', action='version', version=f'realm-jax {__version__}'
  )
  commands = parser.add_subparsers(dest='command', required=True)
  groups = {'': commands}
  for name, command in COMMANDS.items():
    group, _, word = name.rpartition(' ')
    if group not in groups:
      groups[group] = commands.add_parser(
        group, help=GROUPS[group], description=GROUPS[group]
      ).add_subparsers(required=True, metavar='SUBJECT')
    sub = groups[group].add_parser(
      word, help=command.help, description=command.help
    )
    sub.set_defaults(command=name)
    on_hosts = HOSTS if command.on_hosts else {}
    for argument, options in (command.arguments | on_hosts).items():
      if argument.startswith('-'):
        # What is not given keeps the function's own default, or gin's.
        options = {'default': argparse.SUPPRESS, **options}
      sub.add_argument(argument, **options)
    sub.add_argument(
      '--gin',
      action='append',
      default=[],
      metavar='FILE',
      help='settings; may be repeated',
    )
    sub.add_argument(
      '--set',
      action='append',
      default=[],
      metavar='NAME=VALUE',
      help='one setting, such as loop.LoopConfig.num_steps=500',
    )
  return parser


def _cache_compilations() -> None:
  """Keeps compiled functions between commands, in the user's cache folder."""
  cache = os.environ.get('XDG_CACHE_HOME') or os.path.expanduser('~/.cache')
  os.environ.setdefault(
    'JAX_COMPILATION_CACHE_DIR', os.path.join(cache, 'realm_jax', 'jax')
  )
  os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.5')


def _start_hosts(parsed: dict[str, Any]) -> None:
  """Joins the other processes, if there are any; takes their flags away."""
  names = [option[2:].replace('-', '_') for option in HOSTS]
  given = {name: parsed.pop(name) for name in names if name in parsed}
  if not given:
    return
  from realm_jax import hosts

  given.pop('hosts', None)
  hosts.start(**given)
  hosts.check_same('command line', parsed)


def _function(name: str) -> Callable:
  """'module.function' below realm_jax."""
  module, _, function = name.rpartition('.')
  return getattr(importlib.import_module(f'realm_jax.{module}'), function)


def run(arguments: Sequence[str] | None = None) -> Any:
  """Parses a command line and runs its command; returns what that returns."""
  parsed = vars(_parser().parse_args(arguments))
  _cache_compilations()
  _start_hosts(parsed)
  command = COMMANDS[parsed.pop('command')]
  files, settings = parsed.pop('gin'), parsed.pop('set')
  function = _function(command.function)
  if command.reads_gin:
    return function(gin=files, settings=settings, **parsed)
  if files or settings:
    from realm_jax.config import configured

    like = _function(command.like) if command.like else None
    function = configured(function, files, settings, like)
  return function(**parsed)


def _is_one_of_several() -> bool:
  jax = sys.modules.get('jax')  # not imported for this
  return jax is not None and jax.distributed.is_initialized()


def _fail(message: str, status: int) -> NoReturn:
  """Prints a message and ends with a status."""
  if not _is_one_of_several():
    print(f'realm-jax: {message}', file=sys.stderr)
    sys.exit(status)
  from realm_jax import hosts

  print(f'realm-jax: {hosts.name()}: {message}', file=sys.stderr)
  hosts.leave(status)


def main() -> None:
  """Entry point of `realm-jax`: user errors are a message and status 2."""
  try:
    run()
  except USER_ERRORS as error:
    _fail(str(error), 2)
  except KeyboardInterrupt as error:
    _fail(str(error) or 'interrupted', 130)
  except Exception:
    if not _is_one_of_several():
      raise
    traceback.print_exc()
    _fail(
      'failed, as the lines above say. If they are about a connection, another '
      'process has failed: see what it has printed.',
      1,
    )


if __name__ == '__main__':
  main()
