import json

import jax
import numpy as np
import pytest

from realm_jax.train.selection import BestOnDev

PARAMS = {'weight': jax.numpy.zeros(3)}


def params_of(step):
  return {'weight': jax.numpy.full(3, float(step))}


def measured(folder, values, every=10, patience=0):
  """A selection that has seen values, one every so many steps."""
  upcoming = iter(values)
  selection = BestOnDev(
    folder, lambda params: {'f1': next(upcoming)}, 'f1', every, patience
  )
  with open(folder / 'metrics.jsonl', 'a') as stream:
    for number in range(len(values)):
      step = number * every
      record = selection.event().action(step, params_of(step))
      stream.write(json.dumps({'step': step, **record}) + '\n')
  return selection


def test_the_first_of_the_best_is_kept(tmp_path):
  selection = measured(tmp_path, [0.1, 0.5, 0.3, 0.5])
  assert selection.best_step == 10
  np.testing.assert_array_equal(
    selection.best_params(PARAMS)['weight'], [10, 10, 10]
  )


@pytest.mark.parametrize(
  ('patience', 'values', 'enough'),
  [
    (2, [0.5, 0.4], False),
    (2, [0.5, 0.4, 0.5], True),
    (2, [0.5, 0.4, 0.6, 0.1], False),
    (0, [0.5, 0.4, 0.3, 0.2], False),
  ],
)
def test_enough_is_patience_times_nothing_better(
  tmp_path, patience, values, enough
):
  assert measured(tmp_path, values, patience=patience).has_seen_enough() == (
    enough
  )


def test_what_came_after_the_checkpoint_is_forgotten(tmp_path):
  measured(tmp_path, [0.1, 0.5, 0.3, 0.9])
  resumed = BestOnDev(tmp_path, dict, 'f1', 10)
  resumed.resume(20)
  assert resumed.best_step == 10
  np.testing.assert_array_equal(
    resumed.best_params(PARAMS)['weight'], [10, 10, 10]
  )


def test_what_was_surpassed_is_deleted(tmp_path):
  selection = measured(tmp_path, [0.1, 0.5, 0.3])
  selection.prune()
  assert [path.name for path in (tmp_path / 'best').iterdir()] == ['00000010']
