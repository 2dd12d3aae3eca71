"""Warm up the embedder with the inverse cloze task."""

import dataclasses
from typing import Any

import jax

from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import InverseCloze, Lengths, split_sentences
from realm_jax.data.featurize import Ragged, document_inputs, query_inputs
from realm_jax.data.corpus import BlockTokens
from realm_jax.models.bert_weights import encoder_config_from, load_bert
from realm_jax.models.realm import RealmConfig, init_params
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.run_folder import RunFolder
from realm_jax.train.session import run_stage
from realm_jax.train.state import TrainState
from realm_jax.train.step import make_ict_step
from realm_jax.types import IctBatch


class IctSource:
  """Sentences and their blocks, batch by batch."""

  def __init__(self, batches: Batches, corpus: Corpus, lengths: Lengths):
    """Keeps its arguments; batches are of InverseCloze examples."""
    self._batches = batches
    self._corpus = corpus
    self._lengths = lengths

  def start(self, params: Any) -> None:
    """Nothing to do."""

  def next_batch(self, state: TrainState) -> tuple[IctBatch, dict[str, float]]:
    """The next batch; it does not depend on the state."""
    del state
    examples = next(self._batches)
    wordpiece, lengths = self._corpus.wordpiece, self._lengths
    queries = Ragged(examples['query_ids'], examples['query_lens'])
    blocks = BlockTokens(
      examples['title_ids'],
      examples['title_lens'],
      examples['body_ids'],
      examples['body_lens'],
    )
    batch = IctBatch(
      query_inputs(queries, lengths.query_len, wordpiece),
      document_inputs(
        blocks, wordpiece, lengths.multiple, lengths.document_len
      ),
      examples['block_id'],
    )
    tokens = int(batch.query.mask.sum() + batch.documents.mask.sum())
    return batch, {'tokens': tokens}

  def position(self) -> dict[str, Any]:
    """The data position."""
    return {'data': self._batches.position()}

  def seek(self, position: dict[str, Any]) -> None:
    """Goes back to a position."""
    self._batches.seek(position['data'])

  def prune(self, oldest: dict[str, Any]) -> None:
    """Nothing is kept."""


def ict(
  corpus: str,
  out: str,
  *,
  model: RealmConfig | None = None,
  bert: str | None = None,
  batch_size: int = 64,
  num_held_out: int = 512,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
) -> str:
  """Trains the embedder to find a sentence's block among a batch's.

  Args:
    corpus: folder of a prepared corpus.
    out: the run's folder; a run that was stopped goes on.
    model: sizes; vocab_size is taken from the corpus.
    bert: folder of BERT-shaped weights to start from; they set the encoder's
      sizes.
    batch_size: sentences, and so blocks to choose among, a step.
    num_held_out: sentences with spans that are kept out of all training.
    lengths: sequence lengths.
    loop: how many steps.
    optimizer: learning rate and the rest; num_steps is taken from loop.

  Returns:
    out.
  """
  opened = Corpus.open(corpus)
  model = model or RealmConfig()
  lengths = lengths or Lengths()
  loop = loop or LoopConfig()
  optimizer = optimizer or OptimizerConfig(learning_rate=1e-4, num_steps=1)
  if bert is not None:
    model = dataclasses.replace(model, encoder=encoder_config_from(bert))
  encoder = dataclasses.replace(model.encoder, vocab_size=opened.wordpiece.size)
  model = dataclasses.replace(model, encoder=encoder)
  run = RunFolder(
    out,
    'ict',
    model,
    opened,
    {
      'bert': bert,
      'batch_size': batch_size,
      'num_held_out': num_held_out,
      'lengths': lengths,
      'loop': loop,
      'optimizer': optimizer,
    },
  )
  if run.finished:
    return out
  params = init_params(model, jax.random.key(loop.seed))
  if bert is not None:
    params = load_bert(bert, model, params)
  train_ids, _ = split_sentences(opened, num_held_out, with_spans=False)
  batches = Batches(
    train_ids,
    InverseCloze(opened, lengths, loop.seed),
    batch_size,
    loop.seed,
  )
  run_stage(
    run,
    params,
    dataclasses.replace(optimizer, num_steps=loop.num_steps),
    lambda transformation: make_ict_step(model, transformation),
    IctSource(batches, opened, lengths),
    loop,
  )
  return out
