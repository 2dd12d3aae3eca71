"""The newest that is published is embedded, once, by one builder."""

import os
import shutil

import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.folders import is_whole, write_json, write_manifest
from realm_jax.refresh.follow import (
  builder_pid,
  follow,
  only_builder,
  wait_for_config,
)
from realm_jax.refresh.publishing import publish
from realm_jax.train.run_folder import snapshot_folder


def params(value):
  return {'embedder': {'kernel': np.full((2, 3), value, np.float32)}}


class Trainer:
  """Stands in for a run: does the next thing whenever the builder sleeps."""

  def __init__(self, run, *actions):
    self.run, self.actions, self.told, self.built = run, [*actions], [], []

  def sleep(self, seconds):
    self.actions.pop(0)()

  def publish(self, step, value=0):
    return lambda: publish(self.run, step, params(value))

  def finish(self):
    write_manifest(self.run, 'run', [])

  def build(self, entry, folder):
    self.built.append(entry.step)
    folder.mkdir(parents=True)
    write_manifest(
      folder, 'snapshot', [], params_fingerprint=entry.params_fingerprint
    )
    return 'Quickly.'

  def followed(self, build=None):
    follow(self.run, build or self.build, self.told.append, self.sleep)
    assert not self.actions
    return self.built


def test_the_newest_is_embedded_until_the_run_has_finished(tmp_path):
  trainer = Trainer(tmp_path)

  def two_at_once():
    trainer.publish(8)()
    trainer.publish(12)()

  def last_and_finish():
    trainer.publish(16)()
    trainer.finish()

  trainer.actions = [trainer.publish(4), two_at_once, last_and_finish]
  assert trainer.followed() == [4, 12, 16]
  text = '\n'.join(trainer.told)
  assert 'Step 8 is passed over for step 12.' in text
  assert 'Step 12, published 0:00:0' in text and 'Quickly.' in text
  assert trainer.told[0] == 'Waiting for parameters of the run.'
  assert 'Waiting for parameters after step 4.' in trainer.told
  assert trainer.told[-1].startswith('The run has finished')


def test_what_is_there_is_not_embedded_again(tmp_path):
  first = Trainer(tmp_path)
  first.actions = [first.publish(4), first.finish]
  assert first.followed() == [4]
  assert Trainer(tmp_path).followed() == []


def test_a_snapshot_of_other_parameters_is_replaced(tmp_path):
  trainer = Trainer(tmp_path)
  trainer.actions = [trainer.publish(4), trainer.publish(4, 1), trainer.finish]
  assert trainer.followed() == [4, 4]
  other = publish(tmp_path, 4, params(1))
  manifest = (snapshot_folder(tmp_path, 4) / 'manifest.json').read_text()
  assert other in manifest


def test_damaged_and_deleted_parameters_stop_nothing(tmp_path):
  trainer = Trainer(tmp_path)
  trainer.actions = [trainer.publish(n) for n in (4, 8, 12)]
  trainer.actions.append(trainer.finish)

  def build(entry, folder):
    if entry.step == 4:
      raise UserError('it is damaged')
    if entry.step == 8:
      shutil.rmtree(entry.folder)
      raise ValueError('gone while it was read')
    return trainer.build(entry, folder)

  assert trainer.followed(build) == [12]
  assert 'Step 4 is left out: it is damaged' in trainer.told
  assert 'Step 8 was deleted by the run meanwhile.' in trainer.told


def test_other_errors_are_not_swallowed(tmp_path):
  trainer = Trainer(tmp_path)
  trainer.publish(4)()

  def build(entry, folder):
    raise OSError('disk full')

  with pytest.raises(OSError, match='disk full'):
    trainer.followed(build)


def test_a_second_builder_is_refused(tmp_path):
  assert builder_pid(tmp_path) is None
  with only_builder(tmp_path):
    assert builder_pid(tmp_path) == os.getpid()
    with (
      pytest.raises(UserError, match=f'Process {os.getpid()} follows'),
      only_builder(tmp_path),
    ):
      pass
    assert builder_pid(tmp_path) == os.getpid()
  assert builder_pid(tmp_path) is None


@pytest.mark.slow
def test_a_dead_builder_is_in_nobodys_way(tmp_path, run_python):
  said = run_python(
    'import os, pathlib, sys\n'
    'from realm_jax.refresh.follow import builder_pid, only_builder\n'
    'run = pathlib.Path(sys.argv[1])\n'
    'with only_builder(run):\n'
    '  print(builder_pid(run) == os.getpid(), flush=True)\n'
    '  os._exit(0)\n',
    str(tmp_path),
  )
  assert said.strip() == 'True'
  assert (tmp_path / 'builder.lock').is_file()
  assert builder_pid(tmp_path) is None
  with only_builder(tmp_path):
    pass


def test_the_trainer_is_waited_for(tmp_path):
  run, told = tmp_path / 'run', []
  naps = []

  def sleep(seconds):
    naps.append(seconds)
    if len(naps) == 2:
      run.mkdir()
      (run / 'vocab.txt').touch()
    if len(naps) == 3:
      write_json(run / 'config.json', {'stage': 'pretrain'})

  assert wait_for_config(run, told.append, sleep) == {'stage': 'pretrain'}
  assert len(naps) == 3
  assert told == [
    f'Waiting for the trainer: there is no {run / "config.json"} yet.'
  ]


@pytest.mark.parametrize('what', ['file', 'corpus', 'foreign'])
def test_what_is_no_run_is_not_waited_for(tmp_path, what):
  path = tmp_path / 'run'
  if what == 'file':
    path.touch()
  else:
    path.mkdir()
    if what == 'corpus':
      write_manifest(path, 'corpus', [])
    else:
      (path / 'holiday.jpg').touch()
  expected = {
    'file': 'is a file, expected the folder of a run',
    'corpus': 'is a corpus folder',
    'foreign': 'holds holiday.jpg, but no config.json',
  }[what]
  with pytest.raises(UserError, match=expected):
    wait_for_config(path, print, lambda seconds: None)
  assert not is_whole(path) or what == 'corpus'
