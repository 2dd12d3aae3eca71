"""Whole stages on two processes of four devices, against one device."""

import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tiny

from realm_jax import hosts
from realm_jax.index.snapshot import load_snapshot
from realm_jax.runs.build_index import build_index
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig, ict
from realm_jax.runs.pretrain import pretrain
from realm_jax.sharding import MeshConfig
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.pretrain_source import PretrainSource
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import load_run

# Each process has two of the four parts of a batch.
MESH = MeshConfig(4, 2, 'tensor')
# Runs a function of this file in one of two processes.
PROCESS = """
import sys
address, number, folder, function, *arguments = sys.argv[1:]
from realm_jax import cli, hosts
def run():
  hosts.start(address, 2, int(number))
  sys.path.append(folder)
  import test_on_hosts
  getattr(test_on_hosts, function)(*arguments)
cli.run = run
cli.main()
"""


@pytest.fixture
def on_hosts(run_on_hosts):
  """on_hosts(function, *arguments): what became of the two processes."""

  def run(function, *arguments):
    return run_on_hosts(
      PROCESS, Path(__file__).parent, function.__name__, *arguments
    )

  return run


def run_pretrain(out, corpus, start, questions, mesh=MESH):
  pretrain(
    str(corpus),
    str(out),
    str(start),
    probe_questions=str(questions),
    mesh=mesh,
    **tiny.PRETRAIN,
  )


def pretrain_until_asked_to_stop(*paths):
  """As run_pretrain; process 1 is sent SIGTERM before step 5."""
  begin = PretrainSource.begin

  def slowly(source, step, params):
    if step == 5 and not hosts.is_first():
      os.kill(os.getpid(), signal.SIGTERM)
    if step >= 5:
      time.sleep(1)  # it takes a second until the others hear of it
    return begin(source, step, params)

  PretrainSource.begin = slowly
  run_pretrain(*paths)


def run_stages(folder, corpus, start, questions, mesh=MESH):
  """All other stages, a few steps each, in folders below one."""
  common = {
    'lengths': tiny.LENGTHS,
    'optimizer': OptimizerConfig(learning_rate=1e-3),
    'loop': LoopConfig(num_steps=3, log_every=1, checkpoint_every=2),
    'mesh': mesh,
  }
  out = Path(folder)
  ict(
    str(corpus),
    str(out / 'ict'),
    model=tiny.MODEL,
    config=IctConfig(batch_size=8, reader_batch_size=4, num_held_out=6),
    **common,
  )
  rolling = dataclasses.replace(
    tiny.PRETRAIN['config'],
    refresh='rolling(pass_every=2)',
    level_null=True,
    probe_every=2,
  )
  ahead = dataclasses.replace(common['loop'], retrieve_ahead=1)
  pretrain(
    str(corpus),
    str(out / 'rolling'),
    str(start),
    config=rolling,
    **{**common, 'loop': ahead},
  )
  for reader in ('span', 'closed_book'):
    finetune(
      str(corpus),
      str(out / reader),
      str(start),
      str(questions),
      config=FinetuneConfig(
        batch_size=4, beam_size=9, num_read=2, reader=reader
      ),
      **common,
    )
  build_index(str(out / 'span'), mesh=mesh)


def assert_same_run(actual, expected):
  """The same figures at the same steps, but for rounding."""
  records = [read_metrics(folder) for folder in (actual, expected)]
  assert [r['step'] for r in records[0]] == [r['step'] for r in records[1]]
  for one, other in zip(*records, strict=True):
    # What the last batch before a stop was is not kept; and a snapshot that was
    # made before it is not made again.
    different = one.keys() ^ other.keys()
    assert different <= {'index_overlap', 'blocks_per_second'}
    for name in {'loss', 'held_out_loss', 'gradient_norm'} & one.keys():
      assert one[name] == pytest.approx(other[name], rel=1e-4), (one, other)
    for name in {'index_age', 'probe_recall@5'} & one.keys():
      assert one[name] == other[name]


@pytest.mark.long
def test_a_run_of_two_asked_to_stop_in_one_is_gone_on_with_by_one(
  tmp_path, on_hosts, tiny_corpus, tiny_start, tiny_questions, tiny_pretrained
):
  run = tmp_path / 'run'
  paths = run, tiny_corpus, tiny_start, tiny_questions
  first, second = on_hosts(pretrain_until_asked_to_stop, *paths)
  assert (first.returncode, second.returncode) == (130, 130), (
    first.stdout + second.stdout
  )
  told = r'process {} of 2: Stopped after (\d+) steps; run again to go on.'
  step = int(re.search(told.format(0), first.stdout)[1])
  assert step == int(re.search(told.format(1), second.stdout)[1])
  assert 5 < step < 11
  assert Checkpoints(run / 'checkpoints').latest_step() == step
  assert 'loss' in first.stdout
  assert 'loss' not in second.stdout
  run_pretrain(*paths, mesh=None)
  assert_same_run(run, tiny_pretrained)


class Killed(BaseException):
  pass


@pytest.mark.long
def test_a_run_of_one_killed_is_gone_on_with_by_two(
  tmp_path,
  monkeypatch,
  on_hosts,
  tiny_corpus,
  tiny_start,
  tiny_questions,
  tiny_pretrained,
):
  paths = tmp_path / 'run', tiny_corpus, tiny_start, tiny_questions
  begin = PretrainSource.begin

  def killed_at_5(source, step, params):
    if step == 5:
      raise Killed
    return begin(source, step, params)

  with monkeypatch.context() as patch, pytest.raises(Killed):
    patch.setattr(PretrainSource, 'begin', killed_at_5)
    run_pretrain(*paths, mesh=None)
  for process in on_hosts(run_pretrain, *paths):
    assert process.returncode == 0, process.stdout
  assert_same_run(tmp_path / 'run', tiny_pretrained)
  steps = [
    load_snapshot(run / 'snapshots' / '00000008', None).block_embeds
    for run in (tmp_path / 'run', tiny_pretrained)
  ]
  np.testing.assert_allclose(*steps, atol=1e-4)
  assert load_run(tmp_path / 'run').num_steps == 11


@pytest.mark.long
def test_the_other_stages_run_on_two_processes(
  tmp_path, on_hosts, tiny_corpus, tiny_start, tiny_questions
):
  paths = tiny_corpus, tiny_start, tiny_questions
  for process in on_hosts(run_stages, tmp_path / 'two', *paths):
    assert process.returncode == 0, process.stdout
  run_stages(tmp_path / 'one', *paths, mesh=None)
  for stage in ('ict', 'rolling', 'span', 'closed_book'):
    assert_same_run(tmp_path / 'two' / stage, tmp_path / 'one' / stage)
  embeds = [
    load_snapshot(next((tmp_path / name / 'span').glob('index/*')), None)
    for name in ('two', 'one')
  ]
  np.testing.assert_allclose(*(e.block_embeds for e in embeds), atol=1e-4)


def talk(run):
  """What processes tell each other, and what they refuse."""
  number = 0 if hosts.is_first() else 1
  assert hosts.by_first(lambda: [number, 'é']) == [0, 'é']
  hosts.check_same('run', {'a': {'b': 1, 'folder': number}}, ('folder',))
  for settings, message in (
    ({'a': {'b': number, 'c': 'é' * 5000}}, 'a.b: 0 in process 0, 1 in'),
    ({'a': 1} if number else {}, 'a: None in process 0, 1 in process 1'),
  ):
    with pytest.raises(hosts.UserError, match=message):
      hosts.check_same('run', settings)

  def full():
    raise OSError(f'disk full in {number}')

  error = OSError if hosts.is_first() else RuntimeError
  with pytest.raises(error, match='disk full in 0'):
    hosts.by_first(full)
  rows = np.arange(10).reshape(5, 2)
  part = hosts.part_of(rows)
  assert part[:, 0].tolist() == ([0, 2, 4] if number == 0 else [6, 8, 8])
  np.testing.assert_array_equal(hosts.join_parts(part, 5), rows)
  with pytest.raises(hosts.UserError, match='each process must have some'):
    build_index(run, mesh=MeshConfig(4))
  if number == 1:
    raise hosts.UserError('Something is wrong here alone.')
  hosts.by_first(lambda: None)


@pytest.mark.slow
def test_processes_agree_and_one_that_fails_ends_the_other(
  on_hosts, tiny_start
):
  first, second = on_hosts(talk, tiny_start)
  assert second.returncode == 2, second.stdout
  assert (
    'realm-jax: process 1 of 2: Something is wrong here alone.' in second.stdout
  )
  assert first.returncode == 1, first.stdout
  assert 'another process has failed' in first.stdout


# In one of two processes, which waits for the other for two seconds.
ALONE = """
import sys
from realm_jax import hosts
hosts.start(sys.argv[1], 2, int(sys.argv[2]), seconds=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
  ('number', 'message'),
  [
    ('0', 'Start 2 processes with this --coordinator, and with --process-id 0'),
    ('1', 'Nothing answers at {}: start process 0 there'),
  ],
)
def test_a_process_does_not_wait_for_ever(number, message):
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    address = f'127.0.0.1:{free.getsockname()[1]}'
  finished = subprocess.run(
    [sys.executable, '-c', ALONE, address, number],
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )
  assert finished.returncode == 2
  assert 'have not come within 2 seconds' in finished.stderr
  assert message.format(address) in finished.stderr
  assert 'Traceback' not in finished.stderr
