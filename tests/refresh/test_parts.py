"""A build that was stopped is gone on with, to the same numbers."""

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.folders import is_whole
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params
from realm_jax.refresh import length_batches
from realm_jax.refresh import parts as module
from realm_jax.refresh.parts import Parts
from realm_jax.refresh.snapshots import SnapshotMaker

ROWS = np.arange(14, dtype=np.float32).reshape(7, 2)


@pytest.fixture(scope='module')
def setup(tiny_corpus):
  corpus = Corpus.open(tiny_corpus)
  model = tiny.with_vocab_of(corpus)
  params = init_params(model, jax.random.key(0))
  return corpus, make_embed(model, Realm.embed_documents), params


def batch_of(num_blocks, monkeypatch):
  num_tokens = num_blocks * tiny.LENGTHS.document_len
  monkeypatch.setitem(length_batches._TOKENS, 'cpu', num_tokens)


@pytest.fixture(autouse=True)
def every_batch_is_a_part(monkeypatch):
  batch_of(8, monkeypatch)
  monkeypatch.setattr(module, '_SECONDS', -1.0)
  monkeypatch.setattr(module, '_SHARE', 0.0)


class Stopped(BaseException):
  """As SIGKILL: nothing is written on the way out."""


def stopping(embed, num_calls, error=Stopped):
  """The function, which fails when it has been called so often."""
  calls = []

  def call(params, inputs):
    calls.append(inputs)
    if len(calls) > num_calls:
      raise error
    return embed(params, inputs)

  return call, calls


def stop_after(setup, folder, num_calls, error=Stopped, lengths=tiny.LENGTHS):
  corpus, embed, params = setup
  call, _ = stopping(embed, num_calls, error)
  with pytest.raises(error):
    SnapshotMaker(call, corpus, lengths).snapshot(folder, params, 5)
  assert not is_whole(folder)


def go_on(setup, folder, lengths=tiny.LENGTHS, params=None, layout=None):
  """The finished snapshot, the calls it took and the progress shown."""
  corpus, embed, old_params = setup
  call, calls = stopping(embed, 1000)
  done = []
  maker = SnapshotMaker(call, corpus, lengths, done.append)
  snapshot, _ = maker.snapshot(folder, params or old_params, 5)
  assert maker.num_embedded == maker.throughput.num_blocks
  return snapshot, len(calls), done


def test_a_stopped_build_goes_on_to_the_same_bits(setup, tmp_path):
  corpus = setup[0]
  assert corpus.num_blocks == 42  # six batches
  whole, num_calls, _ = go_on(setup, tmp_path / 'whole')
  assert num_calls == 6
  # Of four batches the last had not been waited for.
  stop_after(setup, tmp_path / 'a', 4)
  stop_after(setup, tmp_path / 'a', 1)
  snapshot, num_calls, done = go_on(setup, tmp_path / 'a')
  assert num_calls == 3
  assert done == [32, 40, 42]
  np.testing.assert_array_equal(snapshot.block_embeds, whole.block_embeds)
  names = {path.name for path in (tmp_path / 'a').iterdir()}
  assert names == {path.name for path in (tmp_path / 'whole').iterdir()}


def test_an_interrupt_keeps_what_was_embedded(setup, tmp_path, monkeypatch):
  monkeypatch.setattr(module, '_SECONDS', 1000.0)
  stop_after(setup, tmp_path / 'a', 4)
  assert not (tmp_path / 'a').exists()
  stop_after(setup, tmp_path / 'a', 4, KeyboardInterrupt)
  _, num_calls, done = go_on(setup, tmp_path / 'a')
  assert (num_calls, done[0]) == (3, 32)


@pytest.mark.parametrize('what', ['parameters', 'lengths', 'batch size'])
def test_parts_of_something_else_are_not_taken(
  setup, tmp_path, monkeypatch, what
):
  stop_after(setup, tmp_path / 'a', 4)
  lengths, params = tiny.LENGTHS, setup[2]
  if what == 'parameters':
    params = jax.tree.map(lambda array: array + 1, params)
  if what == 'lengths':
    lengths = Lengths(document_len=32, multiple=64)
  if what == 'batch size':
    batch_of(7, monkeypatch)
  snapshot, num_calls, _ = go_on(setup, tmp_path / 'a', lengths, params)
  assert num_calls == 6
  fresh, _, _ = go_on(setup, tmp_path / 'b', lengths, params)
  np.testing.assert_array_equal(snapshot.block_embeds, fresh.block_embeds)


def write(folder):
  parts = Parts(folder, {'seed': 1})
  list(parts.read())
  for bounds in (slice(0, 3), slice(3, 5), slice(5, 7)):
    parts.write(ROWS[bounds])
  return sorted((folder / 'parts').glob('*.npy'))


def read(folder, origin):
  parts = Parts(folder, origin)
  rows = [*parts.read(), ROWS[:0]]
  assert parts.num_rows == sum(map(len, rows))
  return np.concatenate(rows)


def test_parts_are_read_in_order_and_of_one_origin(tmp_path):
  write(tmp_path)
  np.testing.assert_array_equal(read(tmp_path, {'seed': 1}), ROWS)
  assert len(read(tmp_path, {'seed': 2})) == 0
  assert len(read(tmp_path, {'seed': 1})) == 0  # they are gone


@pytest.mark.parametrize('damage', ['cut', 'changed', 'missing'])
def test_nothing_is_read_from_a_torn_part_on(tmp_path, damage):
  path = write(tmp_path)[1]
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  if damage == 'missing':
    path.unlink()
  else:
    path.write_bytes(content[:-4] if damage == 'cut' else content)
  np.testing.assert_array_equal(read(tmp_path, {'seed': 1}), ROWS[:3])
  # What goes on from there is whole again.
  parts = Parts(tmp_path, {'seed': 1})
  list(parts.read())
  parts.write(ROWS[3:])
  np.testing.assert_array_equal(read(tmp_path, {'seed': 1}), ROWS)


def test_a_part_is_due_in_time_and_in_proportion(tmp_path, monkeypatch):
  monkeypatch.setattr(module, '_SECONDS', 10.0)
  monkeypatch.setattr(module, '_SHARE', 0.01)
  now = [100.0]
  monkeypatch.setattr(module.time, 'monotonic', lambda: now[0])
  parts = Parts(tmp_path, {})
  now[0] = 109.0
  assert not parts.is_due()
  now[0] = 110.5
  assert parts.is_due()
  now[0] = 5100.0
  parts.write(ROWS)
  now[0] = 5130.0
  assert not parts.is_due()  # 30 s of 5,030 would be lost
  now[0] = 5160.0
  assert parts.is_due()
