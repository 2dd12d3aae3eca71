"""Warm up the embedder (inverse cloze) and the reader (its own block)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from realm_jax.checkpoints.bert import encoder_config_from, load_bert
from realm_jax.checkpoints.hub import local_path
from realm_jax.checks import check_at_least
from realm_jax.data.batches import Batches, DataConfig
from realm_jax.data.companions import Companions
from realm_jax.data.corpus import BlockTokens, Corpus
from realm_jax.data.examples import (
  Example,
  InverseCloze,
  Lengths,
  split_sentences,
)
from realm_jax.data.featurize import (
  PAIR_SPECIALS,
  QUERY_SPECIALS,
  Ragged,
  bucket_len,
  document_inputs,
  query_inputs,
)
from realm_jax.data.reader_warmup import Readings, reader_batch
from realm_jax.errors import UserError
from realm_jax.models.copying_init import copying_init
from realm_jax.models.encoder import computed_as
from realm_jax.models.realm import RealmConfig, abstract_params, init_params
from realm_jax.own_rows import OwnRows
from realm_jax.sharding import MeshConfig, check_batch, make_layout
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.pipeline import BatchSource
from realm_jax.train.run_folder import RunFolder
from realm_jax.train.session import run_stage
from realm_jax.train.step import make_ict_step
from realm_jax.types import Array, IctBatch, ReaderBatch


class _Begun(NamedTuple):
  """A batch that is not featurised yet.

  Attributes:
    step: updates done when it is used.
    examples: the rows of this process.
    shared: [batch, 3] int32, of all rows: tokens of the query without and of
      the block with special ones, and the block that the reader reads.
  """

  step: int
  examples: Example
  shared: Array


class IctSource(BatchSource):
  """Sentences and their blocks, batch by batch."""

  uses_params = False

  def __init__(
    self,
    batches: Batches,
    corpus: Corpus,
    lengths: Lengths,
    reader_batch_size: int,
    seed: int,
    rows: OwnRows | None = None,
  ):
    """Keeps its arguments.

    Args:
      batches: of InverseCloze examples.
      corpus: where they come from.
      lengths: sequence lengths.
      reader_batch_size: so many of a batch warm up the reader.
      seed: of what is blanked out for the reader.
      rows: of a batch, those that batches makes; None for all.
    """
    super().__init__(batches)
    self._rows = rows or OwnRows()
    self._corpus = corpus
    self._lengths = lengths
    self._reader_batch_size = reader_batch_size
    self._seed = seed

  def begin(self, step: int, params: Any) -> _Begun:
    """Draws sentences."""
    del params
    examples = next(self._batches)
    block_lens = examples['title_lens'] + examples['body_lens'] + PAIR_SPECIALS
    reads = 'read_block_id' if self._reader_batch_size else 'block_id'
    shared = np.stack(
      [examples['query_lens'], block_lens, examples[reads]], axis=1
    )
    return _Begun(step, examples, self._rows.share(shared))

  def finish(self, begun: _Begun) -> tuple[IctBatch, dict[str, float]]:
    """Featurises them."""
    examples = begun.examples
    query_lens, block_lens, read_block_ids = np.asarray(begun.shared).T
    wordpiece, lengths = self._corpus.wordpiece, self._lengths
    document_len = bucket_len(
      int(block_lens.max()), lengths.multiple, lengths.document_len
    )
    blocks = BlockTokens(
      examples['title_ids'],
      examples['title_lens'],
      examples['body_ids'],
      examples['body_lens'],
    )
    queries = Ragged(examples['query_ids'], examples['query_lens'])
    tokens = int((query_lens + QUERY_SPECIALS + block_lens).sum())
    reader = None
    if self._reader_batch_size:
      reader, num_read = self._reader_batch(begun, query_lens, read_block_ids)
      tokens += num_read
    batch = IctBatch(
      query_inputs(queries, lengths.query_len, wordpiece),
      document_inputs(blocks, wordpiece, document_len, document_len),
      examples['block_id'],
      reader,
    )
    return batch, {'tokens': tokens}

  def _reader_batch(
    self, begun: _Begun, query_lens: np.ndarray, read_block_ids: np.ndarray
  ) -> tuple[ReaderBatch, int]:
    """What the reader reads, and how many tokens that is for all rows.

    The rows are spread evenly over the batch, and so over its parts.
    """
    num_rows = self._reader_batch_size
    numbers = np.arange(num_rows) * len(query_lens) // num_rows
    bodies = np.where(
      read_block_ids >= 0, self._corpus.body_lens[read_block_ids], 0
    )
    joint_lens = (query_lens + bodies + PAIR_SPECIALS)[numbers]
    lengths = self._lengths
    joint_len = bucket_len(
      int(joint_lens.max()), lengths.multiple, lengths.joint_len
    )
    is_own, places = self._rows.among(numbers)
    rng = np.random.default_rng([self._seed, begun.step])
    reader = reader_batch(
      {name: array[places] for name, array in begun.examples.items()},
      self._corpus,
      lengths,
      lambda width: rng.random((num_rows, width))[is_own],
      joint_len,
    )
    return reader, int(np.minimum(joint_lens, joint_len).sum())


def _make_example(
  corpus: Corpus, lengths: Lengths, config: 'IctConfig', seed: int
) -> Callable[[int, int], Example | None]:
  """Examples of InverseCloze, and of Readings where the reader learns."""
  inverse_cloze = InverseCloze(corpus, lengths, seed)
  if not config.reader_batch_size:
    return inverse_cloze
  readings = Readings(corpus, Companions(corpus), lengths, seed)

  def make_example(sentence_id: int, epoch: int) -> Example | None:
    example = inverse_cloze(sentence_id, epoch)
    if example is None:
      return None
    return {**example, **readings(sentence_id, epoch)}

  return make_example


@dataclasses.dataclass(frozen=True)
class IctConfig:
  """What the warm start is about.

  Attributes:
    batch_size: sentences, and so blocks to choose among, a step. As they are
      compared with each other, there are no num_microbatches here.
    reader_batch_size: sentences a step that also warm up the reader, which
      learns to read them beside other blocks; 0, as in the paper, leaves the
      reader as it is.
    copying_init: start a reader that is made anew as models.copying_init has
      it; has no effect with `bert`. The paper's reader starts from BERT's.
    num_held_out: sentences with spans that are kept out of all training.
  """

  batch_size: int = 64
  reader_batch_size: int = 0
  copying_init: bool = False
  num_held_out: int = 512

  def __post_init__(self):
    check_at_least(self, batch_size=1, num_held_out=0)
    if not 0 <= self.reader_batch_size <= self.batch_size:
      raise UserError(
        f'IctConfig.reader_batch_size is {self.reader_batch_size}, expected 0 '
        f'to batch_size, which is {self.batch_size}.'
      )


def ict(
  corpus: str,
  out: str,
  *,
  model: RealmConfig | None = None,
  bert: str | None = None,
  config: IctConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  mesh: MeshConfig | None = None,
  data: DataConfig | None = None,
) -> str:
  """Trains the embedder to find a sentence's block among a batch's.

  The reader is warmed up beside it: see IctConfig.

  Args:
    corpus: folder of a prepared corpus.
    out: the run's folder; a run that was stopped goes on.
    model: sizes; vocab_size is taken from the corpus.
    bert: BERT-shaped weights to start from, a folder or a name on the Hugging
      Face hub; they set the encoder's sizes, `model` its dropout and
      arithmetic.
    config: see IctConfig.
    lengths: sequence lengths.
    loop: how many steps.
    optimizer: learning rate and the rest; num_steps is taken from loop.
    mesh: devices to spread the run over; None for one. A run that was stopped
      may go on with another.
    data: how examples are made on the host; None for a thread.

  Returns:
    out.
  """
  opened = Corpus.open(corpus)
  model = model or RealmConfig()
  config = config or IctConfig()
  lengths = lengths or Lengths()
  loop = loop or LoopConfig()
  optimizer = optimizer or OptimizerConfig(learning_rate=1e-4)
  weights = local_path(bert) if bert is not None else None
  if weights is not None:
    encoder = computed_as(encoder_config_from(weights), model.encoder)
    model = dataclasses.replace(model, encoder=encoder)
  encoder = dataclasses.replace(model.encoder, vocab_size=opened.wordpiece.size)
  model = dataclasses.replace(model, encoder=encoder)
  lengths.check(opened, encoder.max_positions)
  # What the loss does not reach is not decayed either.
  frozen = '^reader/span_head/' if config.reader_batch_size else '^reader/'
  optimizer = optimizer.for_stage(
    loop.num_steps, (frozen,), abstract_params(model)
  )
  layout = make_layout(mesh, model)
  for name in ('batch_size', 'reader_batch_size'):
    check_batch(layout, f'IctConfig.{name}', getattr(config, name))
  run = RunFolder(
    out,
    'ict',
    model,
    opened,
    {
      'bert': bert,
      'config': config,
      'lengths': lengths,
      'loop': loop,
      'optimizer': optimizer,
    },
  )
  if run.finished:
    return out
  params = init_params(model, jax.random.key(loop.seed))
  if weights is not None:
    params = load_bert(weights, model, params, wordpiece=opened.wordpiece)
  elif config.copying_init:
    rng = jax.random.fold_in(jax.random.key(loop.seed), 1)
    params = {
      **params,
      'reader': copying_init(params['reader'], model.encoder, rng),
    }
  train_ids, _ = split_sentences(opened, config.num_held_out, with_spans=False)
  rows = OwnRows(layout, config.batch_size)
  batches = Batches(
    train_ids,
    _make_example(opened, lengths, config, loop.seed),
    config.batch_size,
    loop.seed,
    rows.numbers,
    data,
  )
  source = IctSource(
    batches, opened, lengths, config.reader_batch_size, loop.seed, rows
  )
  run_stage(
    run,
    params,
    optimizer,
    lambda transformation: make_ict_step(model, transformation, layout),
    source,
    loop,
    layout=layout,
  )
  return out
