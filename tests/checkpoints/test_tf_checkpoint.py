"""Variables of TensorFlow's checkpoints, and the original's names for them."""

import json
import re

import jax
import numpy as np
import pytest
import tiny

from realm_jax.checkpoints.bert import encoder_config_from
from realm_jax.checkpoints.hf_names import part_sources
from realm_jax.checkpoints.official import read_official
from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.checkpoints.tf_bundle import find_variable
from realm_jax.checkpoints.tf_checkpoint import find_checkpoint, keys_of
from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.index.snapshot import load_snapshot
from realm_jax.models.realm import init_params
from realm_jax.runs.checkpoints import import_checkpoint
from realm_jax.train.run_folder import load_run

BERT = (
  'bert/embeddings/word_embeddings',
  'bert/encoder/layer_11/output/dense/kernel',
)
EMBEDDER = (
  *(f'module/{name}' for name in BERT),
  'dense/kernel',
  'LayerNorm/beta',
)


@pytest.mark.parametrize(
  ('names', 'expected'),
  [
    (
      BERT,
      [
        'realm.embeddings.word_embeddings.weight',
        'realm.encoder.layer.11.output.dense.weight',
      ],
    ),
    (
      [f'module/module/{name}' for name in EMBEDDER],
      [
        'embedder.realm.embeddings.word_embeddings.weight',
        'embedder.realm.encoder.layer.11.output.dense.weight',
        'embedder.cls.dense.weight',
        'embedder.cls.LayerNorm.bias',
      ],
    ),
    (
      [
        'reader/module/bert/embeddings/word_embeddings',
        'reader/module/cls/predictions/output_bias',
        'reader/dense/kernel',
        'reader/dense_1/bias',
        'reader/layer_normalization/gamma',
      ],
      [
        'reader.realm.embeddings.word_embeddings.weight',
        'reader.cls.predictions.bias',
        'reader.qa_outputs.dense_intermediate.weight',
        'reader.qa_outputs.dense_output.bias',
        'reader.qa_outputs.layer_normalization.weight',
      ],
    ),
  ],
)
def test_names_are_those_of_hugging_face(names, expected):
  left_by_training = [f'{name}/adam_m' for name in names]
  keys = keys_of([*names, *left_by_training, 'global_step', 'block_emb'])
  assert keys == {
    **dict(zip(names, expected, strict=True)),
    'block_emb': 'block_emb',
  }


def test_a_part_comes_once():
  names = [f'{scope}/module/{n}' for scope in 'ab' for n in EMBEDDER]
  names += [f'{scope}/{n}' for scope in 'ab' for n in EMBEDDER[2:]]
  with pytest.raises(UserError, match='both hold the embedder'):
    keys_of([name.replace('module/module', 'module') for name in names])


def save(prefix, tensors):
  """Writes a checkpoint as TensorFlow 1's Saver does."""
  tensorflow = pytest.importorskip('tensorflow')
  prefix.parent.mkdir(parents=True, exist_ok=True)
  tensorflow.raw_ops.SaveV2(
    prefix=str(prefix),
    tensor_names=list(tensors),
    shape_and_slices=[''] * len(tensors),
    tensors=[np.asarray(value) for value in tensors.values()],
  )
  return prefix


HEADS = {
  'cls.dense': 'dense',
  'cls.LayerNorm': 'layer_normalization',
  'qa_outputs.dense_intermediate': 'dense',
  'qa_outputs.layer_normalization': 'layer_normalization',
  'qa_outputs.dense_output': 'dense_1',
}


def original_name(source, bert_scope, head_scope):
  """What the original calls a tensor, worked out apart from keys_of."""
  layer, leaf = source.key.rsplit('.', 1)
  if layer.endswith('_embeddings'):
    return bert_scope + layer.replace('realm.', 'bert.').replace('.', '/')
  if layer == 'cls.predictions':
    return f'{bert_scope}cls/predictions/output_bias'
  leaves = {'weight': 'gamma', 'bias': 'beta'}
  if not layer.lower().endswith(('layernorm', 'layer_normalization')):
    leaves = {'weight': 'kernel', 'bias': 'bias'}
  if layer in HEADS:
    return f'{head_scope}{HEADS[layer]}/{leaves[leaf]}'
  path = re.sub(r'layer\.(\d+)', r'layer_\1', layer)
  path = path.replace('realm.', 'bert.').replace('.', '/')
  return f'{bert_scope}{path}/{leaves[leaf]}'


def variables(params, part, bert_scope, head_scope=None):
  """The arrays of a part under the original's names.

  Without head_scope the span head is left out.
  """
  sources = part_sources(part, tiny.ENCODER.num_layers)
  found = {}
  for path, value in jax.tree_util.tree_leaves_with_path(params[part]):
    source = sources[jax.tree_util.keystr(path, simple=True, separator='/')]
    if head_scope is None and source.key.startswith('qa_outputs.'):
      continue
    array = np.asarray(value)
    if source.key == 'qa_outputs.dense_output.weight':
      array = array.reshape(-1, 1)
    elif source.key == 'qa_outputs.dense_output.bias':
      array = array.reshape(1)
    found[original_name(source, bert_scope, head_scope)] = array
  return found


@pytest.fixture(scope='module')
def start(tiny_start):
  return load_run(tiny_start)


@pytest.fixture
def modules(start, tmp_path):
  """Embedder and BERT as pre-training exports them, in one folder each."""
  embedder = variables(start.params, 'embedder', 'module/module/', 'module/')
  reader = variables(start.params, 'reader', '')
  save(tmp_path / 'embedder' / 'variables' / 'variables', embedder)
  save(tmp_path / 'bert' / 'bert_model.ckpt', reader)
  (tmp_path / 'embedder' / 'assets').mkdir()
  start.wordpiece.save(tmp_path / 'embedder' / 'assets' / 'vocab.txt')
  start.wordpiece.save(tmp_path / 'bert' / 'vocab.txt')
  return tmp_path / 'embedder', tmp_path / 'bert'


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_modules_of_pretraining_become_a_run(modules, start, tmp_path, caplog):
  out = str(tmp_path / 'run')
  import_checkpoint(
    'official',
    [str(path) for path in modules],
    out,
    num_heads=tiny.ENCODER.num_heads,
    console=tiny.quiet(),
  )
  run = load_run(out)
  assert_same(run.params['embedder'], start.params['embedder'])
  span_head = run.params['reader'].pop('span_head')
  assert_same(
    run.params['reader'],
    {k: v for k, v in start.params['reader'].items() if k != 'span_head'},
  )
  fresh = init_params(run.model, jax.random.key(0))['reader']['span_head']
  assert_same(span_head, fresh)
  assert 'reader/span_head/score_kernel' in caplog.text
  assert run.wordpiece.fingerprint == start.wordpiece.fingerprint
  assert run.model.embed_dim == tiny.MODEL.embed_dim


def test_a_checkpoint_of_fine_tuning_and_its_block_embeddings(
  start, tiny_corpus, tmp_path
):
  corpus = Corpus.open(tiny_corpus)
  embeds = (
    np.random.default_rng(0)
    .normal(size=(corpus.num_blocks, tiny.MODEL.embed_dim))
    .astype(np.float32)
  )
  tensors = {
    **variables(
      start.params, 'embedder', 'module/module/module/', 'module/module/'
    ),
    **variables(start.params, 'reader', 'reader/module/', 'reader/'),
    'global_step': np.int64(7),
  }
  slots = {f'{name}/adam_m': value for name, value in tensors.items()}
  model = save(tmp_path / 'orqa' / 'model.ckpt-7', {**tensors, **slots})
  blocks = save(tmp_path / 'encoded' / 'encoded.ckpt', {'block_emb': embeds})
  with pytest.raises(UserError, match='has block embeddings and no model'):
    read_official([blocks])
  out = str(tmp_path / 'run')
  import_checkpoint(
    'official',
    [str(model.parent), str(blocks)],
    out,
    corpus=str(tiny_corpus),
    vocab=str(tiny_corpus / 'vocab.txt'),
    num_heads=tiny.ENCODER.num_heads,
    console=tiny.quiet(),
  )
  run = load_run(out)
  assert_same(run.params, start.params)
  (folder,) = (tmp_path / 'run' / 'index').iterdir()
  found = load_snapshot(folder, corpus.fingerprint)
  np.testing.assert_array_equal(found.block_embeds, embeds)


@pytest.mark.parametrize('dtype', [np.float32, np.float16])
def test_block_embeddings_beside_others_are_mapped(tmp_path, dtype):
  rng = np.random.default_rng(0)
  embeds = rng.normal(size=(11, 3)).astype(dtype)
  # so many names that the table has several blocks, and shares beginnings
  others = {f'bert/encoder/layer_{i}/x': np.ones(i + 1) for i in range(999)}
  prefix = save(tmp_path / 'model', {'block_emb': embeds, **others})
  place = find_variable(prefix, 'block_emb')
  assert isinstance(place.map(), np.memmap)
  np.testing.assert_array_equal(place.map(), embeds)
  assert find_variable(prefix, 'bert/encoder/layer_57/x').map().shape == (58,)
  found = TensorFiles(prefix).read('block_emb', slice(2, 5))
  np.testing.assert_array_equal(found, embeds[2:5].astype(np.float32))
  data = next(tmp_path.glob('*.data-*'))
  data.write_bytes(data.read_bytes()[:-9])
  assert find_variable(prefix, 'bert/encoder/layer_0/x')
  data.write_bytes(b'')
  with pytest.raises(UserError, match=r'takes 8 bytes .* the file has 0'):
    find_variable(prefix, 'bert/encoder/layer_0/x')
  index = prefix.with_name('model.index')
  index.write_bytes(index.read_bytes()[-48:])
  with pytest.raises(UserError, match='is damaged'):
    find_variable(prefix, 'block_emb')


def test_block_embeddings_are_numbers(tmp_path):
  ids = np.arange(6).reshape(2, 3)
  prefix = save(tmp_path / 'model', {'block_emb': ids})
  with pytest.raises(UserError, match='block_emb of int64, expected'):
    TensorFiles(prefix)


@pytest.mark.slow
def test_variables_of_no_part_are_named(modules, start, tmp_path):
  _, bert = modules
  tensors = variables(start.params, 'embedder', 'module/module/', 'module/')
  heads = {name: tensors[name] for name in tensors if 'bert' not in name}
  training = {
    **{f'{name}/some_slot': value for name, value in heads.items()},
    'global_step': np.int64(7),
    'beta1_power': np.float32(0.9),
    'module/module/cls/seq_relationship/output_bias': np.zeros(2, np.float32),
  }
  good = save(tmp_path / 'good' / 'x', {**tensors, **training})
  read_official([good], bert / 'vocab.txt', num_heads=2)
  tensors['module/module_1/scale'] = np.zeros(2, np.float32)
  bad = save(tmp_path / 'bad' / 'x', tensors)
  with pytest.raises(UserError, match='module/module_1/scale is unexpected'):
    read_official([bad], bert / 'vocab.txt', num_heads=2)
  del tensors['module/module_1/scale'], tensors['module/dense/kernel']
  bad = save(tmp_path / 'without' / 'x', tensors)
  with pytest.raises(
    UserError, match=r'embedder\.cls\.dense\.weight is missing'
  ):
    read_official([bad], bert / 'vocab.txt', num_heads=2)


def test_a_bert_beside_an_embedder_is_the_reader(start, tmp_path):
  tensors = {
    **variables(start.params, 'embedder', 'module/module/', 'module/'),
    **variables(start.params, 'reader', 'module_1/'),
  }
  prefix = save(tmp_path / 'pretrained' / 'model.ckpt-3', tensors)
  start.wordpiece.save(tmp_path / 'pretrained' / 'vocab.txt')
  model = read_official([prefix], num_heads=2)
  assert_same(model.params['embedder'], start.params['embedder'])
  assert_same(
    model.params['reader']['mlm_head'], start.params['reader']['mlm_head']
  )


def test_the_size_of_the_span_head_is_told_by_what_is_whole(start, tmp_path):
  tensors = variables(start.params, 'reader', 'reader/module/', 'reader/')
  del tensors['reader/dense_1/kernel']
  prefix = save(tmp_path / 'x', tensors)
  start.wordpiece.save(tmp_path / 'vocab.txt')
  with pytest.raises(UserError) as caught:
    read_official([prefix], num_heads=2)
  assert str(caught.value).split('\n')[2:] == [
    '  reader.qa_outputs.dense_output.weight is missing'
  ]
  assert 'config.json' not in str(caught.value)


@pytest.mark.slow
def test_a_bert_of_tensorflow_starts_both_encoders(modules, start, tmp_path):
  _, bert = modules
  (bert / 'bert_config.json').write_text(
    json.dumps({'num_attention_heads': 2, 'hidden_act': 'gelu'})
  )
  config = encoder_config_from(bert)
  assert (config.num_heads, config.gelu) == (2, 'tanh')
  out = str(tmp_path / 'run')
  import_checkpoint('bert', [str(bert)], out, console=tiny.quiet())
  run = load_run(out)
  for part in ('embedder', 'reader'):
    assert_same(run.params[part]['encoder'], start.params['reader']['encoder'])
  assert_same(
    run.params['reader']['mlm_head'], start.params['reader']['mlm_head']
  )


def test_which_checkpoint_is_meant(tmp_path):
  for name in ('model.ckpt-1', 'model.ckpt-20'):
    (tmp_path / f'{name}.index').write_bytes(b'')
  assert find_checkpoint(tmp_path / 'model.ckpt-1').name == 'model.ckpt-1'
  with pytest.raises(UserError, match='has 2 checkpoints'):
    find_checkpoint(tmp_path)
  (tmp_path / 'checkpoint').write_text(
    'model_checkpoint_path: "/elsewhere/../model.ckpt-20"\n'
  )
  assert find_checkpoint(tmp_path) == tmp_path / 'model.ckpt-20'
  assert find_checkpoint(tmp_path / 'nowhere') is None


def test_what_does_not_fit_is_said(modules, start, tmp_path):
  embedder, bert = modules
  with pytest.raises(UserError, match='--num-heads'):
    read_official([embedder, bert])
  with pytest.raises(FileNotFoundError, match='--vocab'):
    (embedder / 'assets' / 'vocab.txt').unlink()
    read_official([embedder], num_heads=2)
  with pytest.raises(UserError, match='both hold the embedder'):
    read_official([embedder, embedder], num_heads=2)
  tensors = variables(start.params, 'embedder', 'module/module/', 'module/')
  bias = 'module/module/bert/encoder/layer_0/output/dense/bias'
  tensors[bias] = np.zeros(3, np.float32)
  del tensors['module/layer_normalization/beta']
  spoilt = save(tmp_path / 'spoilt' / 'x', tensors)
  with pytest.raises(UserError) as caught:
    read_official([spoilt], bert / 'vocab.txt', num_heads=2)
  assert 'cls.LayerNorm.bias is missing' in str(caught.value)
  assert 'output.dense.bias has shape (3,), expected' in str(caught.value)
  with pytest.raises(FileNotFoundError, match=r'is a file\. Give .*/x instead'):
    TensorFiles(spoilt.with_name('x.index'))
  data = next(bert.glob('*.data-*'))
  data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
  with pytest.raises(UserError, match='damaged'):
    read_official([bert], num_heads=2)
  next(bert.glob('*.index')).write_bytes(b'nothing')
  with pytest.raises(UserError, match='no whole checkpoint'):
    TensorFiles(bert)
