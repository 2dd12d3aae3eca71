"""The same numbers as the official ORQA code, from questions to answers."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from parity.official import (
  Clipping,
  Official,
  assert_close,
  assert_gradients_close,
)
from parity.pipeline import corpus_of, reader_lengths

from realm_jax import losses
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.text_labels import find_text_labels
from realm_jax.eval.answering import Answerer
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.models import realm
from realm_jax.models.inference import make_embed
from realm_jax.train import optimizer
from realm_jax.train.qa_source import QASource
from realm_jax.train.state import TrainState
from realm_jax.train.step import make_finetune_step
from realm_jax.types import TextInputs


@pytest.fixture(scope='module')
def fine_tuning(fixtures_folder):
  folder = fixtures_folder / 'official_realm'
  file = Official(folder / 'orqa.npz')
  texts = json.loads((folder / 'orqa.json').read_text(encoding='utf-8'))
  file.examples, file.blocks = texts['examples'], texts['blocks']
  return file


@pytest.fixture(scope='module')
def answer_step(fine_tuning):
  model = realm.Realm(fine_tuning.config)

  def loss(
    params, question, block_embeds, has_answer, joint, block_mask, right
  ):
    apply = functools.partial(model.apply, {'params': params})
    query_embeds = apply(question, method='embed_queries')
    retriever_scores = realm.relevance_scores(query_embeds, block_embeds)
    span_scores = apply(joint, block_mask, method='span_scores')
    value, terms = losses.orqa_loss(
      retriever_scores,
      jnp.ones_like(has_answer),
      has_answer,
      span_scores,
      right,
    )
    return value, (terms, retriever_scores)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def question_of(file, i: int) -> TextInputs:
  """[CLS] question [SEP], the beginning of what the reader reads; padded."""
  joint = file.text(f'ex{i}')
  inside = (joint.segment_ids[:1] == 0) & (joint.mask[:1] == 1)
  return TextInputs(
    np.where(inside, joint.token_ids[:1], 0),
    inside.astype(np.int32),
    np.zeros_like(joint.segment_ids[:1]),
  )


class Case:
  """One question of the file, as the step takes it."""

  def __init__(self, file: Official, i: int):
    self.arrays = {
      key.removeprefix(f'ex{i}/'): file.arrays[key]
      for key in file.arrays
      if key.startswith(f'ex{i}/')
    }
    self.spans = realm.span_positions(
      file.settings['reader_seq_len'], file.config.max_span_width
    )
    self.right = losses.span_correct(
      self.arrays['gold_starts'][None],
      self.arrays['gold_ends'][None] + 1,
      *self.spans,
    )
    retrieved = file.examples[i]['retrieved_block_indices']
    self.inputs = (
      question_of(file, i),
      file.arrays['in/block_emb'][None, retrieved],
      self.arrays['retriever_correct'][None],
      TextInputs(*(part[None] for part in file.text(f'ex{i}'))),
      self.arrays['block_mask'][None],
      self.right,
    )


@pytest.mark.slow
def test_fine_tuning(fine_tuning, answer_step):
  assert fine_tuning.examples
  for i in range(len(fine_tuning.examples)):
    check_fine_tuning(fine_tuning, answer_step, i)


def check_fine_tuning(fine_tuning, answer_step, i):
  question = Case(fine_tuning, i)
  arrays = question.arrays
  starts, stops = question.spans
  np.testing.assert_array_equal(starts, arrays['candidate_starts'])
  np.testing.assert_array_equal(stops - 1, arrays['candidate_ends'])
  np.testing.assert_array_equal(question.right[0], arrays['reader_correct'])
  (loss, (terms, retriever_scores)), gradients = answer_step(
    fine_tuning.tree('var/'), *question.inputs
  )
  assert_close(
    retriever_scores[0], arrays['retriever_logits'], 'orqa: retriever_logits'
  )
  joint_scores = terms.joint_scores[0]
  inside = arrays['candidate_mask'] == 1
  assert_close(
    joint_scores[inside],
    arrays['reader_logits'][inside],
    'orqa: reader_logits',
    1e-4,
  )
  np.testing.assert_allclose(
    joint_scores[~inside], arrays['reader_logits'][~inside], rtol=1e-5
  )
  assert np.unravel_index(joint_scores.argmax(), joint_scores.shape) == (
    arrays['pred_block_index'],
    arrays['pred_candidate'],
  )
  assert_close(loss, arrays['loss'], 'orqa: loss')
  for has, ours, theirs in (
    (terms.has_right_block, terms.retriever_loss, 'retriever'),
    (terms.has_right_span, terms.reader_loss, 'reader'),
  ):
    expected = arrays[f'{theirs}_loss_before_gating'] if has[0] else 0
    assert_close(ours[0], expected, f'orqa: {theirs}_loss')
  assert_gradients_close(gradients, fine_tuning.tree(f'grad{i}/'), 'orqa')


class System:
  """The blocks and questions of the file in this library's own pipeline."""

  def __init__(self, file: Official, folder, vocab):
    records = np.array([block.encode() for block in file.blocks])
    self.corpus = corpus_of(records, vocab, folder)
    self.lengths = reader_lengths(file.settings['reader_seq_len'])
    encoder = dataclasses.replace(
      file.config.encoder, dropout_rate=0.0, attention_dropout_rate=0.0
    )
    self.model, self.params = realm.split_embedders(
      dataclasses.replace(file.config, encoder=encoder), file.tree('var/')
    )
    self.snapshot = Snapshot(file.arrays['in/block_emb'])
    self.answers = [tuple(example['answers']) for example in file.examples]
    questions = [
      Question(example['question'], answers)
      for example, answers in zip(file.examples, self.answers, strict=True)
    ]
    self.examples = qa_examples(questions, self.corpus.wordpiece, self.lengths)
    self.beam_size = file.settings['retriever_beam_size']
    self.num_read = file.settings['reader_beam_size']

  def retriever(self) -> Retriever:
    embed = make_embed(self.model, realm.Realm.embed_queries)
    return Retriever(embed, self.corpus, self.lengths, snapshot=self.snapshot)

  def source(self) -> QASource:
    """The questions in the file's order, over and over, one a step."""
    rows = range(len(self.answers))
    retriever = self.retriever()
    return QASource(
      (self.examples.rows([row]) for _ in iter(int, 1) for row in rows),
      retriever,
      tiny.no_refresh(self.corpus.folder, retriever),
      self.beam_size,
      self.num_read,
      labels=find_text_labels(self.corpus, self.answers),
    )


@pytest.fixture(scope='module')
def system(fine_tuning, fixtures_folder, tmp_path_factory):
  vocab = fixtures_folder / 'official_realm' / 'vocab.txt'
  return System(fine_tuning, tmp_path_factory.mktemp('orqa'), vocab)


def test_what_is_retrieved_read_and_labelled(fine_tuning, system):
  source = system.source()
  state = TrainState(jnp.int32(0), system.params, None)
  for i, example in enumerate(fine_tuning.examples):
    batch, _ = source.next_batch(state)
    theirs = fine_tuning.arrays
    np.testing.assert_array_equal(
      batch.beam_embeds[0],
      theirs['in/block_emb'][example['retrieved_block_indices']],
    )
    np.testing.assert_array_equal(
      batch.beam_has_answer[0], theirs[f'ex{i}/retriever_correct']
    )
    for name, values in zip(batch.joint._fields, batch.joint, strict=True):
      np.testing.assert_array_equal(values[0], theirs[f'ex{i}/{name}'])
    np.testing.assert_array_equal(
      batch.block_mask[0], theirs[f'ex{i}/block_mask']
    )


def assert_weights_close(params, fine_tuning, num_updates, clipping):
  """Of what is trained: not the masked-LM head, not the documents' embedder."""
  quantity = f'{num_updates} updates, norm {clipping.name}'
  after = fine_tuning.tree(f'after{num_updates}/')
  for part, ours in (('embedder', 'query_embedder'), ('reader', 'reader')):
    for layer in params[ours].keys() - {'mlm_head'}:
      jax.tree.map(
        lambda found, wanted: assert_close(
          found,
          wanted,
          f'orqa: weights after {quantity}',
          clipping.weight_tolerance(num_updates),
        ),
        params[ours][layer],
        after[part][layer],
      )


@pytest.mark.slow
@pytest.mark.parametrize('own_norm', [False, True])
def test_fine_tuning_updates(fine_tuning, system, own_norm):
  """Retrieval, reading, labels, losses, updates: all of it, step by step."""
  arrays, settings = fine_tuning.arrays, fine_tuning.settings
  clipping = Clipping(fine_tuning, own_norm)
  steps = arrays['traj/global_step']
  config = optimizer.OptimizerConfig(
    learning_rate=settings['learning_rate'],
    num_steps=settings['num_train_steps'],
    schedule='official',
    clip_norm=clipping.clip_norm,
    frozen=('^document_embedder/', '^reader/mlm_head/'),
  )
  transformation, schedule = optimizer.make_optimizer(config, system.params)
  np.testing.assert_allclose(
    [schedule(step) for step in steps], arrays['traj/lr_used'], rtol=1e-6
  )
  transformation, opt_state = clipping.before(transformation, system.params)
  state = jax.tree.map(
    jnp.array, TrainState(jnp.int32(steps[0]), system.params, opt_state)
  )
  source = system.source()
  step = make_finetune_step(system.model, transformation)
  recorded = fine_tuning.updates_recorded()
  assert len(steps) in recorded
  for i, expected in enumerate(arrays['traj/loss']):
    batch, _ = source.next_batch(state)
    state, metrics = step(state, batch, jax.random.key(0))
    assert_close(
      metrics['loss'],
      expected,
      f'orqa: losses of {len(steps)} updates, norm {clipping.name}',
      clipping.loss_tolerance(i),
    )
    clipping.see_norm(i, float(metrics['gradient_norm']))
    if i + 1 in recorded:
      assert_weights_close(state.params, fine_tuning, i + 1, clipping)


@pytest.mark.slow
def test_answers(fine_tuning, system):
  answerer = Answerer(system.model, system.retriever())
  for i, example in enumerate(fine_tuning.examples):
    read = example['retrieved_block_indices'][: system.num_read]
    (answer,) = answerer.answer(
      system.params, system.examples.rows([i]), np.array([read])
    )
    assert answer.text == example['predicted_answer']
    theirs = example['eval_metrics']
    assert answer.is_right_span == theirs['exact_match']
    assert answer.has_right_span == theirs['reader_oracle']
    assert fine_tuning.blocks[answer.block_id] == example['predicted_block']
