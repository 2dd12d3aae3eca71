import numpy as np
import pytest

from realm_jax.refresh import throughput as module
from realm_jax.refresh.throughput import Throughput


def test_blocks_tokens_and_padding_are_counted(monkeypatch):
  now = [50.0]
  monkeypatch.setattr(module.time, 'perf_counter', lambda: now[0])
  throughput = Throughput()
  throughput.add(np.array([4, 5, 6]), 3, 8)
  throughput.add(np.array([9, 20]), 3, 12)  # one cut, and one that fills up
  now[0] = 54.0
  throughput.stop()
  assert throughput.blocks_per_second == 5 / 4
  assert throughput.tokens_per_second == 36 / 4
  assert throughput.padding_share == pytest.approx(1 - 36 / 60)
  assert throughput.num_texts == {8: 3, 12: 3}


def test_nothing_embedded_is_no_rate():
  throughput = Throughput()
  throughput.stop()
  assert throughput.blocks_per_second == throughput.tokens_per_second == 0
  assert throughput.padding_share == 0
