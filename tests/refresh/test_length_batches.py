import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.examples import Lengths
from realm_jax.refresh import length_batches as module
from realm_jax.refresh.length_batches import LengthBatch, length_batches

LENGTHS = Lengths(document_len=50, multiple=16)


@pytest.fixture(autouse=True)
def few_tokens(monkeypatch):
  monkeypatch.setattr(module, 'tokens_at_a_time', lambda: 96)


def batches(lens, num_devices=1, start=0):
  return [*length_batches(np.array(lens), LENGTHS, num_devices, start)]


def test_batches_of_one_length_are_of_one_size():
  found = batches([5] * 8 + [20] * 4)
  assert found == [
    LengthBatch(0, 6, 6, 16),
    # What is left of the short ones goes with the longer.
    LengthBatch(6, 9, 3, 32),
    LengthBatch(9, 12, 3, 32),
  ]
  assert batches([49, 50, 90], 2) == [
    LengthBatch(0, 2, 2, 50),
    LengthBatch(2, 3, 2, 50),
  ]


def test_sizes_are_multiples_of_eight_where_they_can_be(monkeypatch):
  monkeypatch.setattr(module, 'tokens_at_a_time', lambda: 16 * 23)
  assert batches([16] * 20) == [
    LengthBatch(0, 16, 16, 16),
    LengthBatch(16, 20, 16, 16),
  ]


@given(
  lens=st.lists(st.integers(3, 60), max_size=80),
  num_devices=st.integers(1, 3),
)
def test_every_text_has_its_place_and_batches_go_on_anywhere(lens, num_devices):
  lens = np.sort(np.array(lens, np.int32))
  found = [*length_batches(lens, LENGTHS, num_devices)]
  covered = [n for batch in found for n in range(batch.start, batch.stop)]
  assert covered == [*range(len(lens))]
  shapes = {(batch.length, batch.size) for batch in found}
  assert len(shapes) == len({length for length, _ in shapes})
  for number, batch in enumerate(found):
    assert batch.stop - batch.start <= batch.size
    assert batch.size % num_devices == 0
    assert batch.size * batch.length <= 96 * num_devices
    cut = np.minimum(lens[batch.start : batch.stop], LENGTHS.document_len)
    assert cut.max() <= batch.length
    rest = [*length_batches(lens, LENGTHS, num_devices, batch.start)]
    assert rest == found[number:]
  # The last is all that is filled up.
  assert all(batch.stop - batch.start == batch.size for batch in found[:-1])
