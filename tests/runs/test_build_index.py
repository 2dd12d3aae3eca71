"""build-index, with a finished run and along with one that trains."""

import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import tiny
from rich.console import Console

from realm_jax import cli
from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.index.snapshot import load_snapshot
from realm_jax.models.realm import init_params
from realm_jax.refresh.follow import only_builder
from realm_jax.refresh.publishing import publish
from realm_jax.runs import embedding_report
from realm_jax.runs.build_index import build_index
from realm_jax.runs.embedding_report import stoppable
from realm_jax.train.run_folder import RunFolder, snapshot_folder

SEPARATE = 'separate_process(every=4, at_most_late=4)'


def make_run(folder, corpus, refresh=SEPARATE, stage='pretrain'):
  opened = Corpus.open(corpus)
  settings = {'lengths': tiny.LENGTHS, 'config': {'refresh': refresh}}
  return RunFolder(folder, stage, tiny.with_vocab_of(opened), opened, settings)


def params_of(run, seed):
  return init_params(run.model, jax.random.key(seed))


@pytest.mark.slow
def test_a_run_is_followed_to_what_build_index_makes(tmp_path, tiny_corpus):
  run = make_run(tmp_path / 'run', tiny_corpus)
  params = params_of(run, 5)
  publish(run.path, 4, params_of(run, 6))
  publish(run.path, 8, params)
  run.finish(params, num_steps=8)
  console = Console(record=True, width=200)
  build_index(follow=str(run.path), console=console)
  text = console.export_text()
  assert 'Step 4 is passed over for step 8.' in text
  assert 'blocks/s' in text and 'The run has finished' in text
  folder = snapshot_folder(run.path, 8)
  made = load_snapshot(folder, Corpus.open(tiny_corpus).fingerprint)
  assert (made.index_step, is_whole(snapshot_folder(run.path, 4))) == (8, False)
  assert made.block_digests is not None
  # What is made of the run's own parameters; the snapshot is reused for it.
  expected = build_index(str(run.path), console=console)
  assert expected.params_fingerprint == made.params_fingerprint
  np.testing.assert_array_equal(expected.block_embeds, made.block_embeds)
  assert 'Embedded 0, reused 42.' in console.export_text()


@pytest.mark.parametrize(
  ('refresh', 'stage', 'message'),
  [
    ('synchronous(every=4)', 'pretrain', "has refresh 'synchronous"),
    (SEPARATE, 'ict', 'is one of ict, expected one of pretrain'),
  ],
)
def test_a_run_that_publishes_nothing_is_said(
  tmp_path, tiny_corpus, refresh, stage, message
):
  make_run(tmp_path / 'run', tiny_corpus, refresh, stage)
  with pytest.raises(UserError, match=message):
    build_index(follow=str(tmp_path / 'run'), console=tiny.quiet())


def test_another_corpus_and_a_second_builder_are_refused(tmp_path, tiny_corpus):
  run = make_run(tmp_path / 'run', tiny_corpus)
  other = tiny.make_corpus(tmp_path / 'other', tiny.documents()[:20])
  console = tiny.quiet()
  with pytest.raises(UserError, match='its blocks or its vocabulary differ'):
    build_index(follow=str(run.path), corpus=str(other), console=console)
  with (
    only_builder(run.path),
    pytest.raises(UserError, match='follows run'),
  ):
    build_index(follow=str(run.path), console=console)


def test_one_of_several_processes_does_not_follow(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(UserError, match='process 0 of 2, expected a single one'):
    build_index(follow=str(tmp_path), console=tiny.quiet())


def test_one_run_is_named():
  for folders in ({}, {'run': 'a', 'follow': 'b'}):
    with pytest.raises(UserError, match='expected one of them'):
      build_index(**folders, console=tiny.quiet())


def test_the_rate_is_set_beside_the_machines(
  monkeypatch, tmp_path, tiny_corpus
):
  run = tiny.make_untrained_run(tmp_path / 'run', tiny_corpus)
  monkeypatch.setattr(embedding_report, '_SECONDS_TO_RATE', 0.0)
  monkeypatch.setattr(embedding_report, '_product_rate', lambda *args: 1e3)
  console = Console(record=True, width=200)
  build_index(str(run), console=console)
  text = console.export_text()
  assert 'Embedded 42, reused 0.' in text
  assert 'tokens/s' in text and '% padding' in text
  assert '% of the rate of matrix products here' in text


def test_a_stop_says_how_to_go_on():
  with (
    pytest.raises(KeyboardInterrupt, match='same command goes on'),
    stoppable(),
  ):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(10)
  with (
    pytest.raises(UserError, match=r'No space left.*same command goes on'),
    stoppable(),
  ):
    raise OSError(28, 'No space left on device')


# As the command is, but every block is a part.
BUILDER = """
import sys
from realm_jax import cli
from realm_jax.refresh import length_batches, parts
length_batches._TOKENS['cpu'] = 1
parts._SECONDS, parts._SHARE = -1.0, 0.0
cli.run(['build-index', '--follow', sys.argv[1]])
"""


def start_builder(run):
  return subprocess.Popen([sys.executable, '-c', BUILDER, str(run)])


@pytest.mark.slow
def test_a_killed_builder_goes_on_to_the_same_bits(tmp_path, tiny_corpus):
  killed, whole = (
    make_run(tmp_path / name, tiny_corpus) for name in ('killed', 'whole')
  )
  for run in (killed, whole):
    publish(run.path, 4, params_of(run, 6))
  folder = snapshot_folder(killed.path, 4)
  builder = start_builder(killed.path)
  while len(list(folder.glob('parts/*.npy'))) < 5:
    assert builder.poll() is None
    time.sleep(0.01)
  builder.kill()
  builder.wait()
  assert not is_whole(folder)
  for run in (killed, whole):
    run.finish(params_of(run, 5), num_steps=8)
    assert start_builder(run.path).wait(timeout=120) == 0
  first, second = (
    load_snapshot(snapshot_folder(run.path, 4), None) for run in (killed, whole)
  )
  np.testing.assert_array_equal(first.block_embeds, second.block_embeds)
  assert not (folder / 'parts').exists()


def test_the_command_line_asks_for_neither(capsys):
  with pytest.raises(UserError, match='--follow'):
    cli.run(['build-index'])
