"""A run reads a seqio task's examples without seqio."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.materialised import MaterialisedExamples
from realm_jax.errors import UserError
from realm_jax.runs.materialise import materialise
from realm_jax.runs.pretrain import pretrain
from realm_jax.train.run_folder import load_run

pytestmark = pytest.mark.slow

pytest.importorskip('seqio', exc_type=ImportError)


def write(corpus, folder, task='realm_ssm', lengths=tiny.LENGTHS, **settings):
  materialise(
    str(corpus),
    task,
    str(folder),
    lengths=lengths,
    console=tiny.quiet(),
    **settings,
  )
  return str(folder)


def test_training_on_them_is_training_on_the_corpus(
  tiny_corpus, tiny_start, tmp_path
):
  seed = tiny.PRETRAIN['loop'].seed
  examples = write(tiny_corpus, tmp_path / 'examples', seed=seed)
  runs = []
  for name, source in (('corpus', None), ('examples', examples)):
    out = str(tmp_path / f'run_{name}')
    loop = dataclasses.replace(tiny.PRETRAIN['loop'], num_steps=3)
    pretrain(
      str(tiny_corpus),
      out,
      str(tiny_start),
      examples=source,
      **{
        **tiny.PRETRAIN,
        'loop': loop,
        'config': dataclasses.replace(
          tiny.PRETRAIN['config'], num_held_out=512
        ),
      },
    )
    runs.append(load_run(out).params)
  jax.tree.map(np.testing.assert_array_equal, *runs)


def test_every_epoch_has_blanks_of_its_own(tiny_corpus, tmp_path):
  one = MaterialisedExamples(write(tiny_corpus, tmp_path / 'one'))
  two = MaterialisedExamples(write(tiny_corpus, tmp_path / 'two', num_epochs=2))
  assert two.num_examples == 2 * one.num_examples
  assert two.manifest['task'] == 'realm_ssm'


def test_what_does_not_fit_is_said(tiny_corpus, tiny_start, tmp_path):
  with pytest.raises(UserError, match="no task 'ssm', expected one of realm_"):
    write(tiny_corpus, tmp_path / 'a', task='ssm')
  with pytest.raises(UserError, match="no split 'dev'"):
    write(tiny_corpus, tmp_path / 'a', split='dev')
  with pytest.raises(UserError, match='num_epochs is 0'):
    write(tiny_corpus, tmp_path / 'a', num_epochs=0)
  lengths = dataclasses.replace(tiny.LENGTHS, query_len=20)
  other = write(tiny_corpus, tmp_path / 'short', lengths=lengths)
  with pytest.raises(UserError, match='query_ids is'):
    pretrain(
      str(tiny_corpus),
      str(tmp_path / 'run'),
      str(tiny_start),
      examples=other,
      **tiny.PRETRAIN,
    )
  corpus = tiny.make_corpus(tmp_path / 'c', tiny.documents()[::-1])
  vocab_of_other = write(corpus, tmp_path / 'other')
  with pytest.raises(UserError, match='are not of corpus'):
    pretrain(
      str(tiny_corpus),
      str(tmp_path / 'run'),
      str(tiny_start),
      examples=vocab_of_other,
      **tiny.PRETRAIN,
    )
