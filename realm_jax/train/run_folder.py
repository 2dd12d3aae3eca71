"""The folder of a run: what it was told, what it has done, what it made.

config.json      stage, settings, model; written first
vocab.txt        of its corpus
checkpoints/     to resume from
snapshots/       block embeddings that were searched
params/          the final parameters
metrics.jsonl, tensorboard/
manifest.json    written last: the run is finished
"""

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import (
  check_kind,
  is_whole,
  make_folder,
  read_manifest,
  write_json,
  write_manifest,
)
from realm_jax.models.encoder import EncoderConfig, computed_as
from realm_jax.models.realm import RealmConfig, abstract_params
from realm_jax.settings import as_json, differences
from realm_jax.train.checkpoint import load_params, save_params

CONFIG_FILE = 'config.json'
VOCAB_FILE = 'vocab.txt'
# Where things lie is no setting: what counts is their checksum.
_PLACES = ('folder', 'file')


def index_folder(run: Path, corpus_fingerprint: str) -> Path:
  """Where a run keeps the snapshot of a corpus under its final parameters."""
  return run / 'index' / corpus_fingerprint[:16]


def snapshot_folder(run: Path, index_step: int) -> Path:
  """Where a run keeps the snapshot of a step."""
  return run / 'snapshots' / f'{index_step:08d}'


def prune_snapshots(run: Path, oldest_needed: int) -> None:
  """Deletes a run's snapshots that are older than a step."""
  for folder in (run / 'snapshots').glob('[0-9]*'):
    if int(folder.name) < oldest_needed:
      # A builder may be writing there: what it leaves goes the next time.
      shutil.rmtree(folder, ignore_errors=True)


def known_snapshots(run: Path) -> list[Path]:
  """Folders of all snapshots that a run keeps, finished or not."""
  return sorted([*run.glob('index/*'), *run.glob('snapshots/*')])


class NoCorpus(NamedTuple):
  """Stands in for the corpus of a run that was not trained here."""

  wordpiece: WordPiece
  folder: str = ''
  fingerprint: str = ''


class RunFolder:
  """The folder of one run of a training stage."""

  def __init__(
    self,
    path: str | Path,
    stage: str,
    model: RealmConfig,
    corpus: Corpus | NoCorpus,
    settings: dict[str, Any],
  ):
    """Makes the folder, or opens it to go on with the same run.

    Args:
      path: of the folder.
      stage: 'ict', 'pretrain', 'finetune', 'closed_book', 'combined' or
        'imported'.
      model: what is trained.
      corpus: what it is trained on.
      settings: everything else that the result depends on.

    Raises:
      UserError: the folder belongs to a run with other settings, or holds
        something else.
    """
    self.path = Path(path)
    self.stage = stage
    self.model = model
    self._config = as_json(
      {
        'stage': stage,
        'corpus': {
          'folder': corpus.folder and str(Path(corpus.folder).resolve()),
          'fingerprint': corpus.fingerprint,
        },
        'settings': settings,
        'model': dataclasses.asdict(model),
      }
    )
    hosts.check_same(f'run of {stage}', self._config, _PLACES)
    hosts.by_first(lambda: self._make(corpus.wordpiece))

  def _make(self, wordpiece: WordPiece) -> None:
    make_folder(self.path)
    check_kind(self.path, 'run')
    config_path = self.path / CONFIG_FILE
    if config_path.is_file():
      self._check_config(json.loads(config_path.read_text(encoding='utf-8')))
    else:
      self._check_empty()
      wordpiece.save(self.path / VOCAB_FILE)
      write_json(config_path, self._config)

  def _check_config(self, old: dict[str, Any]) -> None:
    if old['stage'] != self.stage:
      raise UserError(
        f'Run folder {self.path} belongs to a run of {old["stage"]}, this is '
        f'{self.stage}. Choose another --out, or delete the folder.'
      )
    lines = [
      f'{path}: {before!r} there, {now!r} now'
      for path, before, now in differences(old, self._config, _PLACES)
    ]
    if lines:
      raise UserError(
        f'Run folder {self.path} belongs to a run with other settings:\n  '
        + '\n  '.join(lines)
        + '\nChoose another --out, or delete the folder.'
      )

  def _check_empty(self) -> None:
    known = {VOCAB_FILE, f'{VOCAB_FILE}.partial', f'{CONFIG_FILE}.partial'}
    foreign = sorted({path.name for path in self.path.iterdir()} - known)
    if foreign:
      raise UserError(
        f'{self.path} holds {", ".join(foreign[:3])}, but no run. Give an '
        'empty or a new folder.'
      )

  @property
  def finished(self) -> bool:
    """Whether the run has ended and left its parameters."""
    return is_whole(self.path)

  def snapshot(self, index_step: int) -> Path:
    """Where the snapshot of a step lies."""
    return snapshot_folder(self.path, index_step)

  def finish(self, params: Any, num_steps: int) -> None:
    """Saves the final parameters and declares the run finished."""
    save_params(self.path / 'params', params)
    hosts.by_first(lambda: self._write_manifest(num_steps))

  def _write_manifest(self, num_steps: int) -> None:
    written = (self.path / 'params').rglob('*')
    names = [str(p.relative_to(self.path)) for p in written if p.is_file()]
    write_manifest(
      self.path,
      'run',
      [CONFIG_FILE, VOCAB_FILE, *sorted(names)],
      stage=self.stage,
      corpus_fingerprint=self._config['corpus']['fingerprint'],
      num_steps=num_steps,
    )


@dataclasses.dataclass(frozen=True)
class LoadedRun:
  """A finished run, to start from or to use.

  Attributes:
    path: its folder.
    stage: as RunFolder has it.
    model: sizes of the model.
    params: its parameters.
    wordpiece: the vocabulary it was trained with.
    settings: what it was told.
    corpus_folder: the corpus it was trained on; empty if imported.
    corpus_fingerprint: of that corpus.
    fingerprint: of the run's settings and parameters.
    num_steps: updates done.
  """

  path: Path
  stage: str
  model: RealmConfig
  params: Any
  wordpiece: WordPiece
  settings: dict[str, Any]
  corpus_folder: str
  corpus_fingerprint: str
  fingerprint: str
  num_steps: int

  @property
  def identity(self) -> dict[str, str]:
    """What a run that starts from this one records of it."""
    return {'folder': str(self.path), 'fingerprint': self.fingerprint}

  @property
  def untrained(self) -> tuple[str, ...]:
    """Parts and parameters that neither training nor an import has shaped.

    Paths, or beginnings of paths, such as 'reader' or 'reader/span_head'.
    """
    if self.stage in ('imported', 'combined'):
      return tuple(self.settings['made_anew'])
    if self.stage == 'finetune':
      return ()
    warmed_up = self.settings.get('config', {}).get('reader_batch_size')
    if self.stage == 'ict' and not (warmed_up or self.settings.get('bert')):
      return ('reader',)
    return ('reader/span_head',)

  @property
  def finds_blocks(self) -> bool:
    """Whether its embedders have learned to find blocks."""
    return not any('embedder' in name.split('/')[0] for name in self.untrained)

  @property
  def reads_spans(self) -> bool:
    """Whether it has learned to find blocks, and its reader to answer."""
    needed = ('reader/encoder', 'reader/span_head')
    return self.finds_blocks and not any(
      name == 'reader' or name.startswith(needed) for name in self.untrained
    )

  def computed_as(self, model: RealmConfig | None) -> 'LoadedRun':
    """The run with the dropout and arithmetic of another model's encoder.

    Args:
      model: of whose sizes nothing is taken; None leaves all as it is.
    """
    if model is None:
      return self
    encoder = computed_as(self.model.encoder, model.encoder)
    own = dataclasses.replace(self.model, encoder=encoder)
    return dataclasses.replace(self, model=own)

  def check_vocabulary(self, corpus: Corpus) -> None:
    """Raises UserError if a corpus has another vocabulary than the run."""
    if corpus.wordpiece.fingerprint != self.wordpiece.fingerprint:
      raise UserError(
        f'Run {self.path} was trained with another vocabulary '
        f'({self.wordpiece.size} pieces) than corpus {corpus.folder} '
        f'({corpus.wordpiece.size} pieces). Prepare the corpus with '
        f'--vocab {self.path / VOCAB_FILE}.'
      )


def model_of(config: dict[str, Any]) -> RealmConfig:
  """The model of a run, by its config.json."""
  model = dict(config['model'])
  model['encoder'] = EncoderConfig(**model['encoder'])
  return RealmConfig(**model)


def load_run(path: str | Path) -> LoadedRun:
  """Opens a finished run.

  Raises:
    FileNotFoundError: there is no such run, or it has not finished.
    UserError: the folder is damaged or of another kind.
  """
  path = Path(path)
  manifest = read_manifest(
    path,
    'run',
    'realm-jax ict, pretrain, finetune, combine or import',
    verify=True,
  )
  config = json.loads((path / CONFIG_FILE).read_text(encoding='utf-8'))
  model_config = model_of(config)
  return LoadedRun(
    path=path,
    stage=config['stage'],
    model=model_config,
    params=load_params(path / 'params', abstract_params(model_config)),
    wordpiece=WordPiece.from_vocab_file(path / VOCAB_FILE),
    settings=config['settings'],
    corpus_folder=config['corpus']['folder'],
    corpus_fingerprint=config['corpus']['fingerprint'],
    fingerprint=_fingerprint(manifest['files']),
    num_steps=manifest['num_steps'],
  )


def _fingerprint(files: dict[str, Any]) -> str:
  """SHA-256 of the checksums of a run's files."""
  checksums = {name: entry['sha256'] for name, entry in files.items()}
  text = json.dumps(checksums, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()
