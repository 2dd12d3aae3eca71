"""Fine-tune on questions: ORQA's losses, or closed book."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optax

from realm_jax.checks import check_at_least, check_microbatches
from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.errors import UserError
from realm_jax.folders import file_checksum
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, RealmConfig, split_embedders
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.sharding import (
  Layout,
  MeshConfig,
  OwnRows,
  check_batch,
  make_layout,
)
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.pipeline import BatchSource
from realm_jax.train.qa_source import ClosedBookSource, QASource
from realm_jax.train.run_folder import RunFolder, known_snapshots, load_run
from realm_jax.train.session import run_stage
from realm_jax.train.step import Step, make_finetune_step, make_pretrain_step

READERS = ('span', 'closed_book')
BLOCK_LABELS = ('wordpieces', 'text')
STAGES = {'span': 'finetune', 'closed_book': 'closed_book'}
# Parameters that are not trained: the document embedder made the index, and
# what a loss does not reach is not decayed either.
_FROZEN = {
  'span': ('^document_embedder/', '^reader/mlm_head/'),
  'closed_book': ('embedder/', '^reader/span_head/'),
}


@dataclasses.dataclass(frozen=True)
class FinetuneConfig:
  """What fine-tuning is about.

  Attributes:
    batch_size: questions a step.
    num_microbatches: parts of the batch that a step takes one after the other:
      the same update, but for dropout, with the memory of a part.
    beam_size: blocks that the retriever's loss sees (ORQA has 5000).
    num_read: blocks that the reader sees (ORQA has 5).
    reader: 'span' extracts answers from blocks; 'closed_book' fills them in
      without any document, a baseline.
    block_labels: a block is right if it has the 'wordpieces' of an answer,
      whatever their case; or, as ORQA's code has it, if an answer is anywhere
      in its 'text', letter by letter.
  """

  batch_size: int = 16
  num_microbatches: int = 1
  beam_size: int = 5000
  num_read: int = 5
  reader: str = 'span'
  block_labels: str = 'wordpieces'

  def __post_init__(self):
    check_at_least(self, batch_size=1, num_microbatches=1)
    check_microbatches(self)
    for name, known in (('reader', READERS), ('block_labels', BLOCK_LABELS)):
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


def finetune(
  corpus: str,
  out: str,
  init: str,
  questions: str,
  *,
  model: RealmConfig | None = None,
  config: FinetuneConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  index: IndexConfig | None = None,
  mesh: MeshConfig | None = None,
) -> str:
  """Trains the query embedder and the reader on questions with answers.

  A shared embedder is split in two: the document embedder stays as it was, and
  so does the index, which is made once.

  Args:
    corpus: folder of a prepared corpus.
    out: the run's folder; a run that was stopped goes on.
    init: folder of a finished run to start from.
    questions: file of questions with answers.
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
  model, params = split_embedders(start.model, start.params)
  optimizer = optimizer.for_stage(
    loop.num_steps, _FROZEN[config.reader], params
  )
  layout = make_layout(mesh, model)
  check_batch(
    layout,
    'FinetuneConfig.batch_size',
    config.batch_size,
    config.num_microbatches,
  )
  # Read before the run's folder is made, so that mistakes leave none.
  loaded = load_questions(questions)
  examples = qa_examples(loaded, opened.wordpiece, lengths)
  if not examples.answer_lens.any():
    raise UserError(
      f'No answer in {questions} is a string of at most 10 wordpieces: there '
      'is nothing to train on.'
    )
  lengths.check(opened, start.model.encoder.max_positions)
  run = RunFolder(
    out,
    STAGES[config.reader],
    model,
    opened,
    {
      'init': start.identity,
      'questions': {
        'file': str(questions),
        'sha256': file_checksum(Path(questions)),
      },
      'config': config,
      'lengths': lengths,
      'loop': loop,
      'optimizer': optimizer,
      'index': index,
    },
  )
  if run.finished:
    return out
  rows = OwnRows(layout, config.batch_size)
  batches = Batches(
    range(len(examples.question_lens)),
    examples,
    config.batch_size,
    loop.seed,
    rows.numbers,
  )
  if config.reader == 'closed_book':
    source: BatchSource = ClosedBookSource(batches, opened, lengths, rows)
  else:
    answers = None
    if config.block_labels == 'text':
      answers = [() if q.is_regex else q.answers for q in loaded]
    source = _source(
      run,
      start.path,
      params,
      opened,
      batches,
      config,
      lengths,
      index,
      answers,
      layout,
      rows,
    )

  def make_step(transformation: optax.GradientTransformation) -> Step:
    if config.reader == 'closed_book':
      return make_pretrain_step(
        model,
        transformation,
        'token',
        layout=layout,
        num_microbatches=config.num_microbatches,
      )
    return make_finetune_step(
      model, transformation, layout, config.num_microbatches
    )

  run_stage(run, params, optimizer, make_step, source, loop, layout=layout)
  return out


def _source(
  run: RunFolder,
  start: Path,
  params: Any,
  corpus: Corpus,
  batches: Batches,
  config: FinetuneConfig,
  lengths: Lengths,
  index: IndexConfig,
  answers: Sequence[Sequence[str]] | None,
  layout: Layout | None,
  rows: OwnRows,
) -> QASource:
  """Questions with the blocks found for them, over an index made of params."""
  maker = SnapshotMaker(
    make_embed(run.model, Realm.embed_documents, layout),
    corpus,
    lengths,
    reuse_from=known_snapshots(start),
    layout=layout,
  )
  snapshot, _ = maker.snapshot(run.snapshot(0), params, 0)
  retriever = Retriever(
    make_embed(run.model, Realm.embed_queries, layout),
    corpus,
    lengths,
    index,
    snapshot,
    layout.mesh if layout else None,
  )
  beam_size = min(config.beam_size, corpus.num_blocks)
  return QASource(batches, retriever, beam_size, config.num_read, answers, rows)
