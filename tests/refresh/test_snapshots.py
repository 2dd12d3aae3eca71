import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.refresh.snapshots import SnapshotMaker


def test_a_snapshot_is_made_once_and_only_of_its_step(tmp_path, tiny_corpus):
  first, second = ({'embedder': np.float32(n)} for n in (7, 8))
  calls = []

  def embed(params, inputs):
    calls.append(params)
    return np.full((len(inputs.token_ids), 3), params['embedder'], np.float32)

  maker = SnapshotMaker(embed, Corpus.open(tiny_corpus), tiny.LENGTHS)
  made, _ = maker.snapshot(tmp_path / '5', first, 5)
  num_calls = len(calls)
  found, seconds = maker.snapshot(tmp_path / '5', second, 5)
  assert (len(calls), seconds) == (num_calls, 0.0)
  np.testing.assert_array_equal(found.block_embeds, made.block_embeds)
  with pytest.raises(UserError, match='is of step 5, expected step 6'):
    maker.snapshot(tmp_path / '5', first, 6)
