"""Fine-tuning with an index that is made anew, and with dev questions."""

import dataclasses
import threading

import jax
import numpy as np
import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.follow_run import follow_run
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.qa_source import QASource
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import load_run

CONFIG = FinetuneConfig(
  batch_size=4,
  beam_size=12,
  num_read=2,
  num_embedded=3,
  refresh='synchronous(every=2)',
  dev_every=2,
  dev_metric='f1',
  num_dev=6,
)


@pytest.fixture(scope='module')
def train(tiny_corpus, tiny_start, tiny_questions):
  def run(folder, num_steps=5, config=CONFIG, dev=tiny_questions):
    finetune(
      str(tiny_corpus),
      str(folder),
      str(tiny_start),
      str(tiny_questions),
      dev_questions=dev and str(dev),
      config=config,
      lengths=tiny.LENGTHS,
      loop=LoopConfig(num_steps=num_steps, log_every=1, checkpoint_every=2),
      optimizer=OptimizerConfig(learning_rate=1e-3, num_warmup_steps=0),
    )
    return folder

  return run


@pytest.fixture(scope='module')
def whole(train, tmp_path_factory):
  return train(tmp_path_factory.mktemp('whole') / 'run')


def figures(folder, name):
  return {r['step']: r[name] for r in read_metrics(folder) if name in r}


@pytest.mark.slow
def test_the_document_embedder_learns_and_the_index_follows(whole, tiny_start):
  before, after = load_run(tiny_start), load_run(whole)
  assert after.model.share_embedders == before.model.share_embedders
  moved = jax.tree.map(
    lambda a, b: bool(np.any(np.asarray(a) != np.asarray(b))),
    before.params['embedder'],
    after.params['embedder'],
  )
  assert all(jax.tree.leaves(moved['projection']))
  # A batch is searched for before its step; anew at 2 and 4, and at the end.
  assert figures(whole, 'index_age') == {1: 0, 2: 1, 3: 0, 4: 1, 5: 0}
  norms = figures(whole, 'gradient_norm/document_tower')
  assert all(norm > 0 for norm in norms.values())


@pytest.mark.slow
def test_the_best_parameters_on_the_dev_questions_are_kept(whole):
  values = figures(whole, 'dev_f1')
  assert set(values) == {0, 2, 4, 5}
  best = min(step for step in values if values[step] == max(values.values()))
  assert load_run(whole).num_steps == best


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
  whole, train, tmp_path, monkeypatch
):
  begin = QASource.begin

  def stopping(self, step, params):
    if step == 3:
      raise KeyboardInterrupt
    return begin(self, step, params)

  with monkeypatch.context() as patched:
    patched.setattr(QASource, 'begin', stopping)
    with pytest.raises(KeyboardInterrupt):
      train(tmp_path / 'run')
  train(tmp_path / 'run')
  for name in ('loss', 'dev_f1', 'dev_exact_match', 'index_age'):
    assert figures(tmp_path / 'run', name) == figures(whole, name)
  jax.tree.map(
    np.testing.assert_array_equal,
    load_run(tmp_path / 'run').params,
    load_run(whole).params,
  )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('refresh', 'num_steps'),
  [
    ('second_mesh(every=2)', 30),
    pytest.param('rolling(pass_every=3)', 8, marks=pytest.mark.long),
  ],
)
def test_any_schedule_brings_younger_embeddings(
  train, tmp_path, refresh, num_steps
):
  config = dataclasses.replace(CONFIG, refresh=refresh)
  ages = figures(
    train(tmp_path / 'run', num_steps, config, dev=None), 'index_age'
  )
  # Never refreshed, the index would be as old as the steps before the last.
  assert ages[num_steps] < num_steps - 1


@pytest.mark.long
def test_a_builder_follows_fine_tuning(train, tmp_path):
  refresh = 'separate_process(every=2, at_most_late=50)'
  config = dataclasses.replace(CONFIG, refresh=refresh)
  folder = tmp_path / 'run'
  builder = threading.Thread(
    target=follow_run,
    args=(str(folder),),
    kwargs={'console': tiny.quiet()},
    daemon=True,
  )
  builder.start()
  ages = figures(train(folder, 60, config, dev=None), 'index_age')
  builder.join(timeout=60)
  assert not builder.is_alive()  # the run has ended, and so does what follows
  assert ages[60] < 59


@pytest.mark.slow
def test_training_stops_where_nothing_gets_better(train, tmp_path):
  rows = [{'question': 'Who is it?', 'answer': ['nobody at all']}]
  dev = tiny.write_lines(tmp_path / 'dev.jsonl', rows)
  config = dataclasses.replace(CONFIG, patience=2, dev_every=1)
  run = train(tmp_path / 'run', 5, config, dev)
  assert max(figures(run, 'loss')) == 2
  assert load_run(run).num_steps == 0


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'num_embedded': 0}, 'num_embedded is 0'),
    ({'num_embedded': 13}, 'expected at most beam_size, which is 12'),
    ({'refresh': 'sometimes'}, 'sometimes'),
    ({'dev_metric': 'bleu'}, "dev_metric is 'bleu'"),
    ({'reader': 'closed_book'}, 'a closed-book reader has no documents'),
    ({'patience': -1}, 'patience is -1'),
  ],
)
def test_settings_that_do_not_go_together_are_refused(settings, message):
  with pytest.raises(UserError, match=message):
    dataclasses.replace(CONFIG, **settings)


def test_patience_without_dev_questions_is_refused(train, tmp_path):
  config = dataclasses.replace(CONFIG, patience=2)
  with pytest.raises(UserError, match='patience is 2, but there are no dev'):
    train(tmp_path / 'run', config=config, dev=None)
  assert not (tmp_path / 'run').exists()


def test_dev_questions_of_a_closed_book_are_refused(train, tmp_path):
  config = dataclasses.replace(
    CONFIG, reader='closed_book', num_embedded=0, refresh='off'
  )
  with pytest.raises(UserError, match='Leave --dev-questions away'):
    train(tmp_path / 'run', config=config)
  assert not (tmp_path / 'run').exists()
