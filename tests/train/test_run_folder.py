import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
import tiny

from realm_jax.almanac import write_almanac
from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.train.loop import LoopConfig
from realm_jax.train.run_folder import RunFolder, load_run, prune_snapshots


@pytest.fixture
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


def make(folder, corpus, **settings):
  model = tiny.with_vocab_of(corpus)
  return RunFolder(folder, 'ict', model, corpus, settings)


def test_a_new_run_writes_down_what_it_was_told(tmp_path, corpus):
  run = make(tmp_path / 'run', corpus, loop=LoopConfig(num_steps=5))
  config = json.loads((run.path / 'config.json').read_text())
  assert config['stage'] == 'ict'
  assert config['settings']['loop']['num_steps'] == 5
  assert config['corpus']['fingerprint'] == corpus.fingerprint
  assert config['model']['encoder']['vocab_size'] == corpus.wordpiece.size
  assert not run.finished
  with pytest.raises(FileNotFoundError, match='was never finished'):
    load_run(run.path)


def test_a_finished_run_is_loaded(tiny_start, tiny_corpus, corpus):
  loaded = load_run(tiny_start)
  assert loaded.stage == 'ict'
  assert loaded.model == tiny.with_vocab_of(corpus)
  assert loaded.wordpiece.fingerprint == corpus.wordpiece.fingerprint
  assert loaded.corpus_folder == str(tiny_corpus)
  assert loaded.settings['lengths']['query_len'] == tiny.LENGTHS.query_len
  assert loaded.num_steps == 0
  leaves = jax.tree.leaves(loaded.params)
  assert sum(np.abs(leaf).sum() for leaf in leaves) > 0
  loaded.check_vocabulary(corpus)


def test_a_run_goes_on_with_other_arithmetic_and_its_own_sizes(tiny_start):
  loaded = load_run(tiny_start)
  encoder = EncoderConfig(
    dtype='bfloat16', dropout_rate=0.25, scan_layers=True, remat='full'
  )
  other = loaded.computed_as(RealmConfig(encoder))
  assert other.model == dataclasses.replace(
    loaded.model,
    encoder=dataclasses.replace(
      loaded.model.encoder,
      dtype='bfloat16',
      dropout_rate=0.25,
      attention_dropout_rate=encoder.attention_dropout_rate,
      scan_layers=True,
      remat='full',
    ),
  )
  assert other.params is loaded.params
  assert loaded.computed_as(None) is loaded


def test_the_same_settings_go_on(tmp_path, corpus):
  make(tmp_path, corpus, slowed=(('embedder', 0.1),))
  assert not make(tmp_path, corpus, slowed=(('embedder', 0.1),)).finished


def test_other_settings_are_refused_by_name(tmp_path, corpus):
  make(tmp_path, corpus, loop=LoopConfig(num_steps=5), init='a')
  with pytest.raises(UserError) as caught:
    make(tmp_path, corpus, loop=LoopConfig(num_steps=6), init='a')
  message = str(caught.value)
  assert 'settings.loop.num_steps: 5 there, 6 now' in message
  assert 'Choose another --out' in message
  assert 'init' not in message


def test_a_moved_corpus_is_the_same(tmp_path, tiny_corpus):
  shutil.copytree(tiny_corpus, tmp_path / 'moved')
  make(tmp_path / 'run', Corpus.open(tiny_corpus))
  make(tmp_path / 'run', Corpus.open(tmp_path / 'moved'))


def test_another_corpus_is_refused(tmp_path, corpus):
  other = tiny.make_corpus(tmp_path / 'other', tiny.documents()[:9])
  make(tmp_path / 'run', corpus)
  with pytest.raises(UserError, match=r'corpus\.fingerprint: '):
    RunFolder(
      tmp_path / 'run',
      'ict',
      tiny.with_vocab_of(corpus),
      Corpus.open(other),
      {},
    )


def test_a_vocabulary_that_is_not_the_runs_is_named(tmp_path, tiny_start):
  other = Corpus.open(tiny.make_corpus(tmp_path, tiny.documents()[:9]))
  with pytest.raises(UserError, match=r'--vocab .*vocab\.txt'):
    load_run(tiny_start).check_vocabulary(other)


def test_a_folder_of_another_kind_is_refused(tiny_corpus):
  with pytest.raises(UserError, match='is a corpus folder, expected a run'):
    load_run(tiny_corpus)


def test_a_file_in_the_place_of_a_run_is_refused(tmp_path, corpus):
  (tmp_path / 'run').write_text('')
  with pytest.raises(UserError, match='is a file or lies in one'):
    make(tmp_path / 'run', corpus)


@pytest.mark.parametrize('name', ['vocab.txt', 'config.json'])
def test_a_damaged_run_is_refused(tmp_path, tiny_start, name):
  shutil.copytree(tiny_start, tmp_path / 'run')
  path = tmp_path / 'run' / name
  content = path.read_bytes()
  path.write_bytes(content[:-2] + b'x\n')
  with pytest.raises(UserError, match=f'{name} has checksum'):
    load_run(tmp_path / 'run')


def test_a_run_without_its_parameters_is_refused(tmp_path, tiny_start):
  shutil.copytree(tiny_start, tmp_path / 'run')
  shutil.rmtree(tmp_path / 'run' / 'params')
  with pytest.raises(UserError, match=r'params/\S+ is missing'):
    load_run(tmp_path / 'run')


def test_old_snapshots_are_deleted(tmp_path, corpus):
  run = make(tmp_path, corpus)
  for step in (0, 40, 100):
    run.snapshot(step).mkdir(parents=True)
    (run.snapshot(step) / 'file').touch()
  prune_snapshots(run.path, 40)
  names = sorted(path.name for path in (tmp_path / 'snapshots').iterdir())
  assert names == ['00000040', '00000100']


def test_another_kind_of_folder_is_left_alone(tmp_path, tiny_corpus, corpus):
  folder = tmp_path / 'other'
  shutil.copytree(tiny_corpus, folder)
  before = {path: path.read_bytes() for path in folder.iterdir()}
  with pytest.raises(UserError, match='other is a corpus folder'):
    make(folder, corpus)
  with pytest.raises(UserError, match='other is a corpus folder'):
    write_almanac(folder, num_documents=120)
  assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_folder_with_other_files_is_left_alone(tmp_path, corpus):
  (tmp_path / 'thesis.tex').write_text('All of it.')
  with pytest.raises(UserError, match=r'holds thesis\.tex, but no run'):
    make(tmp_path, corpus)
  assert [path.name for path in tmp_path.iterdir()] == ['thesis.tex']


def test_moved_files_are_the_same_and_changed_ones_are_not(tmp_path, corpus):
  make(tmp_path, corpus, questions={'file': 'a.jsonl', 'sha256': 'abc'})
  make(tmp_path, corpus, questions={'file': 'b.jsonl', 'sha256': 'abc'})
  with pytest.raises(UserError, match=r"questions\.sha256: 'abc' there"):
    make(tmp_path, corpus, questions={'file': 'b.jsonl', 'sha256': 'abd'})


@pytest.mark.slow
def test_a_run_is_known_by_what_it_holds(tmp_path, tiny_start, corpus):
  moved = tmp_path / 'moved'
  shutil.copytree(tiny_start, moved)
  start = load_run(tiny_start)
  assert load_run(moved).fingerprint == start.fingerprint
  assert start.identity['fingerprint'] == start.fingerprint
  other = tiny.make_untrained_run(
    tmp_path / 'other',
    corpus.folder,
    dataclasses.replace(tiny.MODEL, embed_dim=7),
  )
  assert load_run(other).fingerprint != start.fingerprint
