"""The same numbers as the official ORQA code, from questions to answers."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny
from parity.official import (
  Official,
  assert_close,
  assert_gradients_close,
)

from realm_jax import losses
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.eval.answering import Answerer
from realm_jax.index.exact import ExactIndex
from realm_jax.index.retriever import Retriever
from realm_jax.models import realm
from realm_jax.models.inference import make_embed
from realm_jax.runs.prepare import prepare
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


def test_fine_tuning(fine_tuning, answer_step):
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
    np.save(folder / 'block_records.npy', records)
    prepare(
      [str(folder / 'block_records.npy')],
      str(folder / 'corpus'),
      vocab=str(vocab),
      entities='none',
      console=tiny.quiet(),
    )
    self.corpus = Corpus.open(folder / 'corpus')
    # Questions are not cut; what they leave of the reader's length is blocks'.
    reader_len = file.settings['reader_seq_len']
    self.lengths = Lengths(reader_len // 2, -(-reader_len // 2), reader_len)
    encoder = dataclasses.replace(
      file.config.encoder, dropout_rate=0.0, attention_dropout_rate=0.0
    )
    self.model, self.params = realm.split_embedders(
      dataclasses.replace(file.config, encoder=encoder), file.tree('var/')
    )
    self.index = ExactIndex(file.arrays['in/block_emb'])
    self.answers = [tuple(example['answers']) for example in file.examples]
    questions = [
      Question(example['question'], answers)
      for example, answers in zip(file.examples, self.answers, strict=True)
    ]
    self.examples = qa_examples(questions, self.corpus.wordpiece, self.lengths)
    self.beam_size = len(file.examples[0]['retrieved_block_indices'])
    self.num_read = len(file.arrays['ex0/token_ids'])

  def source(self) -> QASource:
    """The questions in the file's order, over and over, one a step."""
    embed = make_embed(self.model, realm.Realm.embed_queries)
    rows = range(len(self.answers))
    return QASource(
      (self.examples.rows([row]) for _ in iter(int, 1) for row in rows),
      Retriever(embed, self.corpus, self.index, self.lengths),
      self.beam_size,
      self.num_read,
      self.answers,
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


def clip_by_norms(norms, first_step: int) -> optax.GradientTransformation:
  """Clips to 1 as if the norm of each update were the one recorded."""
  norms = jnp.asarray(norms)

  def update(updates, count, params=None):
    del params
    factor = 1 / jnp.maximum(1, norms[count - first_step])
    return jax.tree.map(lambda update: factor * update, updates), count + 1

  return optax.GradientTransformation(lambda _: jnp.int32(first_step), update)


@pytest.mark.parametrize(
  ('norm', 'tolerance'), [('recorded', 2e-5), ('our own', 5e-4)]
)
def test_fine_tuning_updates(fine_tuning, system, norm, tolerance):
  """Retrieval, reading, labels, losses, updates: all of it, step by step.

  The norm that the original clips by counts a word that occurs twice as two
  words; ours is the true one.
  """
  arrays, settings = fine_tuning.arrays, fine_tuning.settings
  steps = arrays['traj/global_step']
  config = optimizer.OptimizerConfig(
    learning_rate=settings['learning_rate'],
    num_steps=settings['num_train_steps'],
    schedule='official',
    clip_norm=1.0 if norm == 'our own' else None,
    frozen=('^document_embedder/', '^reader/mlm_head/'),
  )
  transformation, schedule = optimizer.make_optimizer(config, system.params)
  np.testing.assert_allclose(
    [schedule(step) for step in steps], arrays['traj/lr_used'], rtol=1e-6
  )
  # their moments start at zero in the middle of a run
  opt_state = optax.tree_utils.tree_set(
    transformation.init(system.params), count=jnp.int32(steps[0])
  )
  if norm == 'recorded':
    clip = clip_by_norms(arrays['traj/clip_global_norm'], steps[0])
    opt_state = clip.init(None), opt_state
    transformation = optax.chain(clip, transformation)
  state = jax.tree.map(
    jnp.array, TrainState(jnp.int32(steps[0]), system.params, opt_state)
  )
  source = system.source()
  step = make_finetune_step(system.model, transformation)
  quantity = f'{len(steps)} updates, norm {norm}'
  for expected in arrays['traj/loss']:
    batch, _ = source.next_batch(state)
    state, metrics = step(state, batch, jax.random.key(0))
    assert_close(
      metrics['loss'], expected, f'orqa: losses of {quantity}', tolerance
    )
  after = fine_tuning.tree(f'after{len(steps)}/')
  for part, ours in (('embedder', 'query_embedder'), ('reader', 'reader')):
    for layer in state.params[ours].keys() - {'mlm_head'}:
      jax.tree.map(
        lambda found, wanted: assert_close(
          found, wanted, f'orqa: weights after {quantity}', tolerance
        ),
        state.params[ours][layer],
        after[part][layer],
      )


def test_answers(fine_tuning, system):
  answerer = Answerer(
    system.model, system.params, system.corpus, system.index, system.lengths
  )
  for i, example in enumerate(fine_tuning.examples):
    read = example['retrieved_block_indices'][: system.num_read]
    (answer,) = answerer.answer(system.examples.rows([i]), np.array([read]))
    assert answer.text == example['predicted_answer']
    assert fine_tuning.blocks[answer.block_id] == example['predicted_block']
