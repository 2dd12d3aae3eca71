"""Only what changed is embedded again."""

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.index.snapshot import Snapshot, save_snapshot
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params, split_embedders
from realm_jax.refresh.reuse import block_digests, params_fingerprint
from realm_jax.refresh.snapshots import SnapshotMaker

ROWS = [{'title': f'T{n}', 'text': f'It was in {1800 + n}.'} for n in range(9)]
# Two are gone, one is new, one has changed, and all stand elsewhere.
CHANGED = [*ROWS[:1:-1], {'title': 'T1', 'text': 'It was never.'}]


@pytest.fixture(scope='module')
def corpora(tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpora')
  first = Corpus.open(tiny.make_corpus(folder / 'first', ROWS))
  vocab = str(first.folder / 'vocab.txt')
  second = tiny.make_corpus(folder / 'second', CHANGED, vocab=vocab)
  return first, Corpus.open(second)


@pytest.fixture(scope='module')
def setup(corpora):
  model = tiny.with_vocab_of(corpora[0])
  params = init_params(model, jax.random.key(0))
  return model, params, make_embed(model, Realm.embed_documents)


@pytest.fixture
def counted(setup):
  """embed(params, inputs), and the real documents it was called with."""
  num_documents = []

  def embed(params, inputs):
    num_documents.append(int((inputs.mask.sum(axis=1) > 3).sum()))
    return setup[2](params, inputs)

  return embed, num_documents


@pytest.mark.slow
def test_blocks_that_stayed_are_not_embedded_again(
  corpora, setup, counted, tmp_path
):
  first, second = corpora
  _, params, _ = setup
  embed, num_documents = counted
  SnapshotMaker(embed, first, tiny.LENGTHS).snapshot(tmp_path / 'a', params, 5)
  num_documents.clear()
  done = []
  found, _ = SnapshotMaker(
    embed, second, tiny.LENGTHS, done.append, [tmp_path / 'a']
  ).snapshot(tmp_path / 'b', params, 5)
  assert sum(num_documents) == 1
  assert done[-1] == second.num_blocks == 8
  fresh, _ = SnapshotMaker(setup[2], second, tiny.LENGTHS).snapshot(
    tmp_path / 'c', params, 5
  )
  np.testing.assert_allclose(found.block_embeds, fresh.block_embeds, atol=1e-5)
  assert found.corpus_fingerprint == second.fingerprint


def test_what_was_embedded_is_counted(corpora, setup, tmp_path):
  first, second = corpora
  _, params, embed = setup
  maker = SnapshotMaker(embed, first, tiny.LENGTHS)
  maker.snapshot(tmp_path / 'a', params, 5)
  assert maker.num_embedded == 9
  maker.snapshot(tmp_path / 'a', params, 5)
  assert maker.num_embedded == 0
  maker = SnapshotMaker(
    embed, second, tiny.LENGTHS, reuse_from=[tmp_path / 'a']
  )
  maker.snapshot(tmp_path / 'b', params, 5)
  assert maker.num_embedded == 1


def test_nothing_is_embedded_for_the_same_corpus(
  corpora, setup, counted, tmp_path
):
  embed, num_documents = counted
  made, _ = SnapshotMaker(embed, corpora[0], tiny.LENGTHS).snapshot(
    tmp_path / 'a', setup[1], 5
  )
  num_documents.clear()
  found, _ = SnapshotMaker(
    embed, corpora[0], tiny.LENGTHS, reuse_from=[tmp_path / 'a']
  ).snapshot(tmp_path / 'b', setup[1], 5)
  assert num_documents == []
  np.testing.assert_array_equal(found.block_embeds, made.block_embeds)


@pytest.mark.slow
@pytest.mark.parametrize('what', ['parameters', 'lengths', 'unknown'])
def test_embeddings_of_something_else_are_not_taken(
  corpora, setup, counted, tmp_path, what
):
  corpus, (model, params, _) = corpora[0], setup
  embed, num_documents = counted
  lengths = tiny.LENGTHS
  if what == 'unknown':
    embeds = np.zeros((9, model.embed_dim), np.float32)
    save_snapshot(tmp_path / 'a', Snapshot(embeds, 5, corpus.fingerprint))
  else:
    SnapshotMaker(embed, corpus, lengths).snapshot(tmp_path / 'a', params, 5)
  if what == 'parameters':
    params = init_params(model, jax.random.key(1))
  if what == 'lengths':
    lengths = Lengths(document_len=lengths.document_len - 1)
  num_documents.clear()
  SnapshotMaker(embed, corpus, lengths, reuse_from=[tmp_path / 'a']).snapshot(
    tmp_path / 'b', params, 5
  )
  assert sum(num_documents) == 9


def test_a_damaged_snapshot_is_not_taken(corpora, setup, tmp_path):
  _, params, embed = setup
  maker = SnapshotMaker(embed, corpora[0], tiny.LENGTHS)
  maker.snapshot(tmp_path / 'a', params, 5)
  path = tmp_path / 'a' / 'block_embeds-00000-of-00001.npy'
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  maker = SnapshotMaker(
    embed, corpora[1], tiny.LENGTHS, reuse_from=[tmp_path / 'a']
  )
  with pytest.raises(UserError, match='has checksum'):
    maker.snapshot(tmp_path / 'b', params, 5)


def test_digests_are_of_what_the_embedder_sees(corpora):
  first, second = (block_digests(c, tiny.LENGTHS) for c in corpora)
  assert len(set(first.tolist())) == 9
  shared = set(first.tolist()) & set(second.tolist())
  assert len(shared) == 7


def test_parameters_are_known_by_their_document_embedder(setup):
  model, params, _ = setup
  fingerprint = params_fingerprint(params)
  _, split = split_embedders(model, params)
  assert params_fingerprint(split) == fingerprint
  other = jax.tree.map(lambda array: array + 1, params)
  reader = {**params, 'reader': other['reader']}
  assert params_fingerprint(reader) == fingerprint
  assert params_fingerprint(other) != fingerprint
