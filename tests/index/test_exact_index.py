import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_exact import EMBED_DIM, assert_found, oracle, whole_numbers

from realm_jax.errors import UserError
from realm_jax.index import exact, exact_index, table
from realm_jax.index.exact_index import ExactIndex
from realm_jax.index.snapshot import Snapshot, load_snapshot, save_snapshot

QUERIES = whole_numbers(np.random.default_rng(9), 4, largest=5)
MESHES = {'one device': None, 'mesh': (4,)}


def blocks_of(seed, num_blocks=30):
  return whole_numbers(np.random.default_rng(seed), num_blocks)


@pytest.fixture(params=MESHES)
def mesh(request):
  shape = MESHES[request.param]
  return shape and jax.make_mesh(shape, ('docs',))


def num_compiled():
  """Of everything that an index calls."""
  return [
    function._cache_size()
    for function in (exact._search, table._write, table.take_rows)
  ]


@pytest.mark.parametrize('dtype', table.DTYPES)
def test_search_is_over_its_blocks(mesh, dtype):
  blocks = blocks_of(0)
  index = ExactIndex(Snapshot(blocks, 4), dtype=dtype, mesh=mesh)
  assert (index.num_blocks, index.embed_dim, index.index_step) == (30, 3, 4)
  for k in (6, 30):
    assert_found(index.search(QUERIES, k), oracle(QUERIES, blocks, k))


def test_what_changes_is_seen_and_compiles_nothing(mesh):
  blocks = blocks_of(0)
  index = ExactIndex(blocks, capacity=600, mesh=mesh)
  index.search(QUERIES, 6)
  index.update(np.array([0]), blocks[:1])
  index.embeds(np.arange(30))
  before = num_compiled()
  for seed, num_blocks in ((1, 30), (2, 25), (3, 600)):
    blocks = blocks_of(seed, num_blocks)
    index.swap(Snapshot(blocks, index_step=seed))
    assert (index.num_blocks, index.index_step) == (num_blocks, seed)
    assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6))
  rows = np.array([3, 29, 577, 599])
  blocks[rows] = 5 * np.sign(QUERIES[:1])
  index.update(rows, blocks[rows])
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6))
  index.remove(rows[:3])
  live = np.ones(600, bool)
  live[rows[:3]] = False
  assert index.num_blocks == 597
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6, live))
  assert num_compiled() == before


@pytest.mark.parametrize('dtype', table.DTYPES)
def test_threads_search_while_another_changes_and_swaps(dtype):
  """Every search sees one state or another, never a mixture."""
  ones = np.ones((40, 3), np.float32)
  index = ExactIndex(ones, capacity=5000, dtype=dtype)
  index.search(QUERIES, 40)
  done, wrong = threading.Event(), []

  def search():
    while not done.is_set():
      try:
        scores = np.asarray(index.search(np.ones((4, 3)), 40).scores)
        embeds = np.asarray(index.embeds(np.arange(40)))
        if np.ptp(scores) or np.ptp(embeds):
          wrong.append((scores, embeds))
      except Exception as error:
        wrong.append(error)

  threads = [threading.Thread(target=search) for _ in range(2)]
  for thread in threads:
    thread.start()
  try:
    for step in range(40):
      index.swap(Snapshot((step + 1) * ones))
      index.update(np.arange(40), (step + 2) * ones)
  finally:
    done.set()
    for thread in threads:
      thread.join()
  assert not wrong, wrong[0]


def test_blocks_are_added_behind_the_last(mesh):
  blocks = blocks_of(0, 40)
  index = ExactIndex(blocks[:30], capacity=40, mesh=mesh)
  np.testing.assert_array_equal(index.add(blocks[30:35]), np.arange(30, 35))
  index.remove(np.array([34]))
  # A removed id is not given away.
  np.testing.assert_array_equal(index.add(blocks[35:38]), np.arange(35, 38))
  live = np.arange(40) < 38
  live[34] = False
  assert index.num_blocks == 37
  assert_found(index.search(QUERIES, 9), oracle(QUERIES, blocks, 9, live))
  if mesh is None:
    with pytest.raises(UserError, match=r'41 blocks do not fit: .* up to 40'):
      index.add(blocks[:3])


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(table.DTYPES))
def test_any_changes_leave_what_a_new_index_would_have(seed, dtype):
  rng = np.random.default_rng(seed)
  blocks = np.zeros((64, EMBED_DIM), np.float32)
  blocks[:40] = whole_numbers(rng, 40, 9)
  live = np.arange(64) < 40
  index = ExactIndex(blocks[:40], capacity=64, dtype=dtype)
  used = 40
  for _ in range(4):
    kind = rng.choice(['update', 'add', 'remove'])
    if kind == 'add':
      new = whole_numbers(rng, int(rng.integers(1, 6)), 9)
      ids = index.add(new)
      np.testing.assert_array_equal(ids, np.arange(used, used + len(new)))
      blocks[ids], live[ids] = new, True
      used += len(new)
    else:
      ids = rng.choice(np.flatnonzero(live), 5, replace=False)
      if kind == 'update':
        blocks[ids] = whole_numbers(rng, 5, 9)
        index.update(ids, blocks[ids])
      else:
        index.remove(ids)
        live[ids] = False
  found = index.search(QUERIES, 7)
  assert_found(found, oracle(QUERIES, blocks, 7, live))
  np.testing.assert_array_equal(index.embeds(np.arange(used)), blocks[:used])


@pytest.mark.parametrize(('dtype', 'least'), [('bfloat16', 1), ('int8', 1)])
def test_small_dtypes_lose_nothing_when_scored_again(dtype, least):
  rng = np.random.default_rng(0)
  blocks = rng.normal(size=(5000, 32)).astype(np.float32)
  queries = rng.normal(size=(40, 32)).astype(np.float32)
  _, block_ids = oracle(queries, blocks, 8)

  def recall(**options):
    found = ExactIndex(blocks, dtype=dtype, **options).search(queries, 8)
    same = np.asarray(found.block_ids)[:, :, None] == block_ids[:, None]
    return same.any(axis=2).mean()

  assert recall() >= least
  assert 0.8 < recall(rescore=False) < 1


def test_few_blocks_are_refused_or_filled_up():
  with pytest.raises(UserError, match=r'31 blocks .* the index holds 30'):
    ExactIndex(blocks_of(0)).search(QUERIES, 31)
  with pytest.raises(UserError, match=r'31 blocks .* the index holds 30'):
    ExactIndex(blocks_of(0), min_k=31)
  index = ExactIndex(blocks_of(0), allow_fewer=True, min_k=31)
  for k in (31, 40):
    found = index.search(QUERIES, k)
    assert found.scores.shape == found.block_ids.shape == (4, k)
    assert (found.block_ids[:, 30:] == -1).all()
    assert np.isneginf(found.scores[:, 30:]).all()
    assert_found(
      type(found)(found.scores[:, :30], found.block_ids[:, :30]),
      oracle(QUERIES, blocks_of(0), 30),
    )


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_an_embedding_that_is_not_finite_is_named(bad):
  index = ExactIndex(blocks_of(0), capacity=40)
  blocks = blocks_of(1)
  blocks[17, 1] = bad
  blocks[16, :2] = 3e38  # its sum is not finite either
  with pytest.raises(UserError, match='block 17 is not finite'):
    index.swap(Snapshot(blocks, 5))
  with pytest.raises(UserError, match='block 17 is not finite'):
    ExactIndex(blocks)
  with pytest.raises(UserError, match='block 17 is not finite'):
    index.update(np.array([16, 17]), blocks[16:18])
  with pytest.raises(UserError, match='block 31 is not finite'):
    index.add(blocks[16:18])
  # Nothing has changed.
  assert (index.num_blocks, index.index_step) == (30, 0)
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks_of(0), 6))


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_query_that_is_not_finite_is_named(bad):
  index = ExactIndex(blocks_of(0))
  queries = QUERIES.copy()
  queries[2, 1] = bad
  with pytest.raises(UserError, match='query 2 is not finite'):
    index.search(queries, 6)


@pytest.mark.parametrize('ids', [[1.0], [True]])
def test_ids_that_are_no_integers_are_refused(ids):
  index = ExactIndex(blocks_of(0))
  with pytest.raises(UserError, match='expected integers'):
    index.update(ids, blocks_of(0)[:1])
  with pytest.raises(UserError, match='expected integers'):
    index.remove(np.array(ids))
  index.remove([])
  index.update([], blocks_of(0)[:0])
  assert index.num_blocks == 30


@pytest.mark.parametrize('rows', [[-1, 2], [2, 30], [2, 7]])
def test_rows_that_are_no_blocks_are_refused(rows):
  index = ExactIndex(blocks_of(0), capacity=40)
  index.remove(np.array([7]))
  bad = next(row for row in rows if row in (-1, 30, 7))
  with pytest.raises(UserError, match=rf'^{bad} is no block .* 29 blocks'):
    index.update(np.array(rows), blocks_of(0)[:2])
  with pytest.raises(UserError, match=rf'^{bad} is no block'):
    index.remove(np.array(rows))


def test_what_does_not_fit_is_refused():
  index = ExactIndex(blocks_of(0))
  with pytest.raises(UserError, match=r'31 blocks .* capacity=31 or more'):
    index.swap(Snapshot(blocks_of(0, 31)))
  for wrong in (blocks_of(0)[:, :2], blocks_of(0)[0]):
    with pytest.raises(UserError, match=r'block_embeds have shape \(\d+,'):
      index.swap(Snapshot(wrong))
    with pytest.raises(UserError, match='query_embeds have shape'):
      index.search(wrong, 2)
  with pytest.raises(UserError, match='2 block ids came with 3 embeddings'):
    index.update(np.arange(2), blocks_of(0)[:3])
  with pytest.raises(UserError, match='31 blocks do not fit'):
    ExactIndex(blocks_of(0, 31), capacity=30)
  with pytest.raises(UserError, match="'int4', expected one of float32"):
    ExactIndex(blocks_of(0), dtype='int4')
  with pytest.raises(UserError, match='corpus is empty'):
    ExactIndex(np.zeros((0, 4), np.float32))
  for wrong in (blocks_of(0)[0], blocks_of(0)[None]):
    with pytest.raises(UserError, match=r'expected two dim.* \[num_blocks, em'):
      ExactIndex(wrong)
  with pytest.raises(UserError, match=r'shape \(3,\), expected \[any number'):
    ExactIndex(blocks_of(0), capacity=31).add(blocks_of(0)[0])


def test_a_lack_of_memory_is_foreseen(monkeypatch):
  monkeypatch.setattr(exact_index, 'free_device_bytes', lambda device: 300)
  with pytest.raises(UserError, match=r'30 embeddings of width 3 .* are free'):
    ExactIndex(blocks_of(0))  # 30 x (3 x 4 + 1) = 390 bytes
  ExactIndex(blocks_of(0), dtype='bfloat16', rescore=False)  # 210


def test_a_memory_mapped_snapshot_is_aliased_and_never_written_to(tmp_path):
  blocks = blocks_of(0)
  save_snapshot(tmp_path, Snapshot(blocks, 3, 'c' * 64))
  snapshot = load_snapshot(tmp_path, None)
  index = ExactIndex(snapshot)
  address = snapshot.block_embeds.ctypes.data
  assert index.table.rows.unsafe_buffer_pointer() == address
  changed = blocks.copy()
  changed[5] = 7
  index.update(np.array([5]), changed[5:6])
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, changed, 6))
  np.testing.assert_array_equal(snapshot.block_embeds, blocks)
  # With room for more, there is a copy.
  index = ExactIndex(snapshot, capacity=31)
  assert index.table.rows.unsafe_buffer_pointer() != address


def test_a_copy_of_a_file_is_foreseen(monkeypatch, tmp_path):
  blocks = blocks_of(0)
  save_snapshot(tmp_path / 'a', Snapshot(blocks))
  save_snapshot(tmp_path / 'b', Snapshot(blocks), dtype='bfloat16')
  snapshot = load_snapshot(tmp_path / 'a', None)
  index = ExactIndex(snapshot)
  free = [300]
  monkeypatch.setattr(exact_index, 'free_device_bytes', lambda device: free[0])
  ExactIndex(snapshot)  # where it lies
  with pytest.raises(UserError, match='are free'):
    index.update(np.array([5]), blocks[:1])
  with pytest.raises(UserError, match='are free'):
    index.swap(load_snapshot(tmp_path / 'b', None))
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6))
  free[0] = 400
  index.update(np.array([5]), blocks[:1])
  # There is a table now, which gives way to the next one.
  free[0] = 10
  index.update(np.array([6]), blocks[:1])
  index.swap(load_snapshot(tmp_path / 'b', None))
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6))


def test_an_array_that_its_owner_may_write_to_is_copied():
  buffer = np.zeros(30 * 3 * 4 + 64, np.uint8)
  start = -buffer.ctypes.data % 64
  blocks = buffer[start : start + 360].view(np.float32).reshape(30, 3)
  blocks[:] = blocks_of(0)
  index = ExactIndex(blocks)
  blocks[:] = 99
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks_of(0), 6))


@pytest.mark.parametrize('dtype', ['float32', 'bfloat16'])
def test_what_is_saved_can_be_searched(tmp_path, dtype):
  index = ExactIndex(
    Snapshot(blocks_of(0), 7, 'c' * 64, 'p' * 64), capacity=33, dtype=dtype
  )
  index.add(blocks_of(1, 2))
  index.remove(np.array([3, 4]))
  index.save(tmp_path)
  again = ExactIndex.load(tmp_path, 'c' * 64, capacity=40)
  assert again.capacity == 40
  assert (again.num_blocks, again.index_step) == (30, 7)
  for k in (5, 30):
    expected = index.search(QUERIES, k)
    assert_found(again.search(QUERIES, k), tuple(expected))


@pytest.mark.parametrize('change', ['update', 'add', 'remove'])
def test_digests_are_not_saved_of_embeddings_that_changed(tmp_path, change):
  digests = np.arange(60).view('V16')
  index = ExactIndex(Snapshot(blocks_of(0), block_digests=digests), capacity=31)
  if change == 'update':
    index.update([3], blocks_of(1, 1))
  elif change == 'add':
    index.add(blocks_of(1, 1))
  else:
    index.remove([3])
  index.save(tmp_path)
  saved = load_snapshot(tmp_path, None).block_digests
  assert (saved is None) == (change != 'remove')


def test_an_index_may_be_saved_over_the_file_it_reads(tmp_path):
  blocks = blocks_of(0)
  save_snapshot(tmp_path, Snapshot(blocks))
  index = ExactIndex(load_snapshot(tmp_path, None))
  index.remove(np.array([3]))
  index.save(tmp_path)
  live = np.arange(30) != 3
  save_snapshot(tmp_path, Snapshot(blocks_of(1, 8)))
  assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6, live))


def test_a_snapshot_of_many_files_is_spread_over_any_mesh(tmp_path):
  blocks = blocks_of(0, 1000)
  save_snapshot(tmp_path, Snapshot(blocks), num_shards=3)
  for num_devices in (1, 2, 8):
    mesh = jax.make_mesh((num_devices,), ('docs',))
    index = ExactIndex(load_snapshot(tmp_path, None), mesh=mesh)
    assert_found(index.search(QUERIES, 6), oracle(QUERIES, blocks, 6))


def test_embeds_of_no_block_are_zeros():
  index = ExactIndex(blocks_of(0) + 1)
  found = index.embeds(jnp.array([[2, -1], [29, 0]]))
  assert found.shape == (2, 2, 3)
  np.testing.assert_array_equal(found[0, 1], np.zeros(3))
  np.testing.assert_array_equal(found[1, 0], blocks_of(0)[29] + 1)
