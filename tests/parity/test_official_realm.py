"""The same numbers as the official TensorFlow 1 code, gradients and updates."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from parity import deviations, names

from realm_jax import losses
from realm_jax.models import realm
from realm_jax.models.encoder import EncoderConfig
from realm_jax.train import optimizer
from realm_jax.types import TextInputs

# Of losses and log probabilities; both programs are in float32.
TOLERANCE = 2e-5
# Of a gradient, to its tensor's largest entry.
GRADIENT_TOLERANCE = 1e-4


def assert_close(actual, expected, quantity: str, atol: float = TOLERANCE):
  deviations.assert_close(
    actual, expected, atol, f'TensorFlow {quantity}', 'float32'
  )


def assert_gradients_close(actual, expected, name: str):
  worst = names.assert_trees_close(actual, expected, GRADIENT_TOLERANCE)
  quantity = f'TensorFlow {name}: gradients, to the largest entry'
  deviations.record(quantity, 'float32', worst)


def model_config(settings) -> realm.RealmConfig:
  return realm.RealmConfig(
    encoder=EncoderConfig(
      vocab_size=settings['vocab_size'],
      hidden_size=settings['hidden_size'],
      num_layers=settings['num_hidden_layers'],
      num_heads=settings['num_attention_heads'],
      feed_forward_size=settings['intermediate_size'],
      max_positions=settings['max_position_embeddings'],
      num_segments=settings['type_vocab_size'],
    ),
    embed_dim=settings['projection_size'],
    # pre-training has no span head
    span_hidden_size=settings.get('span_hidden_size', 1),
    max_span_width=settings.get('max_span_width', 1),
  )


class Official:
  """A file of fixtures, with trees of its arrays in our layout.

  Attributes:
    scopes: part -> (scope of 'bert/' and 'cls/', scope of the head).
  """

  def __init__(self, path, scopes: dict[str, tuple[str, str]]):
    self.arrays = np.load(path)
    self.scopes = scopes
    self.settings = json.loads(str(self.arrays['meta/config_json']))
    self.config = model_config(self.settings)
    self._shapes = jax.eval_shape(
      lambda: realm.init_params(self.config, jax.random.key(0))
    )

  def tree(self, kind: str):
    """E.g. 'var/' or 'grad/'; zeros for what the program does not have."""

    def read(scopes, source):
      return self.arrays.get(kind + names.tf_name(source, *scopes))

    return {
      part: names.fill(
        self._shapes[part], part, functools.partial(read, self.scopes[part])
      )
      for part in self._shapes
    }

  def text(self, prefix: str) -> TextInputs:
    return TextInputs(
      *(
        self.arrays[f'{prefix}/{name}']
        for name in ('token_ids', 'mask', 'segment_ids')
      )
    )


@pytest.fixture(scope='module')
def pretraining(fixtures_folder):
  return Official(
    fixtures_folder / 'official_realm' / 'pretrain.npz',
    {'embedder': ('embedder/module/', 'embedder/'), 'reader': ('bert/', '')},
  )


@pytest.fixture(scope='module')
def pretrain_step(pretraining):
  """params -> ((loss, (terms, gold, scores)), gradients) of the one batch."""
  arrays = pretraining.arrays
  model = realm.Realm(pretraining.config)

  def loss(params):
    apply = functools.partial(model.apply, {'params': params})
    query_embeds = apply(
      pretraining.text('in/query_inputs'), method='embed_queries'
    )
    embeds = apply(
      pretraining.text('in/candidate_inputs'), method='embed_documents'
    )
    gold = apply(
      pretraining.text('in/joint_inputs'),
      arrays['in/mlm_positions'],
      arrays['in/mlm_targets'],
      method='gold_log_probs',
    )
    scores = realm.relevance_scores(query_embeds, embeds)
    value, terms = losses.pretrain_loss(
      scores,
      gold,
      arrays['in/mlm_mask'],
      jnp.ones_like(scores, bool),
      marginal='token',
    )
    return value, (terms, gold, scores)

  return jax.jit(jax.value_and_grad(loss, has_aux=True))


def test_every_variable_with_a_gradient_has_its_parameter(pretraining):
  sources = [
    names.tf_name(source, *pretraining.scopes[part])
    for part in names.SOURCES
    for source in names.SOURCES[part].values()
  ]
  trained = {
    key.removeprefix('grad/')
    for key in pretraining.arrays
    if key.startswith('grad/')
  }
  assert len(trained) > 70
  assert trained <= set(sources)


def test_pretraining_loss_and_its_terms(pretraining, pretrain_step):
  arrays = pretraining.arrays
  (loss, (terms, gold, scores)), _ = pretrain_step(pretraining.tree('var/'))
  mask = arrays['in/mlm_mask']
  for actual, expected in (
    (loss, 'loss'),
    (terms.retrieval_utility, 'retrieval_utility'),
    (scores, 'retrieval_score'),
    (terms.candidate_log_probs, 'candidate_log_probs'),
    (gold, 'gold_log_probs'),
  ):
    assert_close(actual, arrays[f'out/{expected}'], f'pretrain: {expected}')
  assert_close(
    terms.marginal_log_probs,
    arrays['out/marginal_gold_log_probs'] * mask,
    'pretrain: marginal_gold_log_probs',
  )


def test_pretraining_log_probs_of_all_words(pretraining):
  arrays = pretraining.arrays
  model = realm.Realm(pretraining.config)
  log_probs = jax.jit(functools.partial(model.apply, method='mlm_log_probs'))(
    {'params': pretraining.tree('var/')},
    pretraining.text('in/joint_inputs'),
    arrays['in/mlm_positions'],
  )
  assert_close(
    log_probs, arrays['out/mlm_log_probs'], 'pretrain: mlm_log_probs'
  )


def test_pretraining_gradients(pretraining, pretrain_step):
  _, gradients = pretrain_step(pretraining.tree('var/'))
  assert_gradients_close(gradients, pretraining.tree('grad/'), 'pretrain')
  np.testing.assert_allclose(
    optax.tree.norm(gradients),
    pretraining.arrays['out/dense_global_norm'],
    rtol=1e-5,
  )


def test_pretraining_updates(pretraining, pretrain_step):
  arrays = pretraining.arrays
  config = optimizer.OptimizerConfig(
    learning_rate=float(arrays['traj/init_lr']),
    num_steps=int(arrays['traj/num_train_steps']),
    schedule='official',
    frozen=('^reader/span_head/',),
  )
  params = pretraining.tree('var/')
  transformation, schedule = optimizer.make_optimizer(config, params)
  steps = arrays['traj/global_step']
  np.testing.assert_allclose(
    [schedule(step) for step in steps], arrays['traj/lr_used'], rtol=1e-6
  )
  # their moments start at zero in the middle of a run
  state = optax.tree_utils.tree_set(
    transformation.init(params), count=jnp.int32(steps[0])
  )
  update = jax.jit(transformation.update)
  for i in range(len(steps)):
    (loss, _), gradients = pretrain_step(params)
    np.testing.assert_allclose(loss, arrays['traj/loss'][i], atol=1e-4)
    updates, state = update(gradients, state, params)
    params = optax.apply_updates(params, updates)
    if i + 1 not in (1, len(steps)):
      continue
    # Weights change by up to 2e-2 in six updates. The norm that they clip by
    # counts a word that occurs twice as two words; ours is the true one.
    for found, expected in zip(
      jax.tree.leaves(params),
      jax.tree.leaves(pretraining.tree(f'after{i + 1}/')),
      strict=True,
    ):
      assert_close(found, expected, f'weights after {i + 1} updates', 5e-6)


@pytest.fixture(scope='module')
def fine_tuning(fixtures_folder):
  folder = fixtures_folder / 'official_realm'
  file = Official(
    folder / 'orqa.npz',
    {
      'embedder': ('module/module/', 'module/'),
      'reader': ('reader/module/', 'reader/'),
    },
  )
  file.examples = json.loads((folder / 'orqa.json').read_text())['examples']
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


class Question:
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
  question = Question(fine_tuning, i)
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
