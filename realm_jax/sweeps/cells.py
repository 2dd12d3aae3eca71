"""What a sweep is about: its axes, and the cells that they span."""

import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from realm_jax.errors import UserError

RETRIEVERS = ('realm', 'ict', 'random')
READERS = ('realm', 'ict', 'scratch')
# The evaluations of a cell: of what fine-tuning starts from, without training
# on a question, and of what it ends with.
EVALUATIONS = ('start', 'final')
# Beside them: what pre-training has recorded.
PRETRAIN = 'pretrain'


@dataclasses.dataclass(frozen=True)
class CellConfig:
  """What a cell fine-tunes, of the parts that the stages before have made.

  Attributes:
    retriever: the embedders of 'realm', the run of pretrain; of 'ict', the warm
      start; or 'random', as ict begins: BERT's where there is one.
    reader: 'realm' or 'ict', likewise; or 'scratch', as ict begins.
    finetune: whether questions are trained on; without, there are no answers,
      and only what finds documents is measured.
  """

  retriever: str = 'realm'
  reader: str = 'realm'
  finetune: bool = True

  def __post_init__(self):
    for name, known in (('retriever', RETRIEVERS), ('reader', READERS)):
      if getattr(self, name) not in known:
        raise UserError(
          f'CellConfig.{name} is {getattr(self, name)!r}, expected one of '
          f'{", ".join(known)}.'
        )


@dataclasses.dataclass(frozen=True)
class SweepConfig:
  """Which cells, which seeds, what is measured.

  Attributes:
    axes: name -> its values; a cell takes one of each. Where the values are a
      list, the name is that of a binding or macro, as `--set` has it, and the
      values are bound to it. Where they are a dictionary, it is label ->
      settings 'NAME=VALUE', and the axis may have any name.
    leave_out: cells not to run: axis -> label, or list of labels; a cell that
      agrees with all entries of one dictionary is left out.
    seeds: of the runs; every cell is run with every one.
    metrics: columns of the table: 'start/METRIC' before and 'final/METRIC'
      after fine-tuning, with a metric of realm-jax evaluate; 'pretrain/NAME',
      with a name of pretrain's metrics.jsonl: the mean over its records, and
      of names that end in '_seconds' the sum.
    reference: cell that the others are compared with; the first if empty.
    curves: what is plotted of pretrain's metrics.jsonl.
    title: of the report.
  """

  axes: dict = dataclasses.field(default_factory=dict)
  leave_out: Sequence[dict] = ()
  seeds: Sequence[int] = (0, 1, 2)
  metrics: Sequence[str] = ('final/exact_match', 'start/recall_at_5')
  reference: str = ''
  curves: Sequence[str] = (
    'probe_recall@5',
    'loss',
    'retrieval_utility',
    'retrieval_entropy',
    'gradient_norm/query_tower',
    'gradient_norm/document_tower',
    'gradient_norm/reader',
    'index_age',
  )
  title: str = 'Sweep'

  def __post_init__(self):
    if not self.axes or not all(self.axes.values()):
      raise UserError(
        f'SweepConfig.axes is {self.axes!r}, expected at least one axis, and '
        "of each some values: {'loop.LoopConfig.num_steps': [100, 200]}."
      )
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise UserError(
        f'SweepConfig.seeds is {self.seeds!r}, expected different numbers.'
      )
    for metric in self.metrics:
      if metric.partition('/')[0] not in (*EVALUATIONS, PRETRAIN):
        raise UserError(
          f'SweepConfig.metrics has {metric!r}, expected start/METRIC or '
          'final/METRIC, such as final/exact_match, or pretrain/NAME.'
        )

  @property
  def evaluations(self) -> set[str]:
    """Those of EVALUATIONS that some metric is of."""
    return {metric.partition('/')[0] for metric in self.metrics} - {PRETRAIN}


@dataclasses.dataclass(frozen=True)
class Cell:
  """One choice on every axis.

  Attributes:
    name: unique in the sweep, as the table shows it.
    labels: axis -> label of the choice.
    settings: 'NAME=VALUE', as `--set` has them.
  """

  name: str
  labels: Mapping[str, str]
  settings: tuple[str, ...]

  @property
  def slug(self) -> str:
    """The name in letters, digits and dashes, for files and commands."""
    return re.sub(r'[^a-z0-9.]+', '-', self.name.lower()).strip('-')


def cells_of(config: SweepConfig) -> list[Cell]:
  """All cells but those left out, the last axis changing fastest.

  Raises:
    UserError: an axis, a label or the reference is not there, two cells have
      one name, or no cell is left.
  """
  axes = {axis: _choices(axis, v) for axis, v in config.axes.items()}
  for pattern in config.leave_out:
    _check_pattern(pattern, axes)
  cells = []
  for labels in itertools.product(*axes.values()):
    chosen = dict(zip(axes, labels, strict=True))
    if not any(_agrees(chosen, pattern) for pattern in config.leave_out):
      cells.append(_cell(chosen, axes))
  _check_names(cells, config.reference)
  return cells


def _choices(axis: str, values: Any) -> dict[str, tuple[str, ...]]:
  """Label -> settings, of one axis."""
  if isinstance(values, dict):
    return {
      str(label): _checked_settings(axis, label, settings)
      for label, settings in values.items()
    }
  if isinstance(values, (list, tuple)):
    labels = [v if isinstance(v, str) else repr(v) for v in values]
    if len(set(labels)) < len(labels):
      raise UserError(f'Axis {axis} has a value twice: {labels}.')
    return {
      label: (f'{axis}={value!r}',)
      for label, value in zip(labels, values, strict=True)
    }
  raise UserError(
    f'Axis {axis} is {values!r}, expected a list of values, or a dictionary '
    'label -> list of settings.'
  )


def _checked_settings(axis: str, label: str, settings: Any) -> tuple[str, ...]:
  if isinstance(settings, (list, tuple)) and all(
    isinstance(s, str) and '=' in s for s in settings
  ):
    return tuple(settings)
  raise UserError(
    f'Axis {axis}, {label!r} is {settings!r}, expected a list of settings '
    "'NAME=VALUE', which may be empty."
  )


def _cell(
  labels: dict[str, str], axes: dict[str, dict[str, tuple[str, ...]]]
) -> Cell:
  if len(axes) == 1:
    (name,) = labels.values()
  else:
    # Of a binding, the last word says enough.
    name = ', '.join(f'{a.rpartition(".")[2]} {v}' for a, v in labels.items())
  settings = [s for axis, label in labels.items() for s in axes[axis][label]]
  return Cell(name, labels, tuple(settings))


def _agrees(labels: Mapping[str, str], pattern: Mapping[str, Any]) -> bool:
  return all(labels[a] in _as_labels(v) for a, v in pattern.items())


def _as_labels(value: Any) -> list[str]:
  values = value if isinstance(value, (list, tuple)) else [value]
  return [v if isinstance(v, str) else repr(v) for v in values]


def _check_pattern(pattern: Any, axes: Mapping[str, Iterable[str]]) -> None:
  if not isinstance(pattern, dict) or not pattern:
    raise UserError(
      f'SweepConfig.leave_out has {pattern!r}, expected axis -> label.'
    )
  for axis, value in pattern.items():
    if axis not in axes:
      raise UserError(
        f'SweepConfig.leave_out names axis {axis!r}, expected one of '
        f'{", ".join(axes)}.'
      )
    unknown = [v for v in _as_labels(value) if v not in axes[axis]]
    if unknown:
      raise UserError(
        f'SweepConfig.leave_out names {axis} {unknown[0]!r}, expected one of '
        f'{", ".join(axes[axis])}.'
      )


def _check_names(cells: Sequence[Cell], reference: str) -> None:
  if not cells:
    raise UserError('SweepConfig.leave_out leaves no cell.')
  slugs = [cell.slug for cell in cells]
  twice = [cell.name for cell in cells if slugs.count(cell.slug) > 1]
  if twice:
    raise UserError(
      f'Cells {", ".join(map(repr, twice))} have the same letters and digits: '
      'give their labels other names.'
    )
  names = [cell.name for cell in cells]
  if reference and reference not in names:
    raise UserError(
      f'SweepConfig.reference is {reference!r}, expected one of '
      f'{", ".join(map(repr, names))}.'
    )
