"""Where parameters and batches lie on a mesh, and what cannot lie there."""

import dataclasses
from pathlib import Path

import gin
import jax
import numpy as np
import optax
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from realm_jax.config import configured
from realm_jax.errors import UserError
from realm_jax.models.realm import RealmConfig, abstract_params
from realm_jax.own_rows import OwnRows
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig, ict
from realm_jax.runs.pretrain import PretrainConfig, pretrain
from realm_jax.sharding import (
  RULES,
  MeshConfig,
  check_batch,
  jit_spread,
  make_layout,
  make_mesh,
  partition,
)
from realm_jax.train.state import TrainState, create_state

GIN_CONFIGS = Path(__file__).resolve().parent.parent / 'gin_configs'


@pytest.fixture(scope='module')
def layout():
  """Four devices: two parts of a batch, two of a head."""
  return make_layout(MeshConfig(2, 2, 'tensor'), tiny.MODEL)


@pytest.mark.parametrize(
  ('config', 'sizes'),
  [
    (MeshConfig(), (8, 1)),
    (MeshConfig(data=3), (3, 1)),
    (MeshConfig(model=2, rules='tensor'), (4, 2)),
    (MeshConfig(data=2, model=0, rules='tensor'), (2, 4)),
    (MeshConfig(data=1, model=8, rules='tensor'), (1, 8)),
  ],
)
def test_a_mesh_takes_the_devices_that_there_are(config, sizes):
  mesh = make_mesh(config)
  assert dict(mesh.shape) == dict(zip(('data', 'model'), sizes, strict=True))
  assert list(mesh.devices.flat) == jax.devices()[: sizes[0] * sizes[1]]


def test_one_device_has_no_mesh():
  assert make_mesh(MeshConfig(), jax.devices()[:1]) is None
  assert make_mesh(MeshConfig(data=1)) is None
  assert make_layout(MeshConfig(data=1), tiny.MODEL) is None
  assert make_layout(None, tiny.MODEL) is None


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'data': 16}, r'asks for 16 devices \(data 16, model 1\), but .* are 8'),
    (
      {'data': 3, 'model': 3, 'rules': 'tensor'},
      r'asks for 9 devices \(data 3, model 3\), but there are 8',
    ),
    (
      {'model': 16, 'rules': 'tensor'},
      r'asks for 16 devices \(data 1, model 16\), but there are 8',
    ),
    (
      {'model': 3, 'rules': 'tensor'},
      'model is 3, which does not divide the 8 devices. Set MeshConfig.data',
    ),
    (
      {'data': 5, 'model': 0, 'rules': 'tensor'},
      'data is 5, which does not divide the 8 devices. Set MeshConfig.model',
    ),
    ({'data': -1}, 'MeshConfig.data is -1, expected at least 0'),
    ({'rules': 'zero'}, "'zero', expected one of fsdp, tensor, replicated"),
    ({'model': 0, 'rules': 'tensor'}, 'are both 0'),
    ({'model': 2}, "model is 2 with rules 'fsdp'.* to 'tensor'"),
  ],
)
def test_what_no_mesh_can_be_is_refused(settings, message):
  with pytest.raises(UserError, match=message):
    make_mesh(MeshConfig(**settings))


@pytest.mark.parametrize(
  ('num_heads', 'feed_forward_size', 'message'),
  [
    (2, 32, 'model is 4, expected a divisor of .*num_heads, which is 2'),
    (6, 32, 'model is 4, expected a divisor of .*num_heads, which is 6'),
    (12, 30, r'expected a divisor of .*feed_forward_size, which is 30'),
  ],
)
def test_parts_that_do_not_divide_the_model_are_refused(
  num_heads, feed_forward_size, message
):
  encoder = dataclasses.replace(
    tiny.ENCODER,
    hidden_size=12 * num_heads,
    num_heads=num_heads,
    feed_forward_size=feed_forward_size,
  )
  with pytest.raises(UserError, match=message):
    make_layout(MeshConfig(2, 4, 'tensor'), RealmConfig(encoder))


@pytest.mark.parametrize(
  ('rules', 'names', 'shape', 'expected'),
  [
    # the largest axis that four divide
    ('fsdp', ('vocab', 'hidden'), (40, 24), P('data', None)),
    ('fsdp', ('hidden', 'feed_forward'), (8, 24), P(None, 'data')),
    ('fsdp', ('vocab', 'hidden'), (41, 24), P(None, 'data')),
    ('fsdp', ('segments', 'hidden'), (2, 6), P(None, None)),
    ('fsdp', (), (), P()),
    ('tensor', ('hidden', 'heads'), (24, 24), P('data', 'model')),
    ('tensor', ('feed_forward', 'hidden'), (96, 24), P('model', 'data')),
    ('tensor', ('heads',), (24,), P('model')),
    ('tensor', ('hidden',), (24,), P('data')),
    # two do not divide this vocabulary: every device has all of it
    ('tensor', ('vocab', 'hidden'), (41, 24), P(None, 'data')),
    ('replicated', ('hidden', 'heads'), (24, 24), P(None, None)),
  ],
)
def test_rules_choose_the_axes_of_a_parameter(rules, names, shape, expected):
  mesh = make_mesh(MeshConfig(4, 2, 'tensor'))
  assert partition(names, shape, mesh, RULES[rules]) == expected


def test_optimizer_state_lies_as_its_parameter(layout):
  optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1))
  state = jax.eval_shape(
    lambda params: create_state(params, optimizer), abstract_params(tiny.MODEL)
  )
  shardings = layout.like_params(state)
  assert isinstance(shardings, TrainState)
  assert shardings.step == layout.whole
  assert shardings.params == layout.params
  (adam, _) = shardings.opt_state[1]
  assert adam.count == layout.whole
  assert adam.mu == adam.nu == layout.params
  kernel = adam.mu['reader']['encoder']['layers_0']['attention']['key'][
    'kernel'
  ]
  assert kernel.spec == P('data', 'model')


def test_gathered_parameters_lie_over_the_model_axis_alone(layout):
  attention = layout.used_params['embedder']['encoder']['layers_0']['attention']
  assert attention['query']['kernel'].spec == P(None, 'model')
  assert attention['output']['kernel'].spec == P('model', None)
  replicated = make_layout(MeshConfig(4, rules='replicated'), tiny.MODEL)
  assert replicated.used_params == replicated.params


def test_a_batch_is_spread_over_data_and_a_single_row_is_not(layout):
  batch = {
    'query': np.arange(12.0).reshape(6, 2),
    'null_document': np.ones((1, 5)),
    'null_bias': np.float32(0.5),
    'odd': np.ones(3),
    'on_device': jax.numpy.arange(4),
  }
  placed = layout.place(batch)
  specs = {name: array.sharding.spec for name, array in placed.items()}
  assert specs['query'] == specs['on_device'] == P(('data',))
  assert specs['null_document'] == specs['null_bias'] == specs['odd'] == P()
  jax.tree.map(np.testing.assert_array_equal, placed, batch)
  everywhere = layout.place_whole(batch)
  assert everywhere['on_device'].sharding.spec == P(('data', 'model'))
  assert everywhere['query'].sharding.spec == P(('data',))  # 6 of 4


def test_one_process_makes_all_rows(layout):
  # tests/runs/test_on_hosts.py has several
  rows = {'a': np.arange(12.0).reshape(6, 2)}
  for own in (OwnRows(None, 6), OwnRows(layout, 6)):
    assert own.numbers.tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_array_equal(own.of(rows)['a'], rows['a'])
    is_own, places = own.among(np.array([1, 4]))
    assert (is_own.tolist(), places.tolist()) == ([True, True], [1, 4])
    assert own.place(rows) is own.share(rows) is own.whole(rows) is rows


def test_what_is_no_step_has_whole_parameters_and_spreads_its_batch(layout):
  params = {'kernel': np.arange(6.0).reshape(2, 3)}
  batch = np.arange(8.0).reshape(4, 2)
  product = jit_spread(lambda params, batch: batch @ params['kernel'], layout)
  for mine in (params, jax.device_put(params, layout.whole)):
    found = product(mine, batch)
    assert found.sharding.is_fully_replicated
    assert len(found.sharding.device_set) == 4
    np.testing.assert_array_equal(found, batch @ params['kernel'])
  found = jit_spread(lambda a, b: b @ a['kernel'], None)(params, batch)
  assert len(found.sharding.device_set) == 1


def test_a_batch_that_the_mesh_does_not_divide_is_refused(layout):
  check_batch(layout, 'PretrainConfig.batch_size', 6)
  check_batch(None, 'PretrainConfig.batch_size', 7)
  with pytest.raises(UserError, match=r'batch_size is 7, expected a multiple'):
    check_batch(layout, 'PretrainConfig.batch_size', 7)


def test_stages_refuse_such_a_batch_before_they_make_a_folder(
  tmp_path, tiny_corpus, tiny_start, tiny_questions
):
  corpus, out = str(tiny_corpus), str(tmp_path / 'run')
  init, lengths = str(tiny_start), tiny.LENGTHS
  mesh = MeshConfig(4)
  with pytest.raises(UserError, match=r'PretrainConfig.batch_size is 6'):
    pretrain(
      corpus,
      out,
      init,
      config=PretrainConfig(batch_size=6, num_candidates=3),
      lengths=lengths,
      mesh=mesh,
    )
  with pytest.raises(UserError, match=r'FinetuneConfig.batch_size is 2'):
    finetune(
      corpus,
      out,
      init,
      str(tiny_questions),
      config=FinetuneConfig(batch_size=2),
      lengths=lengths,
      mesh=mesh,
    )
  with pytest.raises(UserError, match=r'IctConfig.reader_batch_size is 2'):
    ict(
      corpus,
      out,
      model=tiny.MODEL,
      config=IctConfig(batch_size=8, reader_batch_size=2),
      lengths=lengths,
      mesh=mesh,
    )
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('stage', [ict, pretrain, finetune])
@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('fsdp', MeshConfig()),
    ('tensor', MeshConfig(0, 2, 'tensor')),
  ],
)
def test_a_mesh_file_stands_beside_a_run_file(stage, name, expected):
  files = [
    GIN_CONFIGS / file for file in ('runs/laptop.gin', f'mesh/{name}.gin')
  ]
  configured(stage, files, [])
  assert gin.get_bindings(stage)['mesh'] == expected
