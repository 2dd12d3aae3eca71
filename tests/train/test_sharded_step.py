"""Training on a mesh: the numbers of one device, from parts on many."""

import dataclasses
import functools
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import MaskedSentences
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.index.config import IndexConfig
from realm_jax.models.realm import init_params
from realm_jax.runs.build_index import build_index
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig, ict
from realm_jax.runs.pretrain import pretrain
from realm_jax.sharding import MeshConfig, make_layout
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.pretrain_source import PretrainSource, pretrain_batch
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import load_run
from realm_jax.train.state import create_state
from realm_jax.train.step import make_ict_step, make_pretrain_step
from realm_jax.types import IctBatch, PretrainBatch, TextInputs

BATCH, NUM_STEPS = 8, 20
RNG = jax.random.key(2)
# What the losses do not reach.
FROZEN = {make_ict_step: '^reader/', make_pretrain_step: '^reader/span_head/'}
# With dropout.
ENCODER = dataclasses.replace(
  tiny.ENCODER, vocab_size=256, num_heads=4, initializer_range=0.1
)
MODEL = dataclasses.replace(tiny.MODEL, encoder=ENCODER)
WORDS = ('embedder', 'encoder', 'embeddings', 'word')


@pytest.fixture(scope='module')
def batches(tiny_corpus):
  """Two batches, each of sentences with their source block as candidate 1."""
  corpus, lengths = Corpus.open(tiny_corpus), tiny.LENGTHS
  make = MaskedSentences(corpus, 'salient_span', lengths)

  def make_batch(first):
    made = [make(number) for number in range(first, first + 6 * BATCH, 6)]
    examples = {k: np.stack([e[k] for e in made]) for k in made[0]}
    source = examples['source_block_id']
    block_ids = np.stack(
      [np.full(BATCH, -1), source, (source + 3) % 42], axis=1
    )
    query = query_inputs(
      Ragged(examples['query_ids'], examples['query_lens']),
      lengths.query_len,
      corpus.wordpiece,
    )
    mask = np.ones_like(block_ids)
    return pretrain_batch(
      examples, block_ids, mask, corpus, lengths, query, null_bias=0.5
    )

  return make_batch(0), make_batch(1)


def ict_batch(batch):
  """Queries and their source blocks."""
  documents = jax.tree.map(lambda array: array[:, 0], batch.documents)
  return IctBatch(batch.query, documents, np.arange(BATCH), None)


@functools.cache
def new_params():
  return init_params(MODEL, jax.random.key(0))


def new_optimizer(make_step):
  settings = OptimizerConfig(
    learning_rate=3e-3,
    num_steps=100,
    num_warmup_steps=5,
    frozen=(FROZEN[make_step],),
  )
  return make_optimizer(settings, new_params())[0]


def train(make_step, batches, mesh, model=MODEL):
  """The loss of each step, and the last state."""
  layout = make_layout(mesh, model)
  optimizer = new_optimizer(make_step)
  step = make_step(model, optimizer, layout=layout)
  state = create_state(new_params(), optimizer, layout)
  if layout:
    batches = [layout.place_whole(batch, ('data',)) for batch in batches]
  losses = []
  for number in range(NUM_STEPS):
    given = state
    state, metrics = step(state, batches[number % 2], RNG)
    losses.append(float(metrics['loss']))
  assert all(leaf.is_deleted() for leaf in jax.tree.leaves(given))  # donated
  assert step._cache_size() == 1  # what comes out lies as what went in
  assert int(state.step) == NUM_STEPS
  return np.array(losses), state


def shard_shapes(tree, path):
  """Shapes of the parts of the arrays whose path ends so."""
  return {
    array.addressable_shards[0].data.shape
    for keys, array in jax.tree_util.tree_leaves_with_path(tree)
    if tuple(getattr(key, 'key', None) for key in keys[-len(path) :]) == path
  }


@pytest.fixture(scope='module')
def ict_on_one_device(batches):
  return train(make_ict_step, [ict_batch(b) for b in batches], None)[0]


@pytest.mark.slow
@pytest.mark.parametrize(
  ('mesh', 'words'),
  [
    (MeshConfig(8), (32, 16)),
    (MeshConfig(2, 2, 'tensor'), (128, 8)),
  ],
)
def test_a_mesh_has_the_losses_of_one_device(
  batches, ict_on_one_device, mesh, words
):
  losses, state = train(make_ict_step, [ict_batch(b) for b in batches], mesh)
  np.testing.assert_allclose(losses, ict_on_one_device, rtol=1e-4)
  assert shard_shapes(state.params, WORDS) == {words}
  assert shard_shapes(state.opt_state, WORDS) == {words}  # moments


@pytest.fixture(scope='module')
def pretrained_on_one_device(batches):
  losses, _ = train(make_pretrain_step, batches, None)
  assert losses[-2:].mean() < 0.9 * losses[:2].mean()  # it learns
  return losses


@pytest.mark.slow
@pytest.mark.parametrize(
  'mesh',
  [
    MeshConfig(4),
    MeshConfig(8, rules='replicated'),
    MeshConfig(2, 4, 'tensor'),
    *[
      pytest.param(mesh, marks=pytest.mark.long)
      for mesh in (MeshConfig(2), MeshConfig(8), MeshConfig(2, 2, 'tensor'))
    ],
  ],
  ids=str,
)
def test_any_mesh_pretrains_as_one_device(
  batches, pretrained_on_one_device, mesh
):
  losses, _ = train(make_pretrain_step, batches, mesh)
  np.testing.assert_allclose(losses, pretrained_on_one_device, rtol=1e-4)


@pytest.mark.slow
def test_without_dropout_a_mesh_pretrains_as_one_device(batches):
  encoder = dataclasses.replace(
    ENCODER, dropout_rate=0.0, attention_dropout_rate=0.0
  )
  model = dataclasses.replace(MODEL, encoder=encoder)
  losses = [
    train(make_pretrain_step, batches, mesh, model)[0]
    for mesh in (None, MeshConfig(2, 2, 'tensor'))
  ]
  np.testing.assert_allclose(*losses, rtol=1e-4)


@pytest.mark.slow
def test_a_state_is_restored_onto_another_mesh(tmp_path):
  optimizer = new_optimizer(make_ict_step)
  layouts = [
    make_layout(mesh, MODEL)
    for mesh in (MeshConfig(2), MeshConfig(2, 2, 'tensor'), None)
  ]
  saved = create_state(new_params(), optimizer, layouts[0])
  saved = saved._replace(params=jax.tree.map(lambda a: a + 1, saved.params))
  Checkpoints(tmp_path).save(saved, {'n': 3})
  assert shard_shapes(saved, WORDS) == {(128, 16)}
  for layout, words in zip(layouts[1:], [(128, 8), (256, 16)], strict=True):
    state = create_state(new_params(), optimizer, layout)
    restored, host = Checkpoints(tmp_path).restore(state)
    assert host == {'n': 3}
    assert shard_shapes(restored, WORDS) == {words}
    jax.tree.map(np.testing.assert_array_equal, restored, saved)


# One of two processes; prints the losses.
PROCESS = """
import sys
from realm_jax import hosts
address, number, folder, file = sys.argv[1:]
hosts.start(address, 2, int(number))
import jax
assert jax.local_device_count() == 4
sys.path.append(folder)
import test_sharded_step as tests
from realm_jax.sharding import MeshConfig
batches = tests.load_batches(file)
losses, _ = tests.train(tests.make_pretrain_step, batches, MeshConfig())
print('LOSSES', *losses)
"""


_TEXT = TextInputs(0, 0, 0)
STRUCTURE = jax.tree.structure(
  PretrainBatch(_TEXT, _TEXT, _TEXT, _TEXT, 0, 0, 0, 0, 0)
)


def save_batches(file, batches):
  np.savez(file, *jax.tree.leaves(batches))


def load_batches(file):
  arrays = np.load(file, allow_pickle=False)
  leaves = [arrays[f'arr_{number}'] for number in range(len(arrays.files))]
  size = STRUCTURE.num_leaves
  return [
    STRUCTURE.unflatten(leaves[start : start + size])
    for start in range(0, len(leaves), size)
  ]


@pytest.mark.slow
def test_two_processes_pretrain_as_one_device(
  tmp_path, batches, pretrained_on_one_device, run_on_hosts
):
  file = tmp_path / 'batches.npz'
  save_batches(file, batches)
  for process in run_on_hosts(PROCESS, Path(__file__).parent, file):
    assert process.returncode == 0, process.stdout
    (line,) = (
      line for line in process.stdout.split('\n') if line.startswith('LOSSES')
    )
    losses = [float(loss) for loss in line.split()[1:]]
    np.testing.assert_allclose(losses, pretrained_on_one_device, rtol=1e-4)


class Killed(BaseException):
  pass


@pytest.mark.long
def test_a_run_killed_on_two_devices_goes_on_on_four(
  tmp_path,
  monkeypatch,
  tiny_corpus,
  tiny_start,
  tiny_questions,
  tiny_pretrained,
):
  def run(mesh):
    pretrain(
      str(tiny_corpus),
      str(tmp_path / 'run'),
      str(tiny_start),
      probe_questions=str(tiny_questions),
      mesh=mesh,
      **tiny.PRETRAIN,
    )

  begin = PretrainSource.begin
  make_index, index_meshes = IndexConfig.make, []

  def killed_at_5(source, step, params):
    if step == 5:
      raise Killed
    return begin(source, step, params)

  def make(config, snapshot, mesh=None):
    index_meshes.append(dict(mesh.shape))
    return make_index(config, snapshot, mesh)

  monkeypatch.setattr(IndexConfig, 'make', make)
  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(PretrainSource, 'begin', killed_at_5)
    run(MeshConfig(2))
  assert Checkpoints(tmp_path / 'run' / 'checkpoints').latest_step() == 3
  run(MeshConfig(2, 2, 'tensor'))
  assert index_meshes == [{'data': 2, 'model': 1}, {'data': 2, 'model': 2}]
  for actual, expected in zip(
    read_metrics(tmp_path / 'run'), read_metrics(tiny_pretrained), strict=True
  ):
    assert actual['step'] == expected['step']
    for name in {'loss', 'held_out_loss', 'gradient_norm'} & expected.keys():
      assert actual[name] == pytest.approx(expected[name], rel=1e-4)
    # the same documents were found, in an index of the same age
    for name in {'distinct_blocks', 'probe_recall@5', 'index_age'}:
      assert actual.get(name) == expected.get(name)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4),
    load_run(tmp_path / 'run').params,
    load_run(tiny_pretrained).params,
  )


@pytest.mark.slow
def test_an_index_is_built_by_all_devices(tmp_path, tiny_start):
  found = []
  for name, mesh in (('one', None), ('all', MeshConfig())):
    run = shutil.copytree(tiny_start, tmp_path / name)
    found.append(build_index(str(run), mesh=mesh, console=tiny.quiet()))
  np.testing.assert_allclose(*(f.block_embeds for f in found), atol=1e-5)


STAGES = {
  'ict': lambda corpus, out, start, questions, **settings: ict(
    corpus,
    out,
    model=tiny.MODEL,
    config=IctConfig(batch_size=4, reader_batch_size=2, num_held_out=6),
    **settings,
  ),
  'finetune': lambda *paths, **settings: finetune(
    *paths,
    config=FinetuneConfig(batch_size=4, beam_size=9, num_read=2),
    **settings,
  ),
  'closed_book': lambda *paths, **settings: finetune(
    *paths,
    config=FinetuneConfig(batch_size=4, reader='closed_book'),
    **settings,
  ),
}


@pytest.mark.slow
@pytest.mark.parametrize(
  'stage',
  [
    pytest.param(
      stage, marks=pytest.mark.long if stage == 'closed_book' else ()
    )
    for stage in STAGES
  ],
)
def test_the_other_stages_run_on_a_mesh(
  tmp_path, tiny_corpus, tiny_start, tiny_questions, stage
):
  losses = []
  for mesh in (None, MeshConfig(2, 2, 'tensor')):
    out = tmp_path / str(mesh)
    STAGES[stage](
      str(tiny_corpus),
      str(out),
      str(tiny_start),
      str(tiny_questions),
      lengths=tiny.LENGTHS,
      loop=LoopConfig(num_steps=3, log_every=1, checkpoint_every=2),
      optimizer=OptimizerConfig(learning_rate=1e-3),
      mesh=mesh,
    )
    losses.append([record['loss'] for record in read_metrics(out)])
  assert len(losses[0]) == 3
  np.testing.assert_allclose(*losses, rtol=1e-4)
