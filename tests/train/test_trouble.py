"""Runs that end before their time: what they say, what they leave."""

import errno
import os
import subprocess
import sys
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.pretrain import pretrain
from realm_jax.train import step
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.state import create_state
from realm_jax.train.trouble import (
  NotFinite,
  save_bad_batch,
  trouble_is_told,
)
from realm_jax.types import TextInputs

# Trains as the fixture tiny_pretrained, through the command line's main; from
# step 4 on no file may be longer than argv[4] bytes, as on a full disk.
FULL_DISK = """
import resource, sys
import tiny
from realm_jax import cli
from realm_jax.runs.pretrain import pretrain
from realm_jax.train.checkpoint import Checkpoints

corpus, out, start, limit = sys.argv[1:]
save = Checkpoints.save

def limited(checkpoints, state, host):
  if int(state.step) > 3:
    sizes = int(limit), resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, sizes)
  save(checkpoints, state, host)

Checkpoints.save = limited
cli.run = lambda: pretrain(corpus, out, start, **tiny.PRETRAIN)
cli.main()
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(
  tmp_path, tiny_corpus, tiny_start
):
  run = tmp_path / 'run'
  paths = str(tiny_corpus), str(run), str(tiny_start)
  finished = subprocess.run(
    # metrics fit, the parameters do not
    [sys.executable, '-c', FULL_DISK, *paths, '50000'],
    env={**os.environ, 'PYTHONPATH': str(tiny.FOLDER)},
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )
  assert finished.returncode == 2, finished.stderr
  message = ' '.join(finished.stderr.split())
  assert f'quota used up: {run} could not be written to (Failed' in message
  assert 'The checkpoint of step 3 is whole' in message
  left = sorted(path.name for path in (run / 'checkpoints').iterdir())
  assert left == ['3']
  pretrain(*paths, **tiny.PRETRAIN)  # with space again
  assert Checkpoints(run / 'checkpoints').latest_step() == 11


def test_a_checkpoint_that_cannot_be_written_leaves_nothing(
  tmp_path, monkeypatch
):
  state = create_state({'embedder': jnp.zeros((2, 3))}, optax.adam(0.1))
  checkpoints = Checkpoints(tmp_path)
  checkpoints.save(state._replace(step=jnp.int32(1)), {'n': 1})

  def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  with monkeypatch.context() as patch:
    patch.setattr('shutil.disk_usage', lambda _: SimpleNamespace(free=50))
    with pytest.raises(OSError, match=r'0\.0 MB free'):
      checkpoints.save(state._replace(step=jnp.int32(2)), {'n': 2})
  with monkeypatch.context() as patch:
    # in the middle of it: the state is written, the host's values are not
    patch.setattr(
      'orbax.checkpoint.handlers.JsonCheckpointHandler.finalize', full
    )
    with pytest.raises(OSError, match='No space left'):
      checkpoints.save(state._replace(step=jnp.int32(2)), {'n': 2})
  assert [path.name for path in tmp_path.iterdir()] == ['1']
  assert Checkpoints(tmp_path).restore(state)[1] == {'n': 1}


@pytest.mark.parametrize(
  'error',
  [
    OSError(errno.ENOSPC, 'No space left on device'),
    OSError(errno.EDQUOT, 'Disk quota exceeded'),
    ValueError("RESOURCE_EXHAUSTED: d/09: No space [os_error_code='28']"),
  ],
)
def test_a_full_disk_is_known_by_its_errors(tmp_path, error):
  with (
    pytest.raises(UserError, match=r'disk is full.*begins anew\. Free'),
    trouble_is_told(tmp_path, lambda: None),
  ):
    raise error


@pytest.mark.parametrize(
  'error',
  [
    PermissionError(errno.EACCES, 'Permission denied'),
    ValueError("DATA_LOSS: read [os_error_code='5']"),
    ValueError('shapes disagree'),
  ],
)
def test_other_errors_are_left_as_they_are(tmp_path, error):
  with (
    pytest.raises(type(error)) as caught,
    trouble_is_told(tmp_path, lambda: 3),
  ):
    raise error
  assert caught.value is error


def test_a_bad_batch_is_kept_by_name(tmp_path):
  rows = np.arange(6).reshape(2, 3)
  batch = {
    'query': TextInputs(jnp.asarray(rows), rows > 2, 0 * rows),
    'bias': np.float32(0.5),
  }
  path = save_bad_batch(tmp_path, 12, batch)
  assert path == tmp_path / 'bad_batches' / 'step_000012.npz'
  with np.load(path, allow_pickle=False) as kept:
    assert sorted(kept.files) == [
      'bias',
      'query.mask',
      'query.segment_ids',
      'query.token_ids',
    ]
    np.testing.assert_array_equal(kept['query.token_ids'], rows)
    assert kept['bias'] == 0.5


def test_where_the_batch_lies_is_told(tmp_path):
  with (
    pytest.raises(FloatingPointError) as caught,
    trouble_is_told(tmp_path, lambda: 4),
  ):
    raise NotFinite('The loss of step 5 is nan.', 5, {'x': np.ones(2)})
  message = str(caught.value)
  assert not isinstance(caught.value, NotFinite)
  assert (
    f'is nan. Its batch is in {tmp_path}/bad_batches/step_000005' in message
  )
  assert 'The checkpoint of step 4 is whole' in message


@pytest.mark.slow
def test_a_run_whose_loss_is_not_finite_keeps_the_batch_of_that_step(
  tmp_path, monkeypatch, tiny_corpus, tiny_start
):
  """With the next batch made ahead, it is still that of the step."""
  batches, jit_step = [], step._jit_step

  def failing_at_5(*args):
    pretrain_step = jit_step(*args)

    def call(state, batch, rng):
      batches.append(batch)
      state, metrics = pretrain_step(state, batch, rng)
      if len(batches) == 5:
        metrics = {**metrics, 'gradient_norm': jnp.float32(np.nan)}
      return state, metrics

    return call

  monkeypatch.setattr(step, '_jit_step', failing_at_5)
  run = tmp_path / 'run'
  with pytest.raises(
    FloatingPointError, match=r'norm of step 5 is nan.*step_000005.*of step 3'
  ):
    pretrain(str(tiny_corpus), str(run), str(tiny_start), **tiny.PRETRAIN)
  with np.load(run / 'bad_batches' / 'step_000005.npz') as kept:
    np.testing.assert_array_equal(
      kept['query.token_ids'], batches[4].query.token_ids
    )
    assert kept.files[-1] == 'null_bias'
