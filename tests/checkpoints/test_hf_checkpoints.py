"""Hugging Face's REALM models in and out.

The second half needs an interpreter with torch (CPU build) and transformers
4.36, which cannot share an environment with today's tokenizers:

  python3.11 -m venv old
  old/bin/pip install torch 'transformers==4.36.2' 'numpy<2'
  REALM_JAX_TRANSFORMERS=old/bin/python pytest tests/checkpoints
"""

import dataclasses
import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console
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
def start(tiny_corpus, tmp_path_factory):
  """A run of which everything counts as trained."""
  folder = tmp_path_factory.mktemp('start') / 'run'
  return tiny.make_untrained_run(folder, tiny_corpus, stage='finetune')


@pytest.fixture(scope='module')
def exported(start, tmp_path_factory):
  out = tmp_path_factory.mktemp('exported')
  folders = export_checkpoint(
    'hf-realm', str(start), str(out), console=tiny.quiet()
  )
  assert [folder.name for folder in folders] == [
    'embedder',
    'encoder',
    'reader',
  ]
  return out


@pytest.mark.slow
def test_an_encoder_beside_its_reader_is_no_second_one(exported, start):
  for names in (('encoder', 'reader'), ('reader', 'encoder')):
    _, params, *_ = read_hf_realm([exported / name for name in names])
    assert_same(params['reader'], load_run(start).params['reader'])


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_what_is_exported_comes_back_bit_for_bit(
  exported, start, tiny_corpus, tmp_path
):
  out = str(tmp_path / 'run')
  import_checkpoint(
    'hf-realm', [str(exported / 'embedder'), str(exported / 'reader')], out
  )
  back, first = load_run(out), load_run(start)
  assert_same(back.params, first.params)
  assert back.model == first.model
  assert back.wordpiece.fingerprint == first.wordpiece.fingerprint
  assert back.untrained == ()
  assert back.settings['lengths']['query_len'] == tiny.LENGTHS.query_len
  assert back.settings['lengths']['document_len'] == tiny.LENGTHS.document_len
  with pytest.raises(UserError, match='has no corpus of its own'):
    open_system(out)
  assert open_system(out, str(tiny_corpus)).run.stage == 'imported'
  with pytest.raises(UserError, match='is a finished run'):
    import_checkpoint(
      'hf-realm', [str(exported / 'embedder'), str(exported / 'reader')], out
    )


@pytest.mark.slow
def test_two_embedders_come_back_as_two(tiny_corpus, tmp_path):
  model = dataclasses.replace(tiny.MODEL, share_embedders=False)
  run = tiny.make_untrained_run(
    tmp_path / 'run', tiny_corpus, model, 'finetune'
  )
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


@pytest.mark.slow
def test_an_encoder_lacks_the_span_head_alone(exported, start, caplog):
  _, params, *_ = read_hf_realm([exported / 'encoder'], seed=5)
  first = load_run(start)
  span_head = params['reader'].pop('span_head')
  theirs = {**first.params['reader']}
  assert theirs.pop('span_head').keys() == span_head.keys()
  assert_same(params['reader'], theirs)
  fresh = init_params(first.model, jax.random.key(5))
  assert_same(span_head, fresh['reader']['span_head'])
  assert_same(params['embedder'], fresh['embedder'])
  assert 'embedder' in caplog.text
  assert 'reader/span_head/score_kernel' in caplog.text


def export(run, out):
  """Names of the folders written, and what was shown."""
  console = Console(file=io.StringIO(), width=200)
  folders = export_checkpoint('hf-realm', str(run), str(out), console=console)
  return [folder.name for folder in folders], console.file.getvalue()


def import_folders(folders, out):
  import_checkpoint(
    'hf-realm', [str(f) for f in folders], str(out), console=tiny.quiet()
  )
  return load_run(out)


@pytest.mark.slow
def test_what_was_never_trained_is_not_exported(
  exported, tiny_corpus, tmp_path
):
  folders, shown = export(
    tiny.make_untrained_run(tmp_path / 'ict', tiny_corpus), tmp_path / 'a'
  )
  assert folders == ['embedder']
  assert 'never trained: encoder, reader.' in shown
  pretrained = tiny.make_untrained_run(
    tmp_path / 'pretrained', tiny_corpus, stage='pretrain'
  )
  assert export(pretrained, tmp_path / 'b')[0] == ['embedder', 'encoder']
  embedder, encoder = tmp_path / 'b' / 'embedder', tmp_path / 'b' / 'encoder'
  back = import_folders([embedder, encoder], tmp_path / 'run')
  assert not back.reads_spans
  assert export(back.path, tmp_path / 'c')[0] == ['embedder', 'encoder']
  without = import_folders([exported / 'reader'], tmp_path / 'without')
  assert not without.reads_spans  # it would read blocks found at random
  assert export(without.path, tmp_path / 'd')[0] == ['encoder', 'reader']


def test_parameters_that_were_never_trained_are_known_by_their_config(
  exported, copied, tmp_path
):
  path = copied / 'embedder' / 'config.json'
  config = json.loads(path.read_text())
  assert config['realm_jax_untrained'] == []
  config['realm_jax_untrained'] = ['projection/kernel', 'projection/bias']
  path.write_text(json.dumps(config))
  back = import_folders(
    [copied / 'embedder', copied / 'reader'], tmp_path / 'run'
  )
  assert back.untrained == (
    'embedder/projection/bias',
    'embedder/projection/kernel',
  )
  assert not back.reads_spans
  export(back.path, tmp_path / 'again')
  again = json.loads((tmp_path / 'again/embedder/config.json').read_text())
  assert {*again['realm_jax_untrained']} == {*config['realm_jax_untrained']}
  path.write_text(json.dumps({**config, 'realm_jax_untrained': 3}))
  with pytest.raises(UserError, match='expected paths of parameters'):
    read_hf_realm([copied / 'embedder'])


def test_a_folder_to_export_to_is_empty(exported, start):
  with pytest.raises(
    UserError, match=r'holds embedder, encoder, reader\. Give'
  ):
    export(start, exported)


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


def test_tensors_of_no_part_are_named(copied):
  def misspell(tensors):
    for key in list(tensors):
      tensors[f'embeder.{key}'] = tensors.pop(key)

  change(copied / 'embedder', misspell)
  tensors = load_file(copied / 'embedder' / 'model.safetensors')
  change(copied / 'reader', lambda reader: reader.update(tensors))
  with pytest.raises(UserError) as caught:
    read_hf_realm([copied / 'reader'])
  message = str(caught.value)
  assert message.count('is unexpected') == 8
  assert f'and {len(tensors) - 8} more such' in message


def test_lengths_are_theirs_where_they_tell(copied, tmp_path):
  for name in ('embedder', 'reader'):
    path = copied / name / 'config.json'
    config = json.loads(path.read_text())
    config['reader_seq_len'] = 50
    del config['searcher_seq_len']
    path.write_text(json.dumps({**config, 'searcher_seq_len': 13}))
  folders = [copied / 'embedder', copied / 'reader']
  lengths = import_folders(folders, tmp_path / 'run').settings['lengths']
  assert (lengths['query_len'], lengths['document_len']) == (13, 37)


@pytest.mark.slow
@pytest.mark.parametrize(
  'fields, message',
  [
    ({'hidden_act': 'relu'}, "hidden_act 'relu', expected gelu"),
    ({'position_embedding_type': 'relative_key'}, 'expected absolute'),
  ],
)
def test_an_architecture_that_is_not_ours_is_refused(copied, fields, message):
  path = copied / 'embedder' / 'config.json'
  config = json.loads(path.read_text())
  del config['realm_jax']
  path.write_text(json.dumps(config))
  read_hf_realm([copied / 'embedder'])
  path.write_text(json.dumps({**config, **fields}))
  with pytest.raises(UserError, match=message):
    read_hf_realm([copied / 'embedder'])


@pytest.mark.parametrize('value', ['[]', '"text"', '3'])
def test_a_config_that_is_no_object_is_refused(copied, value):
  (copied / 'embedder' / 'config.json').write_text(value)
  with pytest.raises(UserError, match='expected the fields'):
    read_hf_realm([copied / 'embedder'])


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
  run = tiny.make_untrained_run(
    tmp_path / 'run', tiny_corpus, model, 'finetune'
  )
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
