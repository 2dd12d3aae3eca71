"""The three steps, each over one batch of the tiny corpus, again and again."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from realm_jax import losses
from realm_jax.data.batches import Batches
from realm_jax.data.companions import Companions
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import InverseCloze, MaskedSentences
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.reader_warmup import Readings
from realm_jax.index.retriever import Retriever
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params, split_embedders
from realm_jax.objectives import OBJECTIVES
from realm_jax.refresh.embed_blocks import embed_blocks
from realm_jax.runs.ict import IctSource
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.pretrain_source import pretrain_batch
from realm_jax.train.qa_source import QASource
from realm_jax.train.state import create_state
from realm_jax.train.step import (
  candidate_scores,
  make_finetune_step,
  make_ict_step,
  make_pretrain_step,
)

BATCH = 5
NUM_STEPS = 30
RNG = jax.random.key(2)


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


@pytest.fixture(scope='module')
def model(corpus):
  model = tiny.with_vocab_of(corpus)
  encoder = dataclasses.replace(
    model.encoder,
    dropout_rate=0.0,
    attention_dropout_rate=0.0,
    initializer_range=0.1,
  )
  return dataclasses.replace(model, encoder=encoder)


@pytest.fixture(scope='module')
def params(model):
  return init_params(model, jax.random.key(0))


def run(make_step, params, batch, frozen=()):
  """The first and last state's parameters, and the metrics of every step."""
  config = OptimizerConfig(
    learning_rate=1e-2,
    num_steps=10 * NUM_STEPS,
    num_warmup_steps=0,
    frozen=frozen,
    bias_correction=True,
  )
  optimizer, _ = make_optimizer(config, params)
  step = make_step(optimizer)
  state = create_state(params, optimizer)
  before = jax.tree.map(np.asarray, state.params)
  all_metrics = []
  for _ in range(NUM_STEPS):
    given = state
    state, metrics = step(state, batch, RNG)
    all_metrics.append({name: float(value) for name, value in metrics.items()})
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))  # donated
  assert step._cache_size() == 1
  assert int(state.step) == NUM_STEPS
  return before, jax.tree.map(np.asarray, state.params), all_metrics


def changed(before, after):
  """Paths of the parameters that are not what they were."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for (path, a), b in zip(
      jax.tree_util.tree_leaves_with_path(before),
      jax.tree.leaves(after),
      strict=True,
    )
    if not np.array_equal(a, b)
  }


def assert_falls(all_metrics, name):
  """The mean over the last five steps is well below that of the first five."""
  values = [metrics[name] for metrics in all_metrics]
  assert np.isfinite(values).all()
  assert np.mean(values[-5:]) < 0.8 * np.mean(values[:5]), values


def test_inverse_cloze_lowers_both_losses(corpus, model, params):
  inverse_cloze = InverseCloze(corpus, tiny.LENGTHS)
  readings = Readings(corpus, Companions(corpus), tiny.LENGTHS)

  def make_example(number, epoch):
    return {**inverse_cloze(number, epoch), **readings(number, epoch)}

  batches = Batches(
    range(len(corpus.sentences)),
    make_example,
    BATCH,
    seed=1,
  )
  source = IctSource(batches, corpus, tiny.LENGTHS, 3, seed=1)
  batch, host = source.next_batch(
    create_state(
      params, make_optimizer(OptimizerConfig(learning_rate=1.0), params)[0]
    )
  )
  assert batch.reader.mlm_mask.shape[0] == 3
  assert host['tokens'] == sum(
    part.mask.sum()
    for part in (batch.query, batch.documents, batch.reader.joint)
  )
  before, after, metrics = run(
    lambda optimizer: make_ict_step(model, optimizer),
    params,
    batch,
    frozen=('^reader/span_head/',),
  )
  assert_falls(metrics, 'ict_loss')
  assert_falls(metrics, 'reader_loss')
  assert metrics[0]['loss'] == pytest.approx(
    metrics[0]['ict_loss'] + metrics[0]['reader_loss'], rel=1e-6
  )
  moved = changed(before, after)
  assert not any(name.startswith('reader/span_head/') for name in moved)
  assert any(name.startswith('embedder/') for name in moved)
  assert any(name.startswith('reader/mlm_head/') for name in moved)


@pytest.fixture(scope='module')
def pretraining(corpus):
  """A batch whose candidate 1 is the source block, last slot empty."""
  lengths = tiny.LENGTHS
  make = MaskedSentences(corpus, 'salient_span', lengths)
  made = [make(number) for number in range(0, 20, 4)]
  examples = {k: np.stack([e[k] for e in made]) for k in made[0]}
  source = examples['source_block_id']
  block_ids = np.stack(
    [np.full(BATCH, -1), source, (source + 3) % 42, np.full(BATCH, -1)], axis=1
  )
  mask = np.tile(np.array([1, 1, 1, 0], np.int32), (BATCH, 1))
  query = query_inputs(
    Ragged(examples['query_ids'], examples['query_lens']),
    lengths.query_len,
    corpus.wordpiece,
  )
  return pretrain_batch(
    examples, block_ids, mask, corpus, lengths, query, null_bias=0.5
  )


@pytest.mark.parametrize(
  'objective',
  [
    pytest.param(
      name, marks=[] if name == 'marginal_span' else pytest.mark.slow
    )
    for name in OBJECTIVES
  ],
)
def test_pretraining_lowers_the_loss(model, params, pretraining, objective):
  before, after, metrics = run(
    lambda optimizer: make_pretrain_step(model, optimizer, objective),
    params,
    pretraining,
    frozen=('^reader/span_head/',),
  )
  # What is drawn makes a loss of draws go up and down.
  is_marginal = objective.startswith('marginal')
  assert_falls(metrics, 'loss' if is_marginal else 'marginal_loss')
  moved = changed(before, after)
  assert not any(name.startswith('reader/span_head/') for name in moved)
  assert any(name.startswith('embedder/') for name in moved)
  for values in metrics:
    assert 0 <= values['retrieval_entropy'] <= np.log(3) + 1e-6
    assert 0 <= values['null_mass'] <= 1
    assert values['posterior_kl'] >= -1e-6
    quantiles = [values[f'document_utility_p{n}'] for n in (10, 50, 90)]
    assert quantiles == sorted(quantiles)


@pytest.mark.slow
def test_a_fixed_retriever_gets_no_gradient(model, params, pretraining):
  _, _, metrics = run(
    lambda optimizer: make_pretrain_step(
      model, optimizer, train_retriever=False
    ),
    params,
    pretraining,
    frozen=('embedder/', '^reader/span_head/'),
  )
  for tower in ('query_tower', 'document_tower', 'projections'):
    assert {m[f'gradient_norm/{tower}'] for m in metrics} == {0.0}
  assert metrics[0]['gradient_norm/reader'] == metrics[0]['gradient_norm'] > 0
  assert_falls(metrics, 'loss')


@pytest.mark.slow
def test_finetuning_lowers_the_loss_and_leaves_the_document_embedder(
  corpus, model, params, tiny_questions, tmp_path
):
  model, params = split_embedders(model, params)
  snapshot = embed_blocks(
    make_embed(model, Realm.embed_documents), params, corpus, tiny.LENGTHS, 0
  )
  retriever = Retriever(
    make_embed(model, Realm.embed_queries),
    corpus,
    tiny.LENGTHS,
    snapshot=snapshot,
  )
  questions = load_questions(tiny_questions)
  examples = qa_examples(questions, corpus.wordpiece, tiny.LENGTHS)
  source = QASource(
    Batches(range(len(questions)), examples, BATCH, seed=0),
    retriever,
    tiny.no_refresh(tmp_path, retriever),
    beam_size=42,  # all blocks: there is always a right one
    num_read=7,
  )
  optimizer, _ = make_optimizer(OptimizerConfig(learning_rate=1.0), params)
  batch, host = source.next_batch(create_state(params, optimizer))
  assert host['tokens'] == batch.joint.mask.sum()
  np.testing.assert_array_equal(
    batch.beam_embeds.shape, (BATCH, 42, model.embed_dim)
  )
  before, after, metrics = run(
    lambda optimizer: make_finetune_step(model, optimizer),
    params,
    batch,
    frozen=('^document_embedder/', '^reader/mlm_head/'),
  )
  assert_falls(metrics, 'loss')
  assert {m['beam_has_answer'] for m in metrics} == {1.0}
  moved = changed(before, after)
  for part in ('document_embedder/', 'reader/mlm_head/'):
    assert not any(name.startswith(part) for name in moved)
  for part in ('query_embedder/', 'reader/span_head/', 'reader/encoder/'):
    assert any(name.startswith(part) for name in moved)


@pytest.mark.slow
def test_towers_have_the_gradients_of_a_model_with_two_embedders(
  model, params, pretraining
):
  """Shared or not, what flows back along either path is the same."""
  optimizer, _ = make_optimizer(OptimizerConfig(learning_rate=0.1), params)
  step = make_pretrain_step(model, optimizer)
  _, found = step(create_state(params, optimizer), pretraining, RNG)
  model, params = split_embedders(model, params)

  def loss(params):
    call = functools.partial(Realm(model).apply, {'params': params})
    scores = candidate_scores(
      call(pretraining.query, method=Realm.embed_queries),
      call(pretraining.null_document, method=Realm.embed_documents),
      call(pretraining.documents, method=Realm.embed_documents),
      pretraining.null_bias,
    )
    gold_log_probs = call(
      pretraining.joint,
      pretraining.mlm_positions,
      pretraining.mlm_targets,
      method=Realm.gold_log_probs,
    )
    masks = pretraining.mlm_mask, pretraining.candidate_mask
    return losses.pretrain_loss(scores, gold_log_probs, *masks)[0]

  grads = jax.jit(jax.grad(loss))(params)
  query, document = grads['query_embedder'], grads['document_embedder']
  embedder = jax.tree.map(np.add, query, document)
  heads = [embedder[name] for name in ('pooler', 'projection', 'layer_norm')]
  for name, tree in {
    '/query_tower': query,
    '/document_tower': document,
    '/projections': heads,
    '/reader': grads['reader'],
    '': [embedder, grads['reader']],
  }.items():
    leaves = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(tree)]
    norm = np.sqrt(sum((leaf**2).sum() for leaf in leaves))
    assert found[f'gradient_norm{name}'] == pytest.approx(norm, rel=1e-4), name


@pytest.mark.slow
def test_without_telemetry_the_update_is_the_same(model, params, pretraining):
  optimizer, _ = make_optimizer(OptimizerConfig(learning_rate=0.1), params)
  states, metrics = zip(
    *(
      make_pretrain_step(model, optimizer, telemetry=telemetry)(
        create_state(params, optimizer), pretraining, RNG
      )
      for telemetry in (True, False)
    ),
    strict=True,
  )
  assert set(metrics[1]) == {'loss', 'gradient_norm'}
  for name, value in metrics[1].items():
    assert metrics[0][name] == pytest.approx(float(value), rel=1e-5)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    *(state.params for state in states),
  )


def test_the_null_document_is_scored_first():
  rng = np.random.default_rng(0)
  query, null, documents = (
    rng.normal(size=size).astype(np.float32)
    for size in ((2, 5), (1, 5), (2, 3, 5))
  )
  scores = candidate_scores(query, null, documents, np.float32(0.75))
  expected = np.concatenate(
    [query @ null.T + 0.75, np.einsum('bd,bnd->bn', query, documents)], axis=1
  )
  np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.slow
def test_the_same_step_gives_the_same_and_another_step_other_dropout(
  model, params, pretraining
):
  dropping = dataclasses.replace(
    model, encoder=dataclasses.replace(model.encoder, dropout_rate=0.4)
  )
  optimizer, _ = make_optimizer(OptimizerConfig(learning_rate=0.0), params)
  step = make_pretrain_step(dropping, optimizer)

  def loss(number):
    state = create_state(params, optimizer)
    state = state._replace(step=jnp.int32(number))
    return float(step(state, pretraining, RNG)[1]['loss'])

  assert loss(3) == loss(3)
  assert loss(3) != loss(4)
