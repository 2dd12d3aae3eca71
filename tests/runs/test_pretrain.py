"""Pre-training, above all: a run that was stopped ends as one that was not."""

import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.batches import DataConfig
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.pretrain import PretrainConfig, pretrain
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.loop import LoopConfig
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import load_run

# Trains as the fixture tiny_pretrained, through the command line's main, until
# the call number argv[6] of the function argv[5] sends this process a signal.
STOPPED = """
import importlib, os, signal, sys
import tiny
from realm_jax import cli
from realm_jax.runs.pretrain import pretrain

corpus, out, start, questions, where, call, number, moment = sys.argv[1:]
holder, name = where.rsplit('.', 1)
try:
  holder = importlib.import_module(holder)
except ImportError:
  module, kind = holder.rsplit('.', 1)
  holder = getattr(importlib.import_module(module), kind)
original, calls = getattr(holder, name), []

def stopping(*args, **kwargs):
  calls.append(name)
  here = len(calls) == int(call)
  if here and moment == 'before':
    os.kill(os.getpid(), int(number))
  result = original(*args, **kwargs)
  if here and moment == 'after':
    os.kill(os.getpid(), int(number))
  return result

setattr(holder, name, stopping)
cli.run = lambda: pretrain(
  corpus, out, start, probe_questions=questions, **tiny.PRETRAIN)
cli.main()
"""
NEXT_BATCH = 'realm_jax.train.pretrain_source.PretrainSource.begin'


@pytest.fixture
def stop(tmp_path, tiny_corpus, tiny_start, tiny_questions):
  """Runs until it is stopped: stop(where, call, signal, moment)."""

  def run(where, call, number=signal.SIGKILL, moment='before'):
    paths = tiny_corpus, tmp_path / 'run', tiny_start, tiny_questions
    return subprocess.run(
      [sys.executable, '-c', STOPPED]
      + [str(argument) for argument in (*paths, where, call, int(number))]
      + [moment],
      env={**os.environ, 'PYTHONPATH': str(tiny.FOLDER)},
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
    )

  return run


@pytest.fixture
def resume(tmp_path, tiny_corpus, tiny_start, tiny_questions):
  """Goes on, in this process, until the end."""

  def run():
    pretrain(
      str(tiny_corpus),
      str(tmp_path / 'run'),
      str(tiny_start),
      probe_questions=str(tiny_questions),
      **tiny.PRETRAIN,
    )
    return tmp_path / 'run'

  return run


def assert_same_run(actual, expected):
  """Parameters bit for bit, and every figure but the times."""
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(
      np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32)
    ),
    load_run(actual).params,
    load_run(expected).params,
  )
  figures = [
    sorted(
      (record['step'], name, value)
      for record in read_metrics(folder)
      for name, value in record.items()
      if not name.endswith(('seconds', 'per_second'))
      # what the last batch before a stop was is not kept
      and name != 'index_overlap'
    )
    for folder in (actual, expected)
  ]
  assert figures[0] == figures[1]


# 2 is before the first checkpoint, at 3; 5 after the refresh at 4.
@pytest.mark.slow
@pytest.mark.parametrize('step', [2, 5])
def test_a_killed_run_ends_as_one_never_killed(
  stop, resume, tiny_pretrained, step
):
  killed = stop(NEXT_BATCH, step + 1)
  assert killed.returncode == -signal.SIGKILL, killed.stderr
  assert_same_run(resume(), tiny_pretrained)


@pytest.mark.long
def test_a_run_killed_at_its_worst_moments_ends_as_one_never_killed(
  stop, resume, tiny_pretrained
):
  """Killed seven times, each time from where the last one left it."""
  for where, call, moment in (
    # the first snapshot lies there without a manifest
    ('realm_jax.index.snapshot.write_manifest', 1, 'before'),
    # in the middle of the first checkpoint, of step 3
    ('orbax.checkpoint.handlers.JsonCheckpointHandler.finalize', 1, 'before'),
    # refreshed at 4, not saved since
    ('realm_jax.refresh.snapshots.save_snapshot', 2, 'after'),
    # saved at 6, but old snapshots not deleted
    ('realm_jax.train.checkpoint.Checkpoints.save', 1, 'after'),
    # one of the old snapshots deleted
    ('shutil.rmtree', 1, 'after'),
    # trained, but parameters not written
    ('realm_jax.train.run_folder.save_params', 1, 'before'),
    ('realm_jax.train.run_folder.write_manifest', 1, 'before'),
  ):
    killed = stop(where, call, moment=moment)
    assert killed.returncode == -signal.SIGKILL, (where, killed.stderr)
  assert_same_run(resume(), tiny_pretrained)


@pytest.mark.slow
def test_a_run_asked_to_stop_saves_and_says_so(
  stop, resume, tmp_path, tiny_pretrained
):
  stopped = stop(NEXT_BATCH, 5, signal.SIGTERM)
  assert stopped.returncode == 130, stopped.stderr
  assert 'Stopped after 5 steps; run again to go on.' in stopped.stderr
  assert 'Traceback' not in stopped.stderr
  assert Checkpoints(tmp_path / 'run' / 'checkpoints').latest_step() == 5
  assert_same_run(resume(), tiny_pretrained)


def test_a_finished_run_is_left_as_it_is(tiny_pretrained, resume, tmp_path):
  (tmp_path / 'run').symlink_to(tiny_pretrained)
  before = {
    path: path.stat().st_mtime_ns for path in tiny_pretrained.rglob('*')
  }
  resume()
  assert before == {
    path: path.stat().st_mtime_ns for path in tiny_pretrained.rglob('*')
  }


def test_other_settings_are_refused(
  tiny_pretrained, tiny_corpus, tiny_start, tiny_questions
):
  settings = {
    **tiny.PRETRAIN,
    'loop': dataclasses.replace(tiny.PRETRAIN['loop'], num_steps=12),
  }
  with pytest.raises(UserError, match=r'num_steps: 11 there, 12 now'):
    pretrain(
      str(tiny_corpus),
      str(tiny_pretrained),
      str(tiny_start),
      probe_questions=str(tiny_questions),
      **settings,
    )


def test_the_index_is_refreshed_when_due(tiny_pretrained):
  records = read_metrics(tiny_pretrained)
  ages = {r['step']: r['index_age'] for r in records if 'index_age' in r}
  # step n is counted after its update, the age before it
  assert ages == {n: (n - 1) % 4 for n in range(1, 12)}
  refreshed = {r['step'] for r in records if 'refresh_age' in r}
  assert refreshed == {4, 8, 11}
  probed = {r['step'] for r in records if 'probe_recall@5' in r}
  assert probed == {0, 6, 11}
  assert all(
    r['held_out_loss'] > 0
    for r in records
    if r['step'] in probed and 'held_out_loss' in r
  )
  kept = sorted(p.name for p in (tiny_pretrained / 'snapshots').iterdir())
  assert kept == ['00000008', '00000011']


@pytest.mark.slow
def test_without_refreshing_the_first_index_stays(
  tmp_path, tiny_corpus, tiny_start
):
  settings = {
    **tiny.PRETRAIN,
    'config': dataclasses.replace(
      tiny.PRETRAIN['config'], refresh='off', train_retriever=False
    ),
    'loop': dataclasses.replace(tiny.PRETRAIN['loop'], num_steps=3),
  }
  pretrain(str(tiny_corpus), str(tmp_path / 'run'), str(tiny_start), **settings)
  records = read_metrics(tmp_path / 'run')
  assert [r['index_age'] for r in records if 'index_age' in r] == [0, 1, 2]
  before, after = load_run(tiny_start).params, load_run(tmp_path / 'run').params
  same = jax.tree.map(lambda a, b: bool((a == b).all()), before, after)
  assert all(jax.tree.leaves(same['embedder']))
  assert not all(jax.tree.leaves(same['reader']))


def test_more_candidates_than_blocks_are_refused(
  tmp_path, tiny_corpus, tiny_start
):
  with pytest.raises(UserError, match=r'is 43, but corpus .* 42 blocks'):
    pretrain(
      str(tiny_corpus),
      str(tmp_path / 'run'),
      str(tiny_start),
      config=PretrainConfig(num_candidates=43),
    )
  assert not (tmp_path / 'run').exists()


def test_only_salient_spans_are_known_to_be_restated():
  with pytest.raises(UserError, match='restated_only is True'):
    PretrainConfig(masking='random_span', restated_only=True)


def test_a_corpus_with_another_vocabulary_is_refused(tmp_path, tiny_start):
  other = tiny.make_corpus(tmp_path, tiny.documents()[:20])
  with pytest.raises(UserError, match='another vocabulary'):
    pretrain(str(other), str(tmp_path / 'run'), str(tiny_start))


@pytest.mark.slow
def test_the_arithmetic_may_change_between_stages(
  tiny_corpus, tiny_start, tmp_path
):
  run = tmp_path / 'run'
  pretrain(
    str(tiny_corpus),
    str(run),
    str(tiny_start),
    model=RealmConfig(EncoderConfig(dtype='bfloat16')),
    config=PretrainConfig(batch_size=4, num_candidates=2, refresh='off'),
    lengths=tiny.LENGTHS,
    loop=LoopConfig(num_steps=1),
  )
  loaded = load_run(run)
  assert loaded.model.encoder.dtype == 'bfloat16'
  assert loaded.model.encoder.hidden_size == tiny.ENCODER.hidden_size
  assert jax.tree.leaves(loaded.params)[0].dtype == np.float32


def test_what_a_run_was_told_is_written_down(tiny_pretrained):
  config = json.loads((tiny_pretrained / 'config.json').read_text())
  assert config['stage'] == 'pretrain'
  assert config['settings']['config']['num_candidates'] == 3
  assert config['settings']['loop']['seed'] == 7


def test_a_run_of_no_steps_keeps_what_it_starts_from(
  tiny_corpus, tiny_start, tmp_path
):
  settings = {
    **tiny.PRETRAIN,
    'loop': dataclasses.replace(tiny.PRETRAIN['loop'], num_steps=0),
  }
  for _ in range(2):  # the second time it is there
    out = pretrain(
      str(tiny_corpus), str(tmp_path / 'run'), str(tiny_start), **settings
    )
  run, start = load_run(out), load_run(tiny_start)
  jax.tree.map(np.testing.assert_array_equal, run.params, start.params)
  assert (run.stage, run.num_steps) == ('pretrain', 0)


@pytest.mark.slow
def test_workers_that_make_the_examples_change_nothing(
  tmp_path, tiny_corpus, tiny_start, tiny_questions, tiny_pretrained
):
  pretrain(
    str(tiny_corpus),
    str(tmp_path / 'run'),
    str(tiny_start),
    probe_questions=str(tiny_questions),
    data=DataConfig(num_workers=2),
    **tiny.PRETRAIN,
  )
  jax.tree.map(
    np.testing.assert_array_equal,
    load_run(tmp_path / 'run').params,
    load_run(tiny_pretrained).params,
  )
  assert not multiprocessing.active_children()
