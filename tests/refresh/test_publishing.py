"""What is published is whole, and embeds as the trainer's parameters do."""

import dataclasses
import errno

import jax
import numpy as np
import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params, split_embedders
from realm_jax.refresh import publishing
from realm_jax.refresh.publishing import (
  load_published,
  prune_published,
  publish,
  published,
)
from realm_jax.refresh.reuse import params_fingerprint
from realm_jax.sharding import MeshConfig, make_layout
from realm_jax.types import TextInputs

MODEL = dataclasses.replace(
  tiny.MODEL, encoder=dataclasses.replace(tiny.ENCODER, vocab_size=30)
)


@pytest.fixture(scope='module')
def params():
  return init_params(MODEL, jax.random.key(0))


def embeds(model, params):
  ids = np.arange(14, dtype=np.int32).reshape(2, 7)
  inputs = TextInputs(ids, np.ones_like(ids), np.zeros_like(ids))
  return np.asarray(make_embed(model, Realm.embed_documents)(params, inputs))


@pytest.mark.slow
@pytest.mark.parametrize('shared', [True, False])
def test_what_is_published_embeds_the_same_documents_alike(
  tmp_path, params, shared
):
  model = MODEL
  if not shared:
    model, params = split_embedders(MODEL, params)
    # Of no concern to documents.
    params['query_embedder'] = {}
  fingerprint = publish(tmp_path, 7, params)
  (found,) = published(tmp_path)
  assert found == (7, tmp_path / 'published' / '00000007', fingerprint)
  loaded = load_published(found.folder, model)
  assert params_fingerprint(loaded) == fingerprint == params_fingerprint(params)
  np.testing.assert_array_equal(embeds(model, loaded), embeds(model, params))


def test_parameters_have_one_fingerprint_on_any_layout(tmp_path, params):
  layout = make_layout(MeshConfig(4, 2, 'tensor'), MODEL)
  spread = layout.place_params(params)
  assert publish(tmp_path, 7, spread) == params_fingerprint(params)
  found = load_published(published(tmp_path)[0].folder, MODEL)
  assert params_fingerprint(found) == params_fingerprint(params)


@pytest.mark.slow
def test_a_step_is_published_once_and_replaced_by_another(tmp_path, params):
  publish(tmp_path, 7, params)
  manifest = tmp_path / 'published' / '00000007' / 'manifest.json'
  before = manifest.stat().st_mtime_ns
  publish(tmp_path, 7, params)
  assert manifest.stat().st_mtime_ns == before
  other = init_params(MODEL, jax.random.key(1))
  fingerprint = publish(tmp_path, 7, other)
  assert [p.params_fingerprint for p in published(tmp_path)] == [fingerprint]
  loaded = load_published(manifest.parent, MODEL)
  assert params_fingerprint(loaded) == fingerprint


def test_a_full_disk_leaves_nothing_behind(tmp_path, params, monkeypatch):
  def full(folder, params):
    folder.mkdir()
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(publishing, 'save_params', full)
  with pytest.raises(OSError, match='No space left'):
    publish(tmp_path, 7, params)
  assert list((tmp_path / 'published').iterdir()) == []
  assert published(tmp_path) == []


def test_the_old_and_the_unfinished_are_deleted(tmp_path, params):
  for step in (3, 5, 8):
    publish(tmp_path, step, params)
  (tmp_path / 'published' / '00000009.partial' / 'params').mkdir(parents=True)
  assert [p.step for p in published(tmp_path)] == [3, 5, 8]
  prune_published(tmp_path, 5)
  assert [p.step for p in published(tmp_path)] == [5, 8]
  names = {path.name for path in (tmp_path / 'published').iterdir()}
  assert names == {'00000005', '00000008'}


def test_damaged_parameters_are_not_taken(tmp_path, params):
  publish(tmp_path, 7, params)
  (found,) = published(tmp_path)
  path = max(found.folder.rglob('*'), key=lambda p: p.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(UserError, match='has checksum'):
    load_published(found.folder, MODEL)
