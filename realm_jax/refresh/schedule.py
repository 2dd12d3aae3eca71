"""When and where block embeddings are made anew: one language for all of it.

off                                         never
synchronous(every=500)                      training stops meanwhile
rolling(pass_every=500)                     some blocks at every step
second_mesh(every=500, num_devices=1)       by other devices of this process
separate_process(every=500, at_most_late=500)  by `realm-jax build-index
                                            --follow RUN`
"""

import ast
import dataclasses
from typing import Any

from realm_jax.checks import check_at_least
from realm_jax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Off:
  """The index of the first step stays."""


@dataclasses.dataclass(frozen=True)
class Synchronous:
  """Training stops while all blocks are embedded.

  Attributes:
    every: steps from one refresh to the next.
  """

  every: int

  def __post_init__(self):
    check_at_least(self, every=1)


@dataclasses.dataclass(frozen=True)
class Rolling:
  """A few blocks are embedded at every step, in turn.

  At the cost of synchronous(every=pass_every) the index has the same mean age,
  and training never stops.

  Attributes:
    pass_every: steps in which each block is embedded once.
  """

  pass_every: int

  def __post_init__(self):
    check_at_least(self, pass_every=1)


@dataclasses.dataclass(frozen=True)
class SecondMesh:
  """The last devices of this process embed, and do not train.

  Attributes:
    every: steps from one start to the next; one is left out while the last is
      not done.
    num_devices: how many.
  """

  every: int
  num_devices: int = 1

  def __post_init__(self):
    check_at_least(self, every=1, num_devices=1)


@dataclasses.dataclass(frozen=True)
class SeparateProcess:
  """Parameters are published, and another process leaves snapshots.

  Attributes:
    every: steps between publications.
    at_most_late: warn when the index is by more steps than this older than
      `every`.
  """

  every: int
  at_most_late: int

  def __post_init__(self):
    check_at_least(self, every=1, at_most_late=0)


Schedule = Off | Synchronous | Rolling | SecondMesh | SeparateProcess


def pass_every(schedule: Schedule) -> int:
  """Steps in which all blocks are embedded once; 0 for never."""
  if isinstance(schedule, Off):
    return 0
  if isinstance(schedule, Rolling):
    return schedule.pass_every
  return schedule.every


def takes_training_time(schedule: Schedule) -> bool:
  """Whether the devices that train embed the blocks."""
  return isinstance(schedule, Synchronous | Rolling)


# name -> class and example
_FORMS: dict[str, tuple[type, str]] = {
  'off': (Off, 'off'),
  'synchronous': (Synchronous, 'synchronous(every=500)'),
  'rolling': (Rolling, 'rolling(pass_every=500)'),
  'second_mesh': (SecondMesh, 'second_mesh(every=500, num_devices=1)'),
  'separate_process': (
    SeparateProcess,
    'separate_process(every=500, at_most_late=500)',
  ),
}


def parse_schedule(text: str) -> Schedule:
  """Reads a schedule.

  Args:
    text: a name, or name(argument=number, ...), as at the top of this file.

  Raises:
    UserError: it is none; the message has an example.
  """
  name, arguments = _name_and_arguments(text)
  kind, example = _FORMS[name]
  fields = {field.name: field for field in dataclasses.fields(kind)}
  unknown = sorted(arguments.keys() - fields.keys())
  missing = [
    name
    for name, field in fields.items()
    if field.default is dataclasses.MISSING and name not in arguments
  ]
  if unknown or missing:
    problem = (
      f'{name} has no {unknown[0]!r}' if unknown else f'{missing[0]} is missing'
    )
    raise UserError(f'The refresh {text!r}: {problem}; expected {example}.')
  for argument, value in arguments.items():
    if type(value) is not int:
      raise UserError(
        f'The refresh {text!r}: {argument} is {value!r}, expected a whole '
        f'number of steps or devices, as in {example}.'
      )
  try:
    return kind(**arguments)
  except UserError as error:
    raise UserError(f'The refresh {text!r}: {error}') from error


def _name_and_arguments(text: str) -> tuple[str, dict[str, Any]]:
  try:
    node = ast.parse(text.strip(), mode='eval').body
    function = node.func if isinstance(node, ast.Call) else node
    if not isinstance(function, ast.Name) or function.id not in _FORMS:
      raise ValueError
    if not isinstance(node, ast.Call):
      return function.id, {}
    if node.args or any(keyword.arg is None for keyword in node.keywords):
      raise ValueError
    return function.id, {
      str(keyword.arg): ast.literal_eval(keyword.value)
      for keyword in node.keywords
    }
  except (SyntaxError, ValueError, AttributeError, TypeError) as error:
    examples = ', '.join(example for _, example in _FORMS.values())
    raise UserError(
      f'The refresh {text!r} cannot be read, expected one of: {examples}.'
    ) from error
