"""Stages of cells: what each depends on, and so which cells share it.

A stage is known by a hash of its kind, of everything that it is told, and of
the stages that it reads. Two cells that need the same share one folder; a
setting that a stage does not read does not change its hash.
"""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from realm_jax.config import bound_arguments
from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.folders import file_checksum, locked, make_folder
from realm_jax.runs.almanac_corpus import AlmanacConfig, prepare_almanac
from realm_jax.runs.combine import combine
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import finetune
from realm_jax.runs.ict import ict
from realm_jax.runs.pretrain import pretrain
from realm_jax.settings import as_json
from realm_jax.sweeps.cells import Cell, CellConfig, SweepConfig
from realm_jax.train.loop import LoopConfig

_TRAINING = (ict, pretrain, finetune)


class Sources(NamedTuple):
  """What the user has; where all are None the almanac is used.

  Attributes:
    corpus: folder of a prepared corpus.
    questions: file of training questions.
    test_questions: file of questions that are measured on.
    probe_questions: file of questions for the recall curve of pretrain.
    bert: weights that ict starts from; None for none, with the almanac too.
  """

  corpus: str | None = None
  questions: str | None = None
  test_questions: str | None = None
  probe_questions: str | None = None
  bert: str | None = None

  def check(self) -> None:
    """Raises UserError where some are given and others are missing."""
    needed = ('corpus', 'questions', 'test_questions')
    missing = [name for name in needed if getattr(self, name) is None]
    if missing and any(value is not None for value in self[:4]):
      names = ', '.join(f'--{name.replace("_", "-")}' for name in missing)
      raise UserError(
        f'{names} is missing: expected corpus, questions and test questions, '
        'or none of them for the almanac.'
      )


@dataclasses.dataclass(frozen=True)
class Stage:
  """A folder to be made, and what it is made of.

  Attributes:
    kind: 'almanac', 'ict', 'pretrain', 'combine', 'finetune' or 'evaluate'.
    arguments: of its function; what the result depends on.
    inputs: name of an argument -> the stage whose folder it is.
    files: name of an argument -> a file or folder of the user's, or the path of
      a file in the folder of the input 'almanac'.
    identity: name -> checksum of the user's files, in place of their paths,
      which may be among the arguments.
  """

  kind: str
  arguments: Mapping[str, Any]
  inputs: Mapping[str, 'Stage'] = dataclasses.field(default_factory=dict)
  files: Mapping[str, str] = dataclasses.field(default_factory=dict)
  identity: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @functools.cached_property
  def name(self) -> str:
    """Of its folder; the same for the same stage."""
    arguments = {
      name: value
      for name, value in self.arguments.items()
      if name not in self.identity
    }
    described = {
      'kind': self.kind,
      'arguments': arguments,
      'inputs': {role: stage.name for role, stage in self.inputs.items()},
      'files': self.identity or self.files,
    }
    text = json.dumps(as_json(described), sort_keys=True)
    return f'{self.kind}-{hashlib.sha256(text.encode()).hexdigest()[:12]}'

  def folder(self, stages: Path) -> Path:
    """Where it lies in the folder of all stages."""
    return stages / self.name

  def run(self, stages: Path) -> None:
    """Makes the folder, or what of it is missing; one process at a time.

    Evaluations keep block embeddings with the run that they measure, and wait
    for each other there.
    """
    locks = make_folder(stages / '.locks')
    with locked(locks / self.inputs.get('run', self).name):
      self._run(stages)

  def _run(self, stages: Path) -> None:
    folder = self.folder(stages)
    if self.kind == 'almanac':
      prepare_almanac(folder, self.arguments['config'], Console(quiet=True))
      return
    paths = dict(self.files)
    for role, stage in self.inputs.items():
      if role == 'almanac':
        source = stage.folder(stages)
        paths = {name: str(source / path) for name, path in paths.items()}
      else:
        paths[role] = str(stage.folder(stages))
    arguments = {**self.arguments, **paths, 'out': str(folder)}
    if self.kind == 'evaluate':
      arguments['console'] = Console(quiet=True)
    _FUNCTIONS[self.kind](**arguments)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
  'ict': ict,
  'pretrain': pretrain,
  'combine': combine,
  'finetune': finetune,
  'evaluate': evaluate,
}


@dataclasses.dataclass(frozen=True)
class CellRun:
  """A cell with a seed.

  Attributes:
    cell: the cell.
    seed: the seed.
    stages: all that it needs, each after those it reads.
    evaluations: 'start' and 'final' -> the stage that measures.
    pretrained: the run of pretrain that it is of, None where it has none.
  """

  cell: Cell
  seed: int
  stages: Sequence[Stage]
  evaluations: Mapping[str, Stage]
  pretrained: Stage | None

  @property
  def name(self) -> str:
    """Unique in the sweep, of letters, digits and dashes."""
    return f'{self.cell.slug}.seed{self.seed}'


def sweep_config(
  files: Sequence[str | Path], settings: Sequence[str]
) -> SweepConfig:
  """The sweep that gin files describe.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: a name or value in them is wrong, or no axes are bound.
  """
  *_, bound = bound_arguments(_bindable(), files, settings)
  if 'sweep' not in bound:
    raise UserError(
      'No axes are bound, expected a gin file with cells.SweepConfig.axes: see '
      'gin_configs/sweeps.'
    )
  return bound['sweep']


def _takes_sweep(sweep: SweepConfig | None = None) -> None:
  """Stands for the sweep among the functions that gin binds."""


def _takes_cell(
  cell: CellConfig | None = None, almanac: AlmanacConfig | None = None
) -> None:
  """Stands for the cell among the functions that gin binds."""


def _bindable() -> tuple[Callable, ...]:
  return (*_TRAINING, evaluate, _takes_cell, _takes_sweep)


def plan_cell(
  cell: Cell,
  seed: int,
  files: Sequence[str | Path],
  settings: Sequence[str],
  sources: Sources,
) -> CellRun:
  """The stages of a cell with a seed.

  Args:
    cell: what it changes.
    seed: put into every LoopConfig.
    files: gin files, with a SweepConfig.
    settings: those of the command line, over which the cell's stand.
    sources: what the user has.

  Raises:
    UserError: a setting is wrong; the message names the cell.
  """
  try:
    bound = bound_arguments(_bindable(), files, (*settings, *cell.settings))
  except UserError as error:
    raise UserError(f'Cell {cell.name!r}: {error}') from error
  *training, evaluating, of_cell, of_sweep = bound
  for arguments in training:
    loop = arguments.get('loop', LoopConfig())
    arguments['loop'] = dataclasses.replace(loop, seed=seed)
  parts = of_cell.get('cell', CellConfig())
  planner = _Planner(sources, of_cell.get('almanac', AlmanacConfig()))
  needed = {parts.retriever, parts.reader}
  made = {'ict': planner.ict(training[0])}
  if 'realm' in needed:
    made['realm'] = planner.pretrain(training[1], made['ict'])
  if needed & {'random', 'scratch'}:
    made['random'] = made['scratch'] = planner.untrained(training[0])
  start = planner.combine(made[parts.retriever], made[parts.reader])
  runs = {'start': start}
  if parts.finetune:
    runs['final'] = planner.finetune(training[2], start)
  evaluations = {
    name: planner.evaluate(evaluating, run)
    for name, run in runs.items()
    if name in of_sweep['sweep'].evaluations
  }
  if not evaluations:
    raise UserError(
      f'Cell {cell.name!r}: CellConfig.finetune is False, and no metric of '
      'SweepConfig.metrics is of start/: there is nothing to measure.'
    )
  stages = _in_order(list(evaluations.values()))
  return CellRun(cell, seed, stages, evaluations, made.get('realm'))


class _Planner:
  """Makes stages of what the user has."""

  def __init__(self, sources: Sources, almanac: AlmanacConfig):
    """Keeps its arguments."""
    self._sources = sources
    self._almanac = None
    if sources.corpus is None:
      self._almanac = Stage('almanac', {'config': almanac})

  def _stage(
    self,
    kind: str,
    arguments: Mapping[str, Any],
    inputs: Mapping[str, Stage],
    files: Mapping[str, str],
  ) -> Stage:
    """A stage.

    Args:
      kind: of stage.
      arguments: of its function.
      inputs: name -> stage.
      files: name of an argument -> field of Sources.
    """
    if self._almanac is not None:
      paths = {name: _OF_ALMANAC[field] for name, field in files.items()}
      return Stage(kind, arguments, {**inputs, 'almanac': self._almanac}, paths)
    paths = {
      name: path
      for name, field in files.items()
      if (path := getattr(self._sources, field)) is not None
    }
    identity = {name: _identity(path) for name, path in paths.items()}
    return Stage(kind, arguments, inputs, paths, identity)

  def ict(self, arguments: Mapping[str, Any]) -> Stage:
    stage = self._stage('ict', arguments, {}, {'corpus': 'corpus'})
    bert = self._sources.bert
    if bert is None:
      return stage
    return dataclasses.replace(
      stage,
      arguments={**arguments, 'bert': bert},
      identity={**stage.identity, 'bert': _weights_identity(bert)},
    )

  def untrained(self, arguments: Mapping[str, Any]) -> Stage:
    """The run that ict begins with."""
    loop = dataclasses.replace(arguments['loop'], num_steps=0)
    return self.ict({**arguments, 'loop': loop})

  def pretrain(self, arguments: Mapping[str, Any], init: Stage) -> Stage:
    return self._stage(
      'pretrain',
      arguments,
      {'init': init},
      {'corpus': 'corpus', 'probe_questions': 'probe_questions'},
    )

  def combine(self, retriever: Stage, reader: Stage) -> Stage:
    if retriever.name == reader.name:
      return retriever
    # Of no corpus of its own: the runs know theirs.
    return Stage('combine', {}, {'retriever': retriever, 'reader': reader})

  def finetune(self, arguments: Mapping[str, Any], init: Stage) -> Stage:
    return self._stage(
      'finetune',
      arguments,
      {'init': init},
      {'corpus': 'corpus', 'questions': 'questions'},
    )

  def evaluate(self, arguments: Mapping[str, Any], run: Stage) -> Stage:
    return self._stage(
      'evaluate',
      arguments,
      {'run': run},
      {'corpus': 'corpus', 'questions': 'test_questions'},
    )


# Field of Sources -> where that lies in the folder of an almanac stage.
_OF_ALMANAC = {
  'corpus': 'corpus',
  'questions': 'almanac/questions.train.jsonl',
  'test_questions': 'almanac/questions.test.jsonl',
  'probe_questions': 'almanac/questions.dev.jsonl',
}


@functools.cache
def _identity(path: str) -> str:
  """Checksum of a file, or the fingerprint of a corpus."""
  if Path(path).is_dir():
    return Corpus.open(path).fingerprint
  if not Path(path).is_file():
    raise FileNotFoundError(f'There is no file {path}.')
  return file_checksum(Path(path))


@functools.cache
def _weights_identity(path_or_name: str) -> str:
  """Checksum of weights' files; of weights that are not here, their name."""
  path = Path(path_or_name)
  if path.is_file():
    return file_checksum(path)
  if not path.is_dir():
    return path_or_name
  files = sorted(file for file in path.glob('[!.]*') if file.is_file())
  checksums = ''.join(f'{file_checksum(file)}  {file.name}\n' for file in files)
  return hashlib.sha256(checksums.encode()).hexdigest()


def _in_order(last: Sequence[Stage]) -> list[Stage]:
  """Stages and all that they read, each after its inputs, once."""
  found: dict[str, Stage] = {}

  def add(stage: Stage) -> None:
    for one in stage.inputs.values():
      add(one)
    found.setdefault(stage.name, stage)

  for stage in last:
    add(stage)
  return list(found.values())
