"""All blocks at once, against one by one."""

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params
from realm_jax.refresh import length_batches as module
from realm_jax.refresh.embed_blocks import embed_blocks
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.sharding import MeshConfig, make_layout
from realm_jax.types import TextInputs


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """Blocks of very different lengths, in no order."""
  rows = [
    {'title': f'T{n}', 'text': 'So it was. ' * (1 + (n * 5) % 11)}
    for n in range(13)
  ]
  return Corpus.open(tiny.make_corpus(tmp_path_factory.mktemp('lens'), rows))


@pytest.fixture(scope='module')
def setup(corpus):
  model = tiny.with_vocab_of(corpus)
  params = init_params(model, jax.random.key(0))
  return make_embed(model, Realm.embed_documents), params


def by_one(corpus, embed, params, document_len):
  """Each block alone, without padding, laid out by hand."""
  wordpiece = corpus.wordpiece
  found = []
  for block_id in range(corpus.num_blocks):
    title = wordpiece.encode(corpus.title(block_id)).token_ids.tolist()
    body = wordpiece.encode(corpus.text(block_id)).token_ids.tolist()
    body = body[: document_len - 3 - len(title)]
    first = [wordpiece.cls_id, *title, wordpiece.sep_id]
    second = [*body, wordpiece.sep_id]
    ids = np.array([first + second], np.int32)
    segments = np.array([[0] * len(first) + [1] * len(second)], np.int32)
    inputs = TextInputs(ids, np.ones_like(ids), segments)
    found.append(np.asarray(embed(params, inputs))[0])
  return np.stack(found)


# One by one, some at a time, and all at once.
@pytest.mark.slow
@pytest.mark.parametrize('num_tokens', [1, 130, 2304])
@pytest.mark.parametrize('lengths', [(8, 40), (64, 40), (8, 20)])
def test_blocks_are_embedded_as_one_by_one(
  corpus, setup, monkeypatch, num_tokens, lengths
):
  multiple, document_len = lengths
  monkeypatch.setitem(module._TOKENS, 'cpu', num_tokens)
  embed, params = setup
  done = []
  snapshot = embed_blocks(
    embed,
    params,
    corpus,
    Lengths(document_len=document_len, multiple=multiple),
    7,
    done.append,
  )
  assert len(set(corpus.block_lens.tolist())) > 5
  assert snapshot.block_embeds.dtype == np.float32
  np.testing.assert_allclose(
    snapshot.block_embeds,
    by_one(corpus, embed, params, document_len),
    atol=1e-5,
  )
  assert snapshot.index_step == 7
  assert snapshot.corpus_fingerprint == corpus.fingerprint
  assert done[-1] == corpus.num_blocks


# All 16 blocks at once, or 12 and the rest.
@pytest.mark.slow
@pytest.mark.parametrize('num_tokens', [240, 120])
def test_all_devices_embed_what_one_does(
  corpus, setup, monkeypatch, num_tokens
):
  monkeypatch.setitem(module._TOKENS, 'cpu', num_tokens)
  embed, params = setup
  model = tiny.with_vocab_of(corpus)
  layout = make_layout(MeshConfig(2, 2, 'tensor'), model)
  embed_spread = make_embed(model, Realm.embed_documents, layout)
  calls, done = [], []

  def embed_on_mesh(params, inputs):
    calls.append(inputs.token_ids.shape[0])
    return embed_spread(params, inputs)

  found = embed_blocks(
    embed_on_mesh,
    layout.place_params(params),
    corpus,
    tiny.LENGTHS,
    7,
    done.append,
    layout=layout,
  )
  expected = embed_blocks(embed, params, corpus, tiny.LENGTHS, 7)
  np.testing.assert_allclose(
    found.block_embeds, expected.block_embeds, atol=1e-5
  )
  assert found.params_fingerprint == expected.params_fingerprint
  assert calls == ([24] if num_tokens == 240 else [12, 12])
  assert done[-1] == corpus.num_blocks == 16


def test_a_snapshot_is_made_once(corpus, setup, tmp_path):
  calls = []

  def embed(params, inputs):
    calls.append(inputs)
    return setup[0](params, inputs)

  maker = SnapshotMaker(embed, corpus, tiny.LENGTHS)
  made, seconds = maker.snapshot(tmp_path / 's', setup[1], 3)
  assert seconds > 0
  num_calls = len(calls)
  found, seconds = maker.snapshot(tmp_path / 's', None, 3)
  assert len(calls) == num_calls
  assert seconds == 0
  np.testing.assert_array_equal(found.block_embeds, made.block_embeds)


def test_a_snapshot_of_another_corpus_is_not_taken(
  corpus, setup, tmp_path, tiny_corpus
):
  embed, params = setup
  SnapshotMaker(embed, corpus, tiny.LENGTHS).snapshot(tmp_path / 's', params, 3)
  other = SnapshotMaker(embed, Corpus.open(tiny_corpus), tiny.LENGTHS)
  with pytest.raises(UserError, match='embeds corpus'):
    other.snapshot(tmp_path / 's', params, 3)
