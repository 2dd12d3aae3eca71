"""What losses take, drawn at random."""

import numpy as np


def pretrain_arrays(seed, scale=5.0, batch=3, num_candidates=4, max_masks=5):
  rng = np.random.default_rng(seed)
  candidate_mask = rng.random((batch, num_candidates)) < 0.7
  candidate_mask[:, 0] = True
  return (
    np.float32(scale * rng.normal(size=(batch, num_candidates))),
    np.float32(
      -scale * rng.exponential(size=(batch, num_candidates, max_masks))
    ),
    rng.random((batch, max_masks)) < 0.6,
    candidate_mask,
  )


def doubled(arrays):
  return [np.float64(a) if a.dtype == np.float32 else a for a in arrays]
