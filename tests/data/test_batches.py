import contextlib
import itertools
import json

import numpy as np
import pytest

from realm_jax.data.batches import Batches, DataConfig
from realm_jax.errors import UserError

IDS = np.arange(100, 113)  # 13 examples
LEFT_OUT = 105


def make_example(example_id, epoch):
  if example_id == LEFT_OUT:
    return None
  return {
    'id': np.int32(example_id),
    'epoch': np.int32(epoch),
    'pair': np.array([example_id, epoch], np.int32),
  }


def batches(batch_size=4, seed=5, ids=IDS):
  return Batches(ids, make_example, batch_size, seed)


def take(stream, number):
  return [batch['id'].tolist() for batch in itertools.islice(stream, number)]


def test_a_batch_is_stacked_examples():
  batch = next(batches())
  assert batch['id'].shape == (4,)
  assert batch['pair'].shape == (4, 2)
  np.testing.assert_array_equal(batch['pair'][:, 0], batch['id'])


def test_the_same_seed_gives_the_same_batches_and_another_others():
  first = take(batches(), 9)
  assert first == take(batches(), 9)
  assert first != take(batches(seed=6), 9)


def test_an_epoch_has_every_example_once_in_an_order_of_its_own():
  ids = IDS[IDS != LEFT_OUT]
  flat = [
    i for batch in take(batches(batch_size=1, ids=ids), 36) for i in batch
  ]
  epochs = [flat[i : i + 12] for i in (0, 12, 24)]
  for epoch in epochs:
    assert sorted(epoch) == ids.tolist()
  assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
  assert epochs[0] != ids.tolist()


@pytest.mark.slow
def test_one_that_is_left_out_gives_its_place_to_any_other():
  epochs = [take(batches(batch_size=13, seed=n), 1)[0] for n in range(60)]
  counts = np.array([[epoch.count(i) for i in IDS] for epoch in epochs])
  assert (counts[:, IDS == LEFT_OUT] == 0).all()
  counts = counts[:, IDS != LEFT_OUT]
  assert (np.sort(counts) == [1] * 11 + [2]).all()
  assert (counts == 2).any(axis=0).all()


@pytest.mark.parametrize('number', [0, 5])
def test_rows_made_by_several_are_those_made_by_one(number):
  whole = batches(batch_size=6)
  parts = [
    Batches(IDS, make_example, 6, 5, rows) for rows in ([0, 1], [2, 3, 4, 5])
  ]
  take(whole, number)
  for part in parts:
    part.seek(whole.position())
  for expected, *made in zip(
    take(whole, 7), *(take(part, 7) for part in parts), strict=True
  ):
    assert [i for rows in made for i in rows] == expected
  assert {str(part.position()) for part in parts} == {str(whole.position())}


def test_examples_are_told_the_epoch():
  seen = [next(stream)['epoch'] for stream in [batches(batch_size=13)] * 3]
  assert [sorted(set(epoch.tolist())) for epoch in seen] == [[0], [1], [2]]


# 3 is the end of the first epoch, 4 a batch of two epochs.
@pytest.mark.parametrize('number', [0, 1, 3, 4, 10])
def test_a_stream_goes_on_where_its_position_was_taken(number):
  stream = batches()
  take(stream, number)
  position = json.loads(json.dumps(stream.position()))
  expected = take(stream, 5)
  resumed = batches()
  resumed.seek(position)
  assert take(resumed, 5) == expected
  stream.seek(position)  # backwards
  assert take(stream, 5) == expected


@pytest.mark.slow
def test_workers_make_the_same_batches_from_any_position_on():
  expected = take(batches(), 12)
  config = DataConfig(num_workers=2)
  with contextlib.closing(
    Batches(IDS, make_example, 4, 5, config=config)
  ) as stream:
    assert take(stream, 5) == expected[:5]
    position = stream.position()
    assert take(stream, 2) == expected[5:7]
    stream.seek(position)
    assert take(stream, 3) == expected[5:8]
  resumed = batches()
  resumed.seek(position)
  assert take(resumed, 7) == expected[5:]


def test_fewer_than_no_workers_are_refused():
  with pytest.raises(UserError, match='num_workers is -1'):
    DataConfig(num_workers=-1)


def test_the_position_does_not_run_ahead_of_what_was_read():
  stream = batches()
  first = next(stream)
  position = stream.position()
  assert stream.position() == position
  resumed = batches()
  resumed.seek(position)
  assert next(resumed)['id'].tolist() == next(stream)['id'].tolist()
  assert first['id'].shape == (4,)


def test_fewer_examples_than_a_batch_are_refused():
  with pytest.raises(UserError, match=r'13 examples, fewer than .* 14'):
    batches(batch_size=14)


def test_a_stream_of_nothing_is_refused():
  with pytest.raises(UserError, match='no example can be made'):
    batches(batch_size=1, ids=[LEFT_OUT])


def test_examples_may_be_fewer_than_a_batch_once_some_are_left_out():
  stream = Batches([LEFT_OUT, 1], make_example, 2, seed=0)
  assert next(stream)['id'].tolist() == [1, 1]
