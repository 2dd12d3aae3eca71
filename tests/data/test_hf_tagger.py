"""A token classifier made here, whose weights tell what it must say."""

import json

import jax
import numpy as np
import pytest
import tiny
from flax import linen as nn
from safetensors.numpy import save_file

from realm_jax.checkpoints.bert_names import encoder_sources
from realm_jax.checkpoints.filling import name_of
from realm_jax.data import hf_tagger
from realm_jax.data.hf_tagger import HFTagger
from realm_jax.data.packing import check_entities, make_tagger
from realm_jax.data.spans import Span
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.token_classifier import TokenClassifier
from realm_jax.runs.prepare import prepare
from realm_jax.types import TextInputs

WORDS = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', '.', 'saw', 'in']
NAMES = {'Ada': 'B-PER', 'Quist': 'I-PER', '##ham': 'O', 'Bonn': 'B-LOC'}
LABELS = ['O', 'B-PER', 'I-PER', 'B-LOC', 'I-LOC']
CONFIG = EncoderConfig(
  vocab_size=len(WORDS) + len(NAMES),
  hidden_size=16,
  num_layers=1,
  num_heads=2,
  feed_forward_size=8,
  max_positions=12,
)


def write_model(folder):
  """A classifier that labels each wordpiece of NAMES as it says there."""
  folder.mkdir()
  model = TokenClassifier(CONFIG, len(LABELS))
  text = TextInputs(*(np.zeros((1, 3), np.int32) for _ in range(3)))
  params = nn.meta.unbox(model.init(jax.random.key(0), text)['params'])
  params = jax.tree.map(lambda x: np.zeros(x.shape, np.float32), params)
  encoder = params['encoder']
  words = [*WORDS, *NAMES]
  for row in range(len(words)):
    encoder['embeddings']['word'][row, row] = 1
  for name, norm in (
    (encoder['embeddings'], 'layer_norm'),
    (encoder['layers_0'], 'attention_layer_norm'),
    (encoder['layers_0'], 'output_layer_norm'),
  ):
    name[norm]['scale'][:] = 1
  for row, word in enumerate(words):
    label = LABELS.index(NAMES.get(word, 'O'))
    params['classifier']['kernel'][row, label] = 1
  sources = encoder_sources(1)
  tensors = {
    'classifier.weight': params['classifier']['kernel'].T,
    'classifier.bias': params['classifier']['bias'],
  }
  for path, value in jax.tree_util.tree_leaves_with_path(encoder):
    source = sources[name_of(path)]
    array = value.T if source.transposed else value
    tensors[f'bert.{source.key}'] = array
  save_file(
    {key: np.ascontiguousarray(array) for key, array in tensors.items()},
    folder / 'model.safetensors',
  )
  (folder / 'vocab.txt').write_text('\n'.join(words))
  (folder / 'tokenizer_config.json').write_text('{"do_lower_case": false}')
  settings = {
    'num_attention_heads': 2,
    'id2label': {str(i): label for i, label in enumerate(LABELS)},
  }
  (folder / 'config.json').write_text(json.dumps(settings))
  return folder


@pytest.fixture(scope='module')
def model(tmp_path_factory):
  return write_model(tmp_path_factory.mktemp('tagger') / 'model')


def test_words_of_a_kind_are_one_entity(model):
  tagger = HFTagger(str(model), batch_size=2)
  assert tagger.kinds == ('LOC', 'PER')
  texts = [
    'Ada Quist saw Bonn.',
    '',
    'saw in',
    'Ada Ada Quistham in Bonn Quist',
  ]
  assert tagger.tag(texts) == [
    [Span(0, 9, 'PER'), Span(14, 18, 'LOC')],
    [],
    [],
    [
      Span(0, 3, 'PER'),
      Span(4, 16, 'PER'),
      Span(20, 24, 'LOC'),
      Span(25, 30, 'PER'),
    ],
  ]


def test_long_texts_are_read_in_parts(model):
  tagger = HFTagger(str(model))
  text = 'saw in Ada Quistham . ' * 9
  (spans,) = tagger.tag([text])
  assert {text[s.start : s.stop] for s in spans} <= {
    'Ada Quistham', 'Ada', 'Quistham'
  }  # fmt: skip
  assert sum(text[s.start : s.stop].count('Quistham') for s in spans) == 9


def test_a_corpus_is_tagged_by_it(model, tmp_path):
  row = {'title': 'A', 'text': 'Ada Quist saw Bonn in 1900.'}
  source = tiny.write_lines(tmp_path / 'a.jsonl', [row])
  manifest = prepare(
    [str(source)],
    str(tmp_path / 'corpus'),
    vocab_size=200,
    entities=f'hf:{model}',
    console=tiny.quiet(),
  )
  assert manifest['num_spans'] == {'DATE': 1, 'LOC': 1, 'PER': 1}
  assert 'token classifier model' in manifest['settings']['entities']


def test_what_is_no_tagger_is_refused(model, tmp_path):
  with pytest.raises(UserError, match=r'hf: and a token classifier'):
    check_entities('bert')
  with pytest.raises(FileNotFoundError, match=r'config\.json'):
    make_tagger(f'hf:{tmp_path}')
  broken = write_model(tmp_path / 'broken')
  config = json.loads((broken / 'config.json').read_text())
  del config['id2label']['4']
  (broken / 'config.json').write_text(json.dumps(config))
  with pytest.raises(UserError, match='names 4 labels'):
    make_tagger(f'hf:{broken}')


def test_labels_of_other_schemes_are_understood():
  split = hf_tagger._split_label
  assert [split(x) for x in ('O', 'S-PER', 'PER', 'B-a-b')] == [
    ('O', 'O'),
    ('S', 'PER'),
    ('I', 'PER'),
    ('B', 'a-b'),
  ]


def test_padding_changes_nothing(model):
  """Alone, and in a batch with longer ones."""
  tagger = HFTagger(str(model), batch_size=3)
  texts = ['Bonn', 'Ada Quist saw in . in saw', 'in Bonn']
  alone = [tagger.tag([text])[0] for text in texts]
  assert tagger.tag(texts) == alone
