import ml_dtypes
import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.index.snapshot import (
  Snapshot,
  load_snapshot,
  save_snapshot,
  write_shard,
)

EMBEDS = np.arange(15, dtype=np.float32).reshape(5, 3)
CORPUS, PARAMS = 'c' * 64, 'p' * 64
SNAPSHOT = Snapshot(EMBEDS, 40, CORPUS, PARAMS)


@pytest.fixture
def folder(tmp_path):
  save_snapshot(tmp_path / 'snapshot', SNAPSHOT)
  return tmp_path / 'snapshot'


def test_what_is_saved_is_loaded(folder):
  snapshot = load_snapshot(folder, CORPUS)
  np.testing.assert_array_equal(snapshot.block_embeds, EMBEDS)
  assert snapshot.block_embeds.dtype == np.float32
  assert isinstance(snapshot.block_embeds, np.memmap)
  assert snapshot[1:] == (40, CORPUS, PARAMS, None, None)


def test_removed_rows_and_digests_are_kept(tmp_path):
  live = np.array([True, False, True, True, True])
  digests = np.arange(10).view('V16')
  save_snapshot(tmp_path, SNAPSHOT._replace(live=live, block_digests=digests))
  snapshot = load_snapshot(tmp_path, CORPUS)
  np.testing.assert_array_equal(snapshot.live, live)
  assert snapshot.block_digests.tobytes() == digests.tobytes()


def test_bfloat16_takes_half_the_room(tmp_path):
  save_snapshot(tmp_path, SNAPSHOT, dtype='bfloat16')
  snapshot = load_snapshot(tmp_path, CORPUS)
  assert snapshot.block_embeds.dtype == ml_dtypes.bfloat16
  np.testing.assert_array_equal(snapshot.block_embeds.astype(float), EMBEDS)
  size = (tmp_path / 'block_embeds-00000-of-00001.npy').stat().st_size
  assert size == 128 + 5 * 3 * 2


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
@pytest.mark.parametrize('num_shards', [2, 5, 7])
def test_rows_of_several_files_are_read_as_one_array(
  tmp_path, num_shards, dtype
):
  save_snapshot(tmp_path, SNAPSHOT, num_shards=num_shards, dtype=dtype)
  rows = load_snapshot(tmp_path, CORPUS).block_embeds
  assert (rows.shape, len(rows)) == ((5, 3), 5)
  for start in range(6):
    for stop in range(6):
      np.testing.assert_array_equal(rows[start:stop], EMBEDS[start:stop])
  np.testing.assert_array_equal(np.asarray(rows), EMBEDS)
  ids = np.array([[4, 0], [2, 2]])
  np.testing.assert_array_equal(rows[ids], EMBEDS[ids])
  np.testing.assert_array_equal(rows[3], EMBEDS[3])


def test_a_snapshot_of_another_corpus_is_refused(folder):
  with pytest.raises(UserError, match=r'embeds corpus c{12}, but .* d{12}'):
    load_snapshot(folder, 'd' * 64)
  assert load_snapshot(folder, None).corpus_fingerprint == CORPUS


def test_an_unfinished_snapshot_is_not_there(folder):
  (folder / 'manifest.json').unlink()
  with pytest.raises(FileNotFoundError, match='was never finished'):
    load_snapshot(folder, CORPUS)
  with pytest.raises(FileNotFoundError, match='does not exist'):
    load_snapshot(folder / 'none', CORPUS)


def test_a_damaged_snapshot_is_refused(tmp_path):
  save_snapshot(tmp_path, SNAPSHOT, num_shards=2)
  path = tmp_path / 'block_embeds-00001-of-00002.npy'
  content = path.read_bytes()
  path.write_bytes(content[:-1])
  with pytest.raises(UserError, match='bytes, its manifest says'):
    load_snapshot(tmp_path, CORPUS)
  path.write_bytes(content[:-1] + b'?')
  with pytest.raises(UserError, match=r'00001-of-00002\.npy has checksum'):
    load_snapshot(tmp_path, CORPUS)
  path.unlink()
  with pytest.raises(UserError, match=r'00001-of-00002\.npy is missing'):
    load_snapshot(tmp_path, CORPUS)


def test_a_snapshot_can_be_written_again(folder):
  save_snapshot(folder, Snapshot(EMBEDS + 1, 41, CORPUS))
  snapshot = load_snapshot(folder, CORPUS)
  np.testing.assert_array_equal(snapshot.block_embeds, EMBEDS + 1)
  assert snapshot.index_step == 41


def test_what_is_mapped_from_a_folder_can_be_written_to_it(folder):
  loaded = load_snapshot(folder, CORPUS)
  save_snapshot(folder, loaded, num_shards=2)
  np.testing.assert_array_equal(loaded.block_embeds, EMBEDS)
  np.testing.assert_array_equal(
    np.asarray(load_snapshot(folder, CORPUS).block_embeds), EMBEDS
  )


def test_a_snapshot_that_is_being_written_again_is_not_there(folder):
  def rows():
    yield EMBEDS[:2]
    raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    write_shard(folder, 0, 1, rows(), EMBEDS.shape, 'float32')
  with pytest.raises(FileNotFoundError, match='was never finished'):
    load_snapshot(folder, CORPUS, verify=False)


def test_other_dtypes_are_refused(tmp_path):
  with pytest.raises(ValueError, match="dtype is 'int8', expected one of"):
    save_snapshot(tmp_path, SNAPSHOT, dtype='int8')
