"""Hugging Face's REALM models in and out.

The second half needs an interpreter with torch (CPU build) and transformers
4.36, which cannot share an environment with today's tokenizers:

  python3.11 -m venv old
  old/bin/pip install torch 'transformers==4.36.2' 'numpy<2'
  REALM_JAX_TRANSFORMERS=old/bin/python pytest tests/checkpoints
"""

import dataclasses
import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from realm_jax.checkpoints.hf_realm import read_hf_realm
from realm_jax.checkpoints.tf_checkpoint import BLOCK_EMBEDS
from realm_jax.errors import UserError
from realm_jax.eval.system import open_system
from realm_jax.models.realm import Realm, init_params
from realm_jax.runs.checkpoints import export_checkpoint, import_checkpoint
from realm_jax.train.run_folder import load_run
from realm_jax.types import TextInputs


@pytest.fixture(scope='module')
def exported(tiny_start, tmp_path_factory):
  out = tmp_path_factory.mktemp('exported')
  folders = export_checkpoint(
    'hf-realm', str(tiny_start), str(out), console=tiny.quiet()
  )
  assert [folder.name for folder in folders] == [
    'embedder',
    'encoder',
    'reader',
  ]
  return out


def test_an_encoder_beside_its_reader_is_no_second_one(exported, tiny_start):
  for names in (('encoder', 'reader'), ('reader', 'encoder')):
    _, params, *_ = read_hf_realm([exported / name for name in names])
    assert_same(params['reader'], load_run(tiny_start).params['reader'])


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_what_is_exported_comes_back_bit_for_bit(
  exported, tiny_start, tiny_corpus, tmp_path
):
  out = str(tmp_path / 'run')
  import_checkpoint(
    'hf-realm', [str(exported / 'embedder'), str(exported / 'reader')], out
  )
  back, start = load_run(out), load_run(tiny_start)
  assert_same(back.params, start.params)
  assert back.model == start.model
  assert back.wordpiece.fingerprint == start.wordpiece.fingerprint
  with pytest.raises(UserError, match='has no corpus of its own'):
    open_system(out)
  assert open_system(out, str(tiny_corpus)).run.stage == 'imported'
  with pytest.raises(UserError, match='is a finished run'):
    import_checkpoint(
      'hf-realm', [str(exported / 'embedder'), str(exported / 'reader')], out
    )


def test_two_embedders_come_back_as_two(tiny_corpus, tmp_path):
  model = dataclasses.replace(tiny.MODEL, share_embedders=False)
  run = tiny.make_untrained_run(tmp_path / 'run', tiny_corpus, model)
  out = tmp_path / 'out'
  export_checkpoint('hf-realm', str(run), str(out), console=tiny.quiet())
  names = sorted(path.name for path in out.iterdir())
  assert names == ['document_embedder', 'encoder', 'query_embedder', 'reader']
  config, params, *_ = read_hf_realm([out / name for name in names])
  loaded = load_run(run)
  assert config == loaded.model
  assert_same(params, loaded.params)
  for name in ('document_embedder', 'query_embedder'):
    config, params, *_ = read_hf_realm([out / name])
    assert config.share_embedders
    assert_same(params['embedder'], loaded.params[name])


def test_an_encoder_lacks_the_span_head_alone(exported, tiny_start, caplog):
  _, params, *_ = read_hf_realm([exported / 'encoder'], seed=5)
  start = load_run(tiny_start)
  span_head = params['reader'].pop('span_head')
  theirs = {**start.params['reader']}
  assert theirs.pop('span_head').keys() == span_head.keys()
  assert_same(params['reader'], theirs)
  fresh = init_params(start.model, jax.random.key(5))
  assert_same(span_head, fresh['reader']['span_head'])
  assert_same(params['embedder'], fresh['embedder'])
  assert 'embedder' in caplog.text
  assert 'reader/span_head/score_kernel' in caplog.text


@pytest.fixture
def copied(exported, tmp_path):
  shutil.copytree(exported, tmp_path / 'copied')
  return tmp_path / 'copied'


def change(folder, function):
  path = folder / 'model.safetensors'
  tensors = load_file(path)
  function(tensors)
  save_file(tensors, path)


def test_all_that_does_not_fit_is_said_at_once(copied):
  bias = 'realm.encoder.layer.0.output.dense.bias'

  def spoil(tensors):
    del tensors['cls.dense.weight']
    tensors[bias] = np.zeros(99, np.float32)
    tensors['cls.extra'] = np.zeros(2, np.float32)

  change(copied / 'embedder', spoil)
  with pytest.raises(UserError) as caught:
    read_hf_realm([copied / 'embedder'])
  message = str(caught.value)
  assert 'cls.dense.weight is missing' in message
  assert f'{bias} has shape (99,), expected' in message
  assert 'cls.extra is unexpected' in message


def test_folders_that_do_not_belong_together_are_refused(copied):
  embedder, reader = copied / 'embedder', copied / 'reader'
  with pytest.raises(UserError, match='both hold the embedder'):
    read_hf_realm([embedder, embedder])
  change(
    copied / 'encoder',
    lambda tensors: tensors['cls.predictions.bias'].__iadd__(1),
  )
  with pytest.raises(UserError, match='both hold a reader, and not the same'):
    read_hf_realm([reader, copied / 'encoder'])
  config = json.loads((reader / 'config.json').read_text())
  config['realm_jax']['span_hidden_size'] = 3
  (reader / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match='different sizes'):
    read_hf_realm([embedder, reader])
  (embedder / 'config.json').write_text('{"hidden_size": 3}')
  with pytest.raises(UserError, match='no REALM configuration'):
    read_hf_realm([embedder])
  (embedder / 'vocab.txt').unlink()
  shutil.copy(copied / 'encoder' / 'config.json', embedder)
  with pytest.raises(FileNotFoundError, match=r'has a vocab\.txt'):
    read_hf_realm([embedder])
  change(
    embedder, lambda tensors: tensors.clear() or tensors.update(a=np.ones(1))
  )
  with pytest.raises(UserError, match='no REALM model'):
    read_hf_realm([embedder])


SCRIPT = Path(__file__).parent / 'transformers_models.py'


@pytest.fixture(scope='module')
def transformers():
  """Runs transformers_models.py with these arguments."""
  interpreter = os.environ.get('REALM_JAX_TRANSFORMERS')
  if not interpreter:
    pytest.skip('set REALM_JAX_TRANSFORMERS: see the top of this file')

  def run(*arguments):
    subprocess.run([interpreter, SCRIPT, *arguments], check=True)

  return run


@pytest.fixture(scope='module')
def made(transformers, tmp_path_factory):
  folder = tmp_path_factory.mktemp('made')
  transformers('make', folder)
  return folder


def ours(name, config, params, ids):
  """What transformers_models.output computes, by this library."""
  ids = np.asarray(ids, np.int32)
  inputs = TextInputs(ids, np.ones_like(ids), np.zeros_like(ids))

  def apply(method, *arguments):
    return Realm(config).apply({'params': params}, *arguments, method=method)

  if name == 'document_embedder':
    return apply('embed_documents', inputs)
  if name.endswith('embedder'):
    return apply('embed_queries', inputs)
  if name == 'scorer':
    query = apply('embed_queries', inputs)
    return np.concatenate([query, apply('embed_documents', inputs)])
  joint = TextInputs(*(array[:, None] for array in inputs))
  if name == 'encoder':
    positions = np.arange(ids.shape[1])[None]
    return apply('mlm_log_probs', joint, positions)[:, 0]
  return apply('span_scores', joint, joint.mask)[:, 0]


@pytest.mark.parametrize('suffix', ['', '_bin'])
@pytest.mark.parametrize(
  'name', ['embedder', 'encoder', 'reader', 'scorer', 'openqa']
)
def test_their_models_say_the_same_here(made, name, suffix):
  model = read_hf_realm([made / (name + suffix)])
  assert model.config.share_embedders == (name != 'scorer')
  assert (model.block_embeds is None) == (name != 'openqa')
  with np.load(made / f'{name}.npz') as theirs:
    part = 'embedder' if name == 'openqa' else name
    found = ours(part, model.config, model.params, theirs['input_ids'])
    if model.block_embeds is not None:
      found = found @ model.block_embeds.read(BLOCK_EMBEDS).T
    np.testing.assert_allclose(found, theirs['output'], atol=2e-5)


@pytest.mark.parametrize('share', [True, False])
def test_our_models_say_the_same_there(
  transformers, tiny_corpus, tmp_path, share
):
  model = dataclasses.replace(
    tiny.MODEL,
    share_embedders=share,
    embedder_layer_norm_epsilon=tiny.MODEL.encoder.layer_norm_epsilon,
  )
  run = tiny.make_untrained_run(tmp_path / 'run', tiny_corpus, model)
  out = tmp_path / 'out'
  folders = export_checkpoint(
    'hf-realm', str(run), str(out), console=tiny.quiet()
  )
  transformers('run', out, tmp_path)
  loaded = load_run(run)
  for folder in folders:
    with np.load(tmp_path / f'{folder.name}.npz') as theirs:
      found = ours(
        folder.name, loaded.model, loaded.params, theirs['input_ids']
      )
      np.testing.assert_allclose(found, theirs['output'], atol=2e-5)
