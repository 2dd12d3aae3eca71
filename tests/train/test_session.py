"""A stage that fails leaves nothing open."""

from types import SimpleNamespace

import jax.numpy as jnp
import pytest

from realm_jax.train import session
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.pipeline import BatchSource


class Source(BatchSource):
  def begin(self, step, params):
    raise ValueError('no such batch')

  def finish(self, begun):
    raise AssertionError

  def close(self):
    closed.append('Source')


closed = []


def cannot_make_step(transformation):
  raise ValueError('no such step')


@pytest.mark.parametrize(
  ('make_step', 'message'),
  [
    (cannot_make_step, 'no such step'),
    (lambda transformation: None, 'no such batch'),
  ],
)
def test_a_stage_that_fails_leaves_nothing_open(
  tmp_path, monkeypatch, make_step, message
):
  closed.clear()
  for name in ('Checkpoints', 'Reporter'):
    kind = getattr(session, name)

    def close(self, name=name, close=kind.close):
      closed.append(name)
      close(self)

    monkeypatch.setattr(kind, 'close', close)
  with pytest.raises(ValueError, match=message):
    session.run_stage(
      SimpleNamespace(path=tmp_path, stage='ict'),
      {'embedder': {'kernel': jnp.zeros((2, 3))}},
      OptimizerConfig(learning_rate=0.1, num_steps=5),
      make_step,
      Source(None),
      LoopConfig(num_steps=5),
    )
  assert closed == ['Reporter', 'Checkpoints', 'Source']
