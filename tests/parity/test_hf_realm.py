"""The same numbers as Hugging Face's PyTorch REALM, forwards and backwards."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from parity import deviations, names

from realm_jax import losses
from realm_jax.checkpoints.hf_realm import config_from
from realm_jax.index.exact import ExactIndex
from realm_jax.models import realm
from realm_jax.models.encoder import Encoder
from realm_jax.types import TextInputs

# In float64 nothing but the formulas can differ.
TOLERANCES = {'float64': 1e-11, 'float32': 2e-5}


@functools.cache
def param_shapes(config: realm.RealmConfig):
  return jax.eval_shape(lambda: realm.init_params(config, jax.random.key(0)))


class Published:
  """One file of fixtures, its model and its parameters in our layout."""

  def __init__(self, path, dtype: str, prefixes: dict[str, str]):
    self.name = path.stem
    self.arrays = np.load(path)
    self.dtype = dtype
    self.tolerance = TOLERANCES[dtype]
    self.prefixes = prefixes
    theirs = self.theirs = json.loads(str(self.arrays['config']))
    config = config_from(theirs)
    self.config = dataclasses.replace(
      config, encoder=dataclasses.replace(config.encoder, dtype=dtype)
    )
    shapes = param_shapes(self.config)
    self._shapes = {part: shapes[part] for part in prefixes}
    self.params = self._tree('param:', dtype)

  def _tree(self, kind: str, dtype: str):
    """Parameters or gradients of the parts that the file has."""

    def read(part):
      def from_source(source):
        key = kind + self.prefixes[part] + source.key
        if key not in self.arrays:
          return None
        value = self.arrays[key].astype(dtype)
        return value.T if source.transposed else value

      return from_source

    return {
      part: names.fill(self._shapes[part], part, read(part))
      for part in self.prefixes
    }

  def gradients(self, case: str):
    return self._tree(f'grad64:{case}/', 'float64')

  def num_found(self, case: str) -> int:
    return len(self.output(f'{case}/retrieved_block_ids'))

  def input(self, name: str):
    value = self.arrays['input:' + name]
    return value.astype(self.dtype) if value.dtype.kind == 'f' else value

  def output(self, name: str):
    return self.arrays['output64:' + name]

  def text(self, case: str, before: str = '') -> TextInputs:
    ids = self.input(f'{case}/{before}input_ids')
    rest = [
      self.input(f'{case}/{before}{name}')
      if f'input:{case}/{before}{name}' in self.arrays
      else np.full_like(ids, default)
      for name, default in (('attention_mask', 1), ('token_type_ids', 0))
    ]
    return TextInputs(ids, *rest)

  def assert_close(self, actual, expected, quantity: str):
    deviations.assert_close(
      actual, expected, self.tolerance, self._quantity(quantity), self.dtype
    )

  def assert_output(self, actual, name: str):
    """Compares with an output, which gives the quantity its name."""
    quantity = name.rsplit('/', 1)[-1].replace('_', ' ')
    self.assert_close(actual, self.output(name), quantity)

  def _quantity(self, name: str) -> str:
    return f'PyTorch {self.name}: {name}'

  def assert_gradients(self, actual, expected):
    worst = names.assert_trees_close(actual, expected, 10 * self.tolerance)
    quantity = self._quantity('gradients, to the largest entry')
    deviations.record(quantity, self.dtype, worst)


@pytest.fixture(
  params=['float64', pytest.param('float32', marks=pytest.mark.slow)]
)
def published(request, fixtures_folder):
  """Opens a file of fixtures, in float64 and then in float32."""
  stack = contextlib.ExitStack()
  with stack:
    if request.param == 'float64':
      stack.enter_context(jax.enable_x64(True))
    yield lambda name, **prefixes: Published(
      fixtures_folder / 'hf_realm' / name, request.param, prefixes
    )


def apply(config, params, *args, method):
  return realm.Realm(config).apply({'params': params}, *args, method=method)


def with_gradient(argnums=0):
  """Jits value_and_grad of loss(config, *args): cases of one shape share it."""

  def wrap(loss):
    return jax.jit(
      jax.value_and_grad(loss, argnums=argnums, has_aux=True), static_argnums=0
    )

  return wrap


@with_gradient(argnums=1)
def embedder_loss(config, params, text, cotangent):
  embeds = apply(config, params, text, method='embed_queries')
  return (embeds * cotangent).sum(), embeds


@pytest.mark.parametrize('case', ['masked', 'plain'])
def test_embedder(published, case):
  file = published('embedder.npz', embedder='')
  (value, embeds), gradients = embedder_loss(
    file.config, file.params, file.text(case), file.input(f'{case}/cotangent')
  )
  file.assert_output(embeds, f'{case}/projected_score')
  file.assert_output(value, f'{case}/loss')
  file.assert_gradients(gradients, file.gradients(case))


def test_hidden_states_of_all_positions(published):
  file = published('embedder.npz', embedder='')
  hidden = jax.jit(Encoder(file.config.encoder).apply)(
    {'params': file.params['embedder']['encoder']}, file.text('masked')
  )
  file.assert_close(
    hidden, file.output('masked/hidden_states')[-1], 'hidden states'
  )


@with_gradient(argnums=1)
def scorer_loss(config, params, queries, candidates, cotangent):
  query_embeds = apply(config, params, queries, method='embed_queries')
  embeds = apply(config, params, candidates, method='embed_documents')
  scores = realm.relevance_scores(query_embeds, embeds)
  return (scores * cotangent).sum(), (query_embeds, embeds, scores)


def test_relevance_scores(published):
  file = published('scorer.npz', embedder='embedder.')
  (_, found), gradients = scorer_loss(
    file.config,
    file.params,
    file.text('main'),
    file.text('main', 'candidate_'),
    file.input('main/cotangent'),
  )
  kinds = ('query', 'candidate', 'relevance')
  for kind, array in zip(kinds, found, strict=True):
    file.assert_output(array, f'main/{kind}_score')
  file.assert_gradients(gradients, file.gradients('main'))


def token_loss(config, params, relevance_scores, joint, labels, mask):
  """Their loss, of every position; a label of -100 has log probability 0."""
  positions = jnp.broadcast_to(jnp.arange(labels.shape[1]), labels.shape)
  targets = jnp.maximum(labels, 0)
  gold = apply(
    config, params, joint, positions, targets, method='gold_log_probs'
  )
  gold = jnp.where(labels[:, None, :] >= 0, gold, 0)
  loss, terms = losses.pretrain_loss(
    relevance_scores,
    gold,
    mask,
    jnp.ones_like(relevance_scores, bool),
    marginal='token',
  )
  return loss, (gold, terms)


token_loss_with_gradient = with_gradient(argnums=(1, 2))(token_loss)


def run_token_loss(file, case):
  labels = file.input(f'{case}/labels')
  mask = np.ones_like(labels)
  if case != 'no_mlm_mask':
    mask = file.input(f'{case}/mlm_mask')
  relevance_scores = file.input(f'{case}/relevance_score')
  arguments = (relevance_scores, file.text('joint'), labels, mask)
  return *token_loss_with_gradient(file.config, file.params, *arguments), mask


@pytest.mark.parametrize('case', ['mlm_mask', 'no_mlm_mask', 'steep_scores'])
def test_masked_tokens(published, case):
  file = published('knowledge_aug_encoder.npz', reader='')
  (value, (gold, terms)), gradients, mask = run_token_loss(file, case)
  file.assert_output(value, f'{case}/loss')
  file.assert_output(gold, f'{case}/gold_log_prob')
  file.assert_output(terms.candidate_log_probs, f'{case}/candidate_log_prob')
  file.assert_close(
    terms.marginal_log_probs,
    file.output(f'{case}/marginal_log_prob') * mask,
    'marginal log prob',
  )
  expected = (
    file.gradients(case),
    file.arrays[f'ingrad64:{case}/relevance_score'],
  )
  file.assert_gradients(gradients, expected)


def test_no_masked_token_gives_no_gradient_where_theirs_is_nan(published):
  file = published('knowledge_aug_encoder.npz', reader='')
  (value, _), gradients, mask = run_token_loss(file, 'empty_mlm_mask')
  assert not mask.any()
  assert value == file.output('empty_mlm_mask/loss') == 0
  assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_log_probs_of_the_whole_vocabulary(published):
  file = published('knowledge_aug_encoder.npz', reader='')
  joint = file.text('joint')
  batch, _, joint_len = joint.token_ids.shape
  positions = np.broadcast_to(np.arange(joint_len), (batch, joint_len))
  log_probs = jax.jit(apply, static_argnums=0, static_argnames='method')(
    file.config, file.params, joint, positions, method='mlm_log_probs'
  )
  logits = file.output('joint/logits').reshape(log_probs.shape)
  file.assert_close(log_probs, jax.nn.log_softmax(logits), 'mlm log probs')


@with_gradient(argnums=1)
def pretrain_loss(config, params, queries, candidates, joint, labels, mask):
  query_embeds = apply(config, params, queries, method='embed_queries')
  embeds = apply(config, params, candidates, method='embed_documents')
  scores = realm.relevance_scores(query_embeds, embeds)
  return token_loss(config, params, scores, joint, labels, mask)


def test_embedder_and_reader_trained_together(published):
  file = published(
    'pretrain.npz', embedder='scorer.embedder.', reader='encoder.'
  )
  (value, _), gradients = pretrain_loss(
    file.config,
    file.params,
    file.text('main', 'scorer.'),
    file.text('main', 'scorer.candidate_'),
    file.text('main', 'encoder.'),
    file.input('main/encoder.labels'),
    file.input('main/encoder.mlm_mask'),
  )
  file.assert_output(value, 'main/loss')
  file.assert_gradients(gradients, file.gradients('main'))


def answer_loss(
  config, params, retriever_scores, joint, block_mask, has_answers, correct
):
  scores = apply(config, params, joint, block_mask, method='span_scores')
  beam_mask = jnp.ones_like(retriever_scores, bool)
  loss, terms = losses.orqa_loss(
    retriever_scores, beam_mask, has_answers, scores, correct
  )
  return loss, (scores, terms)


answer_loss_with_gradient = with_gradient(argnums=(1, 2))(answer_loss)


@pytest.mark.parametrize(
  'case',
  ['answers', 'no_answer', 'answer_beyond_reader_beam', 'answer_too_wide'],
)
def test_answer_spans(published, case):
  file = published('reader.npz', reader='')
  joint = TextInputs(*(part[None] for part in file.text('shared')))
  num_read, joint_len = joint.token_ids.shape[1:]
  starts, stops = realm.span_positions(joint_len, file.config.max_span_width)
  np.testing.assert_array_equal(starts, file.output('shared/candidate_starts'))
  np.testing.assert_array_equal(stops - 1, file.output('shared/candidate_ends'))
  # theirs are inclusive, and -1 is no answer
  ends = file.input(f'{case}/end_positions')[None, :num_read]
  correct = losses.span_correct(
    file.input(f'{case}/start_positions')[None, :num_read],
    np.where(ends < 0, -1, ends + 1),
    starts,
    stops,
  )
  np.testing.assert_array_equal(
    correct[0], file.output(f'{case}/reader_correct')
  )
  (value, (scores, terms)), gradients = answer_loss_with_gradient(
    file.config,
    file.params,
    file.input('shared/relevance_score')[None],
    joint,
    file.input('shared/block_mask')[None, :num_read],
    file.input(f'{case}/has_answers')[None],
    correct,
  )
  inside = file.output('shared/span_mask')
  file.assert_close(
    scores[0][inside], file.output('shared/span_logits')[inside], 'span logits'
  )
  assert (scores[0][~inside] < -1e30).all()
  file.assert_output(value, f'{case}/loss')
  for name in ('retriever_loss', 'reader_loss'):
    file.assert_output(getattr(terms, name)[0], f'{case}/{name}')
  block, span = np.unravel_index(
    terms.joint_scores[0].argmax(), terms.joint_scores[0].shape
  )
  assert block == file.output(f'{case}/block_idx')
  assert span == file.output(f'{case}/candidate')
  expected = (
    file.gradients(case),
    file.arrays[f'ingrad64:{case}/relevance_score'][None],
  )
  file.assert_gradients(gradients, expected)


@with_gradient(argnums=1)
def question_loss(
  config, params, question, embeds, joint, block_mask, has_answers, correct
):
  query_embeds = apply(config, params, question, method='embed_queries')
  retriever_scores = realm.relevance_scores(query_embeds, embeds)
  (value, (scores, terms)) = answer_loss(
    config,
    params,
    retriever_scores,
    joint,
    block_mask,
    has_answers,
    correct,
  )
  return value, (retriever_scores, scores, terms)


def open_qa_inputs(file, case):
  """Their blocks and what is read of them, as `question_loss` takes it."""
  num_read = min(file.theirs['reader_beam_size'], file.num_found(case))
  joint = TextInputs(
    *(
      file.output(f'{case}/concat.{name}')[None, :num_read]
      for name in ('input_ids', 'attention_mask', 'token_type_ids')
    )
  )
  starts, stops = realm.span_positions(
    joint.token_ids.shape[-1], file.config.max_span_width
  )
  if case == 'eval':
    correct = np.zeros((1, num_read, len(starts)), bool)
    has_answers = np.zeros((1, file.num_found(case)), bool)
  else:
    ends = file.output(f'{case}/end_positions')[None, :num_read]
    correct = losses.span_correct(
      file.output(f'{case}/start_positions')[None, :num_read],
      np.where(ends < 0, -1, ends + 1),
      starts,
      stops,
    )
    np.testing.assert_array_equal(
      correct[0], file.output(f'{case}/reader_correct')
    )
    has_answers = file.output(f'{case}/has_answers')[None]
  block_mask = file.output(f'{case}/block_mask')[None, :num_read]
  return joint, block_mask, has_answers, correct


@pytest.mark.parametrize('case', ['train_answers', 'train_no_answer', 'eval'])
def test_open_question_answering(published, case):
  file = published('openqa.npz', embedder='embedder.', reader='reader.')
  embeds = file.arrays['param:block_emb'].astype(file.dtype)
  question = file.text('shared')
  query_embeds = apply(
    file.config, file.params, question, method='embed_queries'
  )
  found = ExactIndex(embeds.astype(np.float32)).search(
    np.asarray(query_embeds, np.float32), file.num_found(case)
  )
  expected_ids = file.output(f'{case}/retrieved_block_ids')
  np.testing.assert_array_equal(found.block_ids[0], expected_ids)
  joint, *rest = open_qa_inputs(file, case)
  (value, (retriever_scores, _, terms)), gradients = question_loss(
    file.config,
    file.params,
    question,
    embeds[None, expected_ids],
    joint,
    *rest,
  )
  file.assert_output(retriever_scores[0], f'{case}/relevance_score')
  block, span = np.unravel_index(
    terms.joint_scores[0].argmax(), terms.joint_scores[0].shape
  )
  assert block == file.output(f'{case}/block_idx')
  assert span == file.output(f'{case}/candidate')
  starts, stops = realm.span_positions(
    joint.token_ids.shape[-1], file.config.max_span_width
  )
  np.testing.assert_array_equal(
    joint.token_ids[0, block, starts[span] : stops[span]],
    file.output(f'{case}/predicted_answer_ids'),
  )
  if case == 'eval':
    return
  file.assert_output(value, f'{case}/loss')
  for name in ('retriever_loss', 'reader_loss'):
    file.assert_output(getattr(terms, name)[0], f'{case}/{name}')
  file.assert_gradients(gradients, file.gradients(case))
