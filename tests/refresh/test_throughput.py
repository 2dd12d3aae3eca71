import numpy as np
import pytest

from realm_jax.refresh import throughput as module
from realm_jax.refresh.throughput import Throughput
from realm_jax.types import TextInputs


def inputs(lens, length):
  mask = (np.arange(length) < np.array(lens)[:, None]).astype(np.int32)
  return TextInputs(mask, mask, mask)


def test_blocks_tokens_and_padding_are_counted(monkeypatch):
  now = [50.0]
  monkeypatch.setattr(module.time, 'perf_counter', lambda: now[0])
  throughput = Throughput()
  throughput.add(3, inputs([4, 5, 6], 8))
  throughput.add(2, inputs([9, 10, 3], 12))  # the last fills up
  now[0] = 54.0
  throughput.stop()
  assert throughput.blocks_per_second == 5 / 4
  assert throughput.tokens_per_second == 34 / 4
  assert throughput.padding_share == pytest.approx(1 - 34 / 60)
  assert throughput.num_texts == {8: 3, 12: 3}


def test_nothing_embedded_is_no_rate():
  throughput = Throughput()
  throughput.stop()
  assert throughput.blocks_per_second == throughput.tokens_per_second == 0
  assert throughput.padding_share == 0
