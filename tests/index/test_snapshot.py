import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.index.snapshot import Snapshot, load_snapshot, save_snapshot

EMBEDS = np.arange(15, dtype=np.float32).reshape(5, 3)


@pytest.fixture
def folder(tmp_path):
  save_snapshot(tmp_path / 'snapshot', Snapshot(EMBEDS, 40, 'c' * 64))
  return tmp_path / 'snapshot'


def test_what_is_saved_is_loaded(folder):
  snapshot = load_snapshot(folder, 'c' * 64)
  np.testing.assert_array_equal(snapshot.block_embeds, EMBEDS)
  assert snapshot.block_embeds.dtype == np.float32
  assert isinstance(snapshot.block_embeds, np.memmap)
  assert snapshot.index_step == 40
  assert snapshot.corpus_fingerprint == 'c' * 64


def test_a_snapshot_of_another_corpus_is_refused(folder):
  with pytest.raises(UserError, match=r'embeds corpus c{12}, but .* d{12}'):
    load_snapshot(folder, 'd' * 64)


def test_an_unfinished_snapshot_is_not_there(folder):
  (folder / 'manifest.json').unlink()
  with pytest.raises(FileNotFoundError, match='was never finished'):
    load_snapshot(folder, 'c' * 64)
  with pytest.raises(FileNotFoundError, match='does not exist'):
    load_snapshot(folder / 'none', 'c' * 64)


def test_a_damaged_snapshot_is_refused(folder):
  path = folder / 'block_embeds.npy'
  content = path.read_bytes()
  path.write_bytes(content[:-1])
  with pytest.raises(UserError, match='bytes, its manifest says'):
    load_snapshot(folder, 'c' * 64)
  path.write_bytes(content[:-1] + b'?')
  with pytest.raises(UserError, match='has checksum'):
    load_snapshot(folder, 'c' * 64)
  path.unlink()
  with pytest.raises(UserError, match='is missing'):
    load_snapshot(folder, 'c' * 64)


def test_a_snapshot_can_be_written_again(folder):
  save_snapshot(folder, Snapshot(EMBEDS + 1, 41, 'c' * 64))
  snapshot = load_snapshot(folder, 'c' * 64)
  np.testing.assert_array_equal(snapshot.block_embeds, EMBEDS + 1)
  assert snapshot.index_step == 41
