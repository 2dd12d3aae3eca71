"""Fine-tune on questions: ORQA's losses, or closed book."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import optax

from realm_jax import hosts
from realm_jax.checks import check_at_least, check_microbatches
from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import Question, load_questions
from realm_jax.data.qa_examples import QAExamples
from realm_jax.data.qa_warnings import checked_examples
from realm_jax.data.text_labels import TextLabels, kept_text_labels
from realm_jax.errors import UserError
from realm_jax.eval.dev import METRICS as DEV_METRICS
from realm_jax.eval.dev import DevQuestions
from realm_jax.folders import file_checksum
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.models.realm import RealmConfig, split_embedders
from realm_jax.own_rows import OwnRows
from realm_jax.refresh.api import (
  check_index,
  divide_devices,
  make_searching,
)
from realm_jax.refresh.schedule import Off, parse_schedule
from realm_jax.runs.block_progress import block_progress
from realm_jax.sharding import Layout, MeshConfig, check_batch, make_layout
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.pipeline import BatchSource
from realm_jax.train.qa_source import ClosedBookSource, QASource
from realm_jax.train.reporting import console, warn
from realm_jax.train.run_folder import (
  LoadedRun,
  RunFolder,
  known_snapshots,
  load_run,
)
from realm_jax.train.selection import BestOnDev
from realm_jax.train.session import run_stage
from realm_jax.train.step import Step, make_finetune_step, make_pretrain_step

READERS = ('span', 'closed_book')
BLOCK_LABELS = ('wordpiece', 'official')
STAGES = {'span': 'finetune', 'closed_book': 'closed_book'}


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """What fine-tuning is about.

  Attributes:
    batch_size: questions a step.
    num_microbatches: parts of the batch that a step takes one after the other:
      the same update, but for dropout, with the memory of a part.
    beam_size: blocks that the retriever's loss sees (ORQA has 5000).
    num_read: blocks that the reader sees (ORQA has 5).
    num_embedded: blocks of the beam, the best ones, that are embedded in the
      step, so that the document embedder learns from them; the others keep
      their vectors in the index. 0 leaves the document embedder and the index
      as they are, as ORQA does.
    refresh: when and where the index is made anew, if the document embedder
      learns: see refresh.schedule.
    reader: 'span' extracts answers from blocks; 'closed_book' fills them in
      without any document, a baseline.
    block_labels: a block is right if it has the 'wordpiece's of an answer,
      whatever their case; or, 'official', as ORQA's code has it, if an answer
      is anywhere in its text, letter by letter.
    dev_every: steps between measurements on the dev questions, if there are
      any.
    dev_metric: which of them decides what parameters are kept: 'exact_match',
      'span_exact_match' (the one ORQA's code goes by) or 'f1'.
    num_dev: dev questions that are measured on, the first ones of the file.
    patience: measurements without a better one after which training stops; 0
      for never.
  """

  batch_size: int = 16
  num_microbatches: int = 1
  beam_size: int = 5000
  num_read: int = 5
  num_embedded: int = 0
  refresh: str = 'off'
  reader: str = 'span'
  block_labels: str = 'wordpiece'
  dev_every: int = 500
  dev_metric: str = 'exact_match'
  num_dev: int = 1000
  patience: int = 0

  def __post_init__(self):
    check_at_least(
      self,
      batch_size=1,
      num_microbatches=1,
      num_embedded=0,
      dev_every=1,
      num_dev=1,
      patience=0,
    )
    check_microbatches(self)
    for name, known in (
      ('reader', READERS),
      ('block_labels', BLOCK_LABELS),
      ('dev_metric', DEV_METRICS),
    ):
      if getattr(self, name) not in known:
        raise UserError(
          f'FinetuneConfig.{name} is {getattr(self, name)!r}, expected one of '
          f'{", ".join(known)}.'
        )
    if not 1 <= self.num_read <= self.beam_size:
      raise UserError(
        f'FinetuneConfig.num_read is {self.num_read}, expected 1 to beam_size, '
        f'which is {self.beam_size}.'
      )
    self._check_refresh()

  def _check_refresh(self) -> None:
    if self.num_embedded > self.beam_size:
      raise UserError(
        f'FinetuneConfig.num_embedded is {self.num_embedded}, expected at most '
        f'beam_size, which is {self.beam_size}.'
      )
    if self.num_embedded and self.reader == 'closed_book':
      raise UserError(
        f'FinetuneConfig.num_embedded is {self.num_embedded}, expected 0: a '
        'closed-book reader has no documents.'
      )
    refreshed = not isinstance(parse_schedule(self.refresh), Off)
    if refreshed and not self.num_embedded:
      raise UserError(
        f'FinetuneConfig.refresh is {self.refresh!r}, but num_embedded is 0: '
        'the document embedder does not learn, and the index would stay the '
        "same. Set num_embedded, or refresh to 'off'."
      )

  @property
  def frozen(self) -> tuple[str, ...]:
    """Patterns of parameters that are not trained.

    The document embedder made the index; and what a loss does not reach is not
    decayed either.
    """
    if self.reader == 'closed_book':
      return 'embedder/', '^reader/span_head/'
    documents = () if self.num_embedded else ('^document_embedder/',)
    return (*documents, '^reader/mlm_head/')


def finetune(
  corpus: str,
  out: str,
  init: str,
  questions: str,
  *,
  dev_questions: str | None = None,
  model: RealmConfig | None = None,
  config: FinetuneConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  index: IndexConfig | None = None,
  mesh: MeshConfig | None = None,
) -> str:
  """Trains the query embedder and the reader on questions with answers.

  Unless the document embedder learns too, a shared embedder is split in two:
  the one for documents stays as it was, and so does the index.

  Args:
    corpus: folder of a prepared corpus.
    out: the run's folder; a run that was stopped goes on.
    init: folder of a finished run to start from.
    questions: file of questions with answers.
    dev_questions: file of other ones: the parameters that answer them best are
      kept, in place of the last.
    model: whose dropout and arithmetic (dtype, attention, scan_layers, remat)
      the encoder gets; its sizes are those of init. None: as in init.
    config: see FinetuneConfig.
    lengths: sequence lengths.
    loop: how many steps.
    optimizer: learning rate and the rest; num_steps is taken from loop.
    index: what to search with.
    mesh: devices to spread the run over; None for one. A run that was stopped
      may go on with another.

  Returns:
    out.

  Raises:
    UserError: the vocabulary of the corpus is not that of the run, or no
      answer can be a span.
  """
  opened = Corpus.open(corpus)
  config = config or FinetuneConfig()
  lengths = lengths or Lengths()
  loop = loop or LoopConfig()
  index = index or IndexConfig()
  optimizer = optimizer or OptimizerConfig(learning_rate=1e-5)
  start = load_run(init).computed_as(model)
  start.check_vocabulary(opened)
  if not config.num_embedded:
    start = _with_own_document_embedder(start)
  optimizer = optimizer.for_stage(loop.num_steps, config.frozen, start.params)
  check_index(config.refresh, index.kind)
  trainers, builders = divide_devices(config.refresh)
  layout = make_layout(mesh, start.model, trainers)
  check_batch(
    layout,
    'FinetuneConfig.batch_size',
    config.batch_size,
    config.num_microbatches,
  )
  # Read before the run's folder is made, so that mistakes leave none.
  asked = _Asked(questions, opened, lengths)
  asked.check_trainable()
  dev = _dev_questions(dev_questions, config, opened, lengths)
  lengths.check(opened, start.model.encoder.max_positions)
  run = RunFolder(
    out,
    STAGES[config.reader],
    start.model,
    opened,
    {
      'init': start.identity,
      'questions': asked.identity,
      'dev_questions': dev and dev.identity,
      'config': config,
      'lengths': lengths,
      'loop': loop,
      'optimizer': optimizer,
      'index': index,
    },
  )
  if run.finished:
    return out
  stage = _Stage(run, opened, config, lengths, loop, index, layout)
  selection = None
  if config.reader == 'closed_book':
    source: BatchSource = stage.closed_book(asked)
    events = []
  else:
    source, retriever = stage.source(asked, start, builders)
    events = source.events()
    if dev:
      selection = stage.selection(dev, retriever)
  run_stage(
    run,
    start.params,
    optimizer,
    stage.make_step,
    source,
    loop,
    events,
    layout=layout,
    selection=selection,
  )
  return out


def _with_own_document_embedder(start: LoadedRun) -> LoadedRun:
  model, params = split_embedders(start.model, start.params)
  return dataclasses.replace(start, model=model, params=params)


class _Asked:
  """The questions of a file.

  Attributes:
    questions: as they stand there.
    examples: the same ones as arrays.
    identity: what a run records of them.
  """

  def __init__(
    self,
    path: str,
    corpus: Corpus,
    lengths: Lengths,
    max_questions: int | None = None,
  ):
    self._path = path
    loaded = load_questions(path)
    self.questions: list[Question] = loaded[:max_questions]
    self.examples: QAExamples = checked_examples(
      path, loaded, self.questions, corpus.wordpiece, lengths, warn
    )
    self.identity = {'file': path, 'sha256': file_checksum(Path(path))}

  def check_trainable(self) -> None:
    """Raises UserError if no question can teach."""
    if not self.examples.answer_lens.any():
      raise UserError(
        f'No answer in {self._path} is a string of at most 10 wordpieces: '
        'there is nothing to train on.'
      )


def _dev_questions(
  path: str | None, config: FinetuneConfig, corpus: Corpus, lengths: Lengths
) -> _Asked | None:
  if path is None:
    if config.patience:
      raise UserError(
        f'FinetuneConfig.patience is {config.patience}, but there are no dev '
        'questions to lose it with. Give --dev-questions, or set it to 0.'
      )
    return None
  if config.reader == 'closed_book':
    raise UserError(
      f'Dev questions were given ({path}), but parameters are chosen by them '
      "for FinetuneConfig.reader 'span' only, and it is 'closed_book'. Leave "
      '--dev-questions away.'
    )
  return _Asked(path, corpus, lengths, config.num_dev)


@dataclasses.dataclass(frozen=True)
class _Stage:
  """What the parts of one run of this stage are made with.

  Attributes:
    run: its folder.
    corpus: its blocks.
    config: what it is about.
    lengths: sequence lengths.
    loop: how long.
    index: what to search with.
    layout: of the devices that train; None for one.
  """

  run: RunFolder
  corpus: Corpus
  config: FinetuneConfig
  lengths: Lengths
  loop: LoopConfig
  index: IndexConfig
  layout: Layout | None

  def _batches(self, examples: QAExamples) -> tuple[Batches, OwnRows]:
    rows = OwnRows(self.layout, self.config.batch_size)
    batches = Batches(
      range(len(examples.question_lens)),
      examples,
      self.config.batch_size,
      self.loop.seed,
      rows.numbers,
    )
    return batches, rows

  def closed_book(self, asked: _Asked) -> ClosedBookSource:
    """Questions without documents."""
    batches, rows = self._batches(asked.examples)
    return ClosedBookSource(batches, self.corpus, self.lengths, rows)

  def source(
    self, asked: _Asked, start: LoadedRun, builders: Sequence[jax.Device]
  ) -> tuple[QASource, Retriever]:
    """Questions with the blocks found for them, and what finds them."""
    searching = make_searching(
      self.config.refresh,
      self.run,
      self.corpus,
      self.lengths,
      self.index,
      self.layout,
      builders=builders,
      reuse_from=known_snapshots(start.path),
      seed=self.loop.seed,
      warn=warn,
    )
    batches, rows = self._batches(asked.examples)
    source = QASource(
      batches,
      searching.retriever,
      searching.refresher,
      min(self.config.beam_size, self.corpus.num_blocks),
      self.config.num_read,
      self.config.num_embedded,
      self._labels(asked),
      rows,
    )
    return source, searching.retriever

  def _labels(self, asked: _Asked) -> TextLabels | None:
    if self.config.block_labels == 'wordpiece':
      return None
    find = functools.partial(
      kept_text_labels,
      self.run.path / 'text_labels.npz',
      self.corpus,
      [question.strings for question in asked.questions],
    )

    def find_first() -> None:
      with block_progress(
        console, 'looking for answers', self.corpus.num_blocks
      ) as on_progress:
        find(on_progress)

    hosts.by_first(find_first)
    return find()  # what lies in the file now

  def selection(self, dev: _Asked, retriever: Retriever) -> BestOnDev:
    """Measures on other questions, and keeps what answers them best."""
    measure = DevQuestions(
      dev.questions,
      dev.examples,
      self.run.model,
      retriever,
      self.config.num_read,
      self.layout,
    )
    config = self.config
    return BestOnDev(
      self.run.path,
      measure,
      config.dev_metric,
      config.dev_every,
      config.patience,
    )

  def make_step(self, transformation: optax.GradientTransformation) -> Step:
    """The training step."""
    model, num_parts = self.run.model, self.config.num_microbatches
    if self.config.reader == 'closed_book':
      return make_pretrain_step(
        model,
        transformation,
        'marginal_token',
        layout=self.layout,
        num_microbatches=num_parts,
      )
    return make_finetune_step(model, transformation, self.layout, num_parts)
