import itertools
import os
import subprocess
import sys
from collections import Counter

import pytest
from seqio_cases import (
  HELD_OUT,
  LENGTHS,
  QUESTIONS,
  SEED,
  empty_registries,
  frozen,
  make_corpus,
  read,
  read_shards,
  register,
  write_lines,
)

from realm_jax.data.seqio_converters import pretrain_converter
from realm_jax.data.seqio_tasks import MASKED_TASKS

seqio = pytest.importorskip('seqio', exc_type=ImportError)

# What a user writes to name to the tool.
MODULE = """
from realm_jax.data.examples import Lengths
from realm_jax.data.seqio_tasks import register_tasks

register_tasks(
  {corpus!r}, {lengths!r}, {seed}, questions={questions!r}, num_held_out={held}
)
"""


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('seqio')


@pytest.fixture(scope='module')
def corpus(folder):
  return make_corpus(folder)


@pytest.fixture(scope='module')
def questions(folder):
  path = write_lines(folder / 'questions.jsonl', QUESTIONS)
  return {'': {'train': str(path), 'test': str(path)}}


@pytest.fixture(scope='module')
def cache(folder, corpus, questions):
  """What `seqio_cache_tasks` makes of all tasks but realm_ict."""
  pytest.importorskip('apache_beam')
  pytest.importorskip('google_crc32c')
  module = MODULE.format(
    corpus=str(corpus.folder),
    lengths=LENGTHS,
    seed=SEED,
    questions=questions,
    held=HELD_OUT,
  )
  (folder / 'my_tasks.py').write_text(module)
  finished = subprocess.run(
    [
      *(sys.executable, '-m', 'seqio.scripts.cache_tasks_main'),
      '--module_import=my_tasks',
      '--excluded_tasks=realm_ict',
      f'--output_cache_dir={folder / "cache"}',
      '--min_shards=5',
    ],
    env={**os.environ, 'PYTHONPATH': os.pathsep.join([str(folder), *sys.path])},
    capture_output=True,
    text=True,
  )
  assert finished.returncode == 0, finished.stderr[-3000:]
  return folder / 'cache'


@pytest.fixture(autouse=True)
def registries(monkeypatch):
  empty_registries(monkeypatch)
  monkeypatch.setattr(seqio.utils, '_GLOBAL_CACHE_DIRECTORIES', [])


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'split'),
  [
    *itertools.product(MASKED_TASKS, ['train', 'validation']),
    *itertools.product(['openqa'], ['train', 'test']),
  ],
)
def test_cached_examples_are_those_of_the_first_epoch(
  cache, corpus, questions, name, split
):
  register(corpus, questions=questions)
  seqio.add_global_cache_dirs([str(cache)])
  expected = Counter(map(frozen, read(name, split)))
  assert len(expected) >= 2
  assert Counter(map(frozen, read(name, split, use_cached=True))) == expected
  task = seqio.get_mixture_or_task(name)
  assert (
    task.get_dataset(None, split, use_cached=True).element_spec
    == task.get_dataset(None, split).element_spec
  )


@pytest.mark.slow
def test_hosts_share_cached_examples_and_every_epoch_has_the_same(
  cache, corpus, questions
):
  register(corpus, questions=questions)
  seqio.add_global_cache_dirs([str(cache)])
  converter = pretrain_converter(corpus.wordpiece, LENGTHS)

  def convert(name='realm_ssm', **settings):
    dataset = seqio.get_dataset(
      name,
      converter.task_feature_lengths,
      converter,
      shuffle=True,
      seed=2,
      **settings,
    )
    return [frozen(example) for example in dataset.as_numpy_iterator()]

  first = Counter(convert())
  for num_shards in (1, 4):
    of_shards = read_shards(
      num_shards,
      lambda **shard: convert(use_cached=True, num_epochs=2, **shard),
    )
    assert all(of_shards)
    assert Counter(itertools.chain(*of_shards)) == first + first
  assert convert(use_cached=True) == convert(use_cached=True)
  # Made anew, the second epoch has blanks of its own.
  assert Counter(convert(num_epochs=2)) != first + first
  of_tasks = set().union(*(convert(name) for name in MASKED_TASKS))
  mixed = convert('realm_masked', use_cached=True)
  assert len(mixed) > 20
  assert set(mixed) <= of_tasks


def test_what_is_not_cached_is_said(corpus, tmp_path):
  register(corpus)
  seqio.add_global_cache_dirs([str(tmp_path)])
  with pytest.raises(AssertionError, match="'realm_ssm' does not exist in any"):
    read('realm_ssm', use_cached=True)


def test_a_variant_of_a_task_has_new_blanks_in_every_epoch(corpus):
  register(corpus)
  task = seqio.get_mixture_or_task('realm_ssm')
  variant = task.replace(name='variant')
  assert not variant.supports_caching
  seqio.TaskRegistry.add_provider('variant', variant)
  assert [frozen(e) for e in read('variant', num_epochs=2)] == [
    frozen(e) for e in read('realm_ssm', num_epochs=2)
  ]
