import dataclasses

import jax
import numpy as np
import pytest
import tiny

from realm_jax.cli import run
from realm_jax.errors import UserError
from realm_jax.runs.combine import combine
from realm_jax.runs.evaluate import evaluate
from realm_jax.train.run_folder import load_run

pytestmark = pytest.mark.slow


def assert_same(one, other):
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_run_has_the_embedder_of_one_and_the_reader_of_another(
  tiny_start, tiny_pretrained, tmp_path
):
  out = tmp_path / 'out'
  for _ in range(2):  # the second time it is there
    run(
      [
        *('combine', '--retriever', str(tiny_pretrained)),
        *('--reader', str(tiny_start), '--out', str(out)),
      ]
    )
  combined = load_run(out)
  finding, reading = load_run(tiny_pretrained), load_run(tiny_start)
  assert_same(combined.params['embedder'], finding.params['embedder'])
  assert_same(combined.params['reader'], reading.params['reader'])
  with pytest.raises(AssertionError):
    assert_same(combined.params['reader'], finding.params['reader'])
  assert combined.stage == 'combined'
  assert combined.untrained == reading.untrained
  assert combined.settings['retriever']['fingerprint'] == finding.fingerprint


def test_what_it_finds_is_what_its_retriever_finds(
  tiny_start, tiny_pretrained, tiny_questions, tmp_path
):
  out = combine(str(tiny_pretrained), str(tiny_start), str(tmp_path / 'out'))
  hits = []
  for number, folder in enumerate((out, tiny_pretrained)):
    evaluation = tmp_path / str(number)
    evaluate(
      str(folder),
      str(tiny_questions),
      str(evaluation),
      console=tiny.quiet(),
    )
    hits.append((evaluation / 'predictions.jsonl').read_text())
  assert hits[0] == hits[1]


def test_models_of_other_sizes_are_refused(tiny_corpus, tiny_start, tmp_path):
  other = tiny.make_untrained_run(
    tmp_path / 'other',
    tiny_corpus,
    dataclasses.replace(tiny.MODEL, embed_dim=9),
  )
  with pytest.raises(UserError, match='other sizes:\n  embed_dim: 9 and 8'):
    combine(str(other), str(tiny_start), str(tmp_path / 'out'))
  assert not (tmp_path / 'out').exists()


def test_a_wider_span_head_is_the_readers_own_business(
  tiny_corpus, tiny_start, tmp_path
):
  model = dataclasses.replace(tiny.MODEL, span_hidden_size=13)
  other = tiny.make_untrained_run(tmp_path / 'other', tiny_corpus, model)
  out = combine(str(other), str(tiny_start), str(tmp_path / 'out'))
  assert load_run(out).model == load_run(tiny_start).model


def test_runs_of_other_corpora_are_refused(tiny_start, tmp_path):
  corpus = tiny.make_corpus(tmp_path / 'corpus', tiny.documents()[:-3])
  other = tiny.make_untrained_run(tmp_path / 'other', corpus, tiny.MODEL)
  with pytest.raises(UserError, match='are of different'):
    combine(str(other), str(tiny_start), str(tmp_path / 'out'))


def test_a_run_that_is_not_there_is_refused(tiny_start, tmp_path):
  with pytest.raises(FileNotFoundError, match='does not exist'):
    combine(str(tmp_path / 'none'), str(tiny_start), str(tmp_path / 'out'))
