import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.errors import UserError
from realm_jax.train import optimizer
from realm_jax.train.optimizer import OptimizerConfig

CONFIG = OptimizerConfig(learning_rate=0.1, num_steps=8, num_warmup_steps=3)


def tree(seed, scale=1.0):
  rng = np.random.default_rng(seed)

  def draw(*shape):
    return jnp.asarray(scale * rng.normal(size=shape), jnp.float32)

  return {
    'embedder': {
      'layer_norm': {'scale': draw(3), 'bias': draw(3)},
      'projection': {'kernel': draw(2, 3), 'bias': draw(3)},
    },
    'reader': {
      'span_head': {'layer_norm_scale': draw(4), 'score_kernel': draw(4)},
      'word': draw(5, 2),
    },
  }


def steps(config, params, gradients):
  """The parameters after each update."""
  transformation, _ = optimizer.make_optimizer(config, params)
  state, update = transformation.init(params), jax.jit(transformation.update)
  found = []
  for gradient in gradients:
    updates, state = update(gradient, state, params)
    params = optax.apply_updates(params, updates)
    found.append(params)
  return found


def reference_steps(config, params, gradients, rates):
  """BERT's optimizer in float64 numpy, a weight at a time."""
  paths = jax.tree_util.tree_leaves_with_path(params)
  decays = [
    not any(
      word in jax.tree_util.keystr(path) for word in ('layer_norm', 'bias')
    )
    for path, _ in paths
  ]
  weights = [np.float64(leaf) for _, leaf in paths]
  m, v = [0.0] * len(weights), [0.0] * len(weights)
  for t, (gradient, rate) in enumerate(zip(gradients, rates, strict=True)):
    grads = [np.float64(leaf) for leaf in jax.tree.leaves(gradient)]
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    for i, g in enumerate(grads):
      if config.clip_norm is not None:
        g = g * min(1, config.clip_norm / norm)
      m[i] = config.b1 * m[i] + (1 - config.b1) * g
      v[i] = config.b2 * v[i] + (1 - config.b2) * g**2
      first, second = m[i], v[i]
      if config.bias_correction:
        first = first / (1 - config.b1 ** (t + 1))
        second = second / (1 - config.b2 ** (t + 1))
      step = first / (np.sqrt(second) + config.epsilon)
      step = step + config.weight_decay * weights[i] * decays[i]
      weights[i] = weights[i] - rate * step
  return weights


@given(
  seed=st.integers(0, 2**32 - 1),
  bias_correction=st.booleans(),
  clip_norm=st.sampled_from([None, 0.5, 1e3]),
)
def test_updates_equal_the_formula(seed, bias_correction, clip_norm):
  config = dataclasses.replace(
    CONFIG, bias_correction=bias_correction, clip_norm=clip_norm
  )
  params, gradients = tree(seed), [tree(seed + i, 0.3) for i in range(1, 5)]
  rates = [0.1 / 3, 0.1 * 2 / 3, 0.1, 0.1]
  found = steps(config, params, gradients)[-1]
  expected = reference_steps(config, params, gradients, rates)
  for leaf, want in zip(jax.tree.leaves(found), expected, strict=True):
    np.testing.assert_allclose(leaf, want, atol=2e-5)


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
  _, schedule = optimizer.make_optimizer(CONFIG, tree(0))
  rates = [float(schedule(step)) for step in range(10)]
  np.testing.assert_allclose(
    rates,
    0.1 * np.array([1 / 3, 2 / 3, 1, 1, 0.8, 0.6, 0.4, 0.2, 0, 0]),
    rtol=1e-5,
  )


def test_the_official_rate_drops_after_the_warm_up():
  config = OptimizerConfig(
    learning_rate=1.0, num_steps=200, schedule='official'
  )
  _, schedule = optimizer.make_optimizer(config, tree(0))
  rates = [float(schedule(step)) for step in (0, 98, 99, 100, 199, 250)]
  np.testing.assert_allclose(
    rates, [0.01, 0.99, 0.5, 0.495, 0, 0], rtol=1e-5, atol=1e-7
  )


@pytest.mark.parametrize(
  'schedule, num_steps, expected',
  [
    ('linear', 5, 0),
    ('linear', 300, 30),
    ('linear', 10**6, 10_000),
    ('official', 300, 100),
    ('official', 3000, 300),
    ('official', 10**6, 10_000),
  ],
)
def test_warm_up_is_a_tenth_unless_given(schedule, num_steps, expected):
  config = OptimizerConfig(0.1, num_steps, schedule=schedule)
  assert config.warmup_steps == expected
  assert dataclasses.replace(config, num_warmup_steps=7).warmup_steps == 7


@pytest.mark.parametrize('schedule', optimizer.SCHEDULES)
def test_no_warm_up_starts_at_the_peak(schedule):
  config = OptimizerConfig(
    0.1, num_steps=4, num_warmup_steps=0, schedule=schedule
  )
  rate = float(optimizer.make_schedule(config)(0))
  assert rate == pytest.approx(0.1 if schedule == 'linear' else 0.075)


def test_layer_norms_and_biases_do_not_decay():
  params = tree(1)
  zeros = jax.tree.map(jnp.zeros_like, params)
  after = steps(CONFIG, params, [zeros])[0]
  ratio = jax.tree.map(lambda new, old: (new / old).mean(), after, params)
  shrunk = pytest.approx(1 - 0.1 / 3 * 0.01, abs=1e-6)
  assert ratio == {
    'embedder': {
      'layer_norm': {'scale': 1, 'bias': 1},
      'projection': {'kernel': shrunk, 'bias': 1},
    },
    'reader': {
      'span_head': {'layer_norm_scale': 1, 'score_kernel': shrunk},
      'word': shrunk,
    },
  }


def test_frozen_parameters_neither_move_nor_count_in_the_norm():
  params, gradients = tree(2), [tree(3), tree(4)]
  config = dataclasses.replace(
    CONFIG, clip_norm=0.1, frozen=('^reader/span_head/', 'word$')
  )
  after = steps(config, params, gradients)[-1]
  jax.tree.map(np.testing.assert_array_equal, after['reader'], params['reader'])
  alone = steps(
    dataclasses.replace(config, frozen=()),
    params['embedder'],
    [gradient['embedder'] for gradient in gradients],
  )[-1]
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6),
    after['embedder'],
    alone,
  )


def test_frozen_parameters_have_no_moments():
  params = tree(2)
  sizes = {}
  for frozen in ((), ('^reader/',)):
    config = dataclasses.replace(CONFIG, frozen=frozen)
    transformation, _ = optimizer.make_optimizer(config, params)
    leaves = jax.tree.leaves(transformation.init(params))
    sizes[frozen] = sum(leaf.size for leaf in leaves)
  reader = sum(leaf.size for leaf in jax.tree.leaves(params['reader']))
  assert sizes[()] - sizes[('^reader/',)] == 2 * reader


def test_a_misspelt_frozen_pattern_is_refused():
  config = dataclasses.replace(CONFIG, frozen=('reader/spanhead',))
  with pytest.raises(UserError, match="'reader/spanhead', which matches no"):
    optimizer.make_optimizer(config, tree(0))


def test_shapes_are_enough_to_make_an_optimizer():
  params = tree(5)
  shapes = jax.eval_shape(lambda: params)
  config = dataclasses.replace(CONFIG, frozen=('word',))
  transformation, _ = optimizer.make_optimizer(config, shapes)
  state = transformation.init(params)
  assert jax.tree.structure(
    jax.eval_shape(transformation.init, shapes)
  ) == jax.tree.structure(state)


@pytest.mark.slow
@pytest.mark.parametrize('frozen', [(), ('^reader/',)])
def test_the_state_survives_a_checkpoint(tmp_path, frozen):
  params = tree(6)
  config = dataclasses.replace(CONFIG, frozen=frozen)
  transformation, _ = optimizer.make_optimizer(config, params)
  fresh = transformation.init(params)
  _, state = transformation.update(tree(7), fresh, params)
  with ocp.StandardCheckpointer() as checkpointer:
    checkpointer.save(tmp_path / 'state', state)
    checkpointer.wait_until_finished()
    restored = checkpointer.restore(tmp_path / 'state', fresh)
  assert jax.tree.structure(restored) == jax.tree.structure(state)
  jax.tree.map(np.testing.assert_array_equal, restored, state)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'learning_rate': -1.0}, r'learning_rate is -1.0, expected at least 0'),
    ({'num_steps': 0}, 'num_steps is 0, expected at least 1'),
    ({'num_warmup_steps': -2}, 'num_warmup_steps is -2, expected at least 0'),
    ({'schedule': 'cosine'}, "schedule is 'cosine', expected one of"),
    ({'clip_norm': 0.0}, r'clip_norm is 0.0, expected more than 0'),
    ({'b2': 1.0}, r'b2 is 1.0, expected at least 0 and less than 1'),
    ({'slowed': ('^reader/', 0.5)}, 'expected pairs such as'),
    ({'slowed': (('(', 0.5),)}, 'expected a regular expression'),
    ({'slowed': (('a', -1),)}, 'the factor -1, expected a number'),
    ({'frozen': ('[',)}, 'expected a regular expression'),
  ],
)
def test_a_bad_setting_is_refused_by_name(changes, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(CONFIG, **changes)


def test_a_stage_adds_to_what_is_frozen():
  config = optimizer.OptimizerConfig(learning_rate=1.0, frozen=('^reader/',))
  stage = config.for_stage(7, ('^embedder/',), {'reader': {'a': 1}})
  assert stage.frozen == ('^reader/', '^embedder/')
  assert stage.num_steps == 7
  with pytest.raises(UserError, match='matches no parameter'):
    config.for_stage(7, (), {'embedder': {'a': 1}})
