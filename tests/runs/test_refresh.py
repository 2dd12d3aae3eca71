"""Pre-training under each schedule: stopped, resumed, replayed, bit for bit."""

import dataclasses
import threading

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm
from realm_jax.refresh.publishing import load_published, published
from realm_jax.refresh.served import read_served
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.runs.pretrain import pretrain
from realm_jax.train.pretrain_source import PretrainSource
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import load_run

pytestmark = pytest.mark.slow


class Killed(BaseException):
  """Nothing is saved on its way out."""


@pytest.fixture
def train(tmp_path, tiny_corpus, tiny_start, monkeypatch):
  """train(name, refresh, kill_at=..., replay=...) -> folder of the run."""

  def run(name, refresh, *, ahead=0, num_steps=9, kill_at=None, replay=None):
    config = dataclasses.replace(
      tiny.PRETRAIN['config'], refresh=refresh, num_held_out=0
    )
    loop = dataclasses.replace(
      tiny.PRETRAIN['loop'], num_steps=num_steps, retrieve_ahead=ahead
    )
    out = tmp_path / name

    def call():
      pretrain(
        str(tiny_corpus),
        str(out),
        str(tiny_start),
        replay=replay and str(replay),
        **{**tiny.PRETRAIN, 'config': config, 'loop': loop},
      )

    if kill_at is None:
      call()
      return out
    begin = PretrainSource.begin

    def killed(source, step, params):
      if step == kill_at:
        raise Killed
      return begin(source, step, params)

    with monkeypatch.context() as patch, pytest.raises(Killed):
      patch.setattr(PretrainSource, 'begin', killed)
      call()
    return out

  run.folder = tmp_path
  return run


def assert_same_params(actual, expected):
  jax.tree.map(
    lambda a, b: np.testing.assert_array_equal(
      np.asarray(a).view(np.uint32), np.asarray(b).view(np.uint32)
    ),
    load_run(actual).params,
    load_run(expected).params,
  )


def test_a_batch_ahead_is_retrieved_with_parameters_of_one_step_before(
  train, monkeypatch
):
  ahead = train('ahead', 'off', ahead=1, num_steps=6)
  begin, before = PretrainSource.begin, []

  def begin_late(source, step, params):
    before.append(jax.tree.map(np.array, params))
    return begin(source, step, before[max(step - 1, 0)])

  monkeypatch.setattr(PretrainSource, 'begin', begin_late)
  oracle = train('oracle', 'off', num_steps=6)
  assert len(before) == 6
  assert_same_params(ahead, oracle)


@pytest.mark.parametrize(
  'refresh',
  [
    'rolling(pass_every=5)',
    pytest.param('synchronous(every=4)', marks=pytest.mark.long),
    pytest.param('off', marks=pytest.mark.long),
  ],
)
def test_a_killed_run_that_works_ahead_ends_as_one_never_killed(train, refresh):
  whole = train('whole', refresh, ahead=1)
  train('killed', refresh, ahead=1, kill_at=2)  # nothing was saved
  train('killed', refresh, ahead=1, kill_at=6)
  assert_same_params(train('killed', refresh, ahead=1), whole)
  assert read_served(whole) == read_served(whole.parent / 'killed')
  ages = [
    [(r['step'], r['index_age']) for r in read_metrics(run) if 'index_age' in r]
    for run in (whole, whole.parent / 'killed')
  ]
  assert ages[0] == ages[1]
  assert len(ages[0]) == 9


@pytest.mark.parametrize(
  'refresh',
  [
    'synchronous(every=4)',
    pytest.param('off', marks=pytest.mark.long),
  ],
)
def test_a_replay_ends_as_the_run_that_it_replays(train, refresh):
  whole = train('whole', refresh)
  replay = train('replay', 'rolling(pass_every=3)', replay=whole)
  assert_same_params(replay, whole)
  with pytest.raises(UserError, match=r'settings.replay'):
    train('replay', 'rolling(pass_every=3)')


@pytest.mark.long
def test_a_killed_run_with_a_second_mesh_is_what_its_log_says(train):
  refresh = 'second_mesh(every=2)'
  train('killed', refresh, ahead=1, num_steps=30, kill_at=14)
  before = read_served(train.folder / 'killed')
  killed = train('killed', refresh, ahead=1, num_steps=30)
  log = read_served(killed)
  assert log[: len(before)] == before
  assert len(log) > 2, 'no snapshot was made in time'
  replay = train('replay', 'off', ahead=1, num_steps=30, replay=killed)
  assert_same_params(replay, killed)


class Builder(threading.Thread):
  """Follows a run as `build-index --follow` does."""

  def __init__(self, run, corpus, start):
    super().__init__(daemon=True)
    self.run_folder, self.corpus = run, Corpus.open(corpus)
    self.model = load_run(start).model
    self.ended = threading.Event()

  def run(self):
    embed = make_embed(self.model, Realm.embed_documents)
    maker = SnapshotMaker(embed, self.corpus, tiny.LENGTHS)
    while not self.ended.wait(0.02):
      for entry in published(self.run_folder)[-1:]:
        folder = self.run_folder / 'snapshots' / entry.folder.name
        try:
          params = load_published(entry.folder, self.model)
          maker.snapshot(folder, params, entry.step)
        except FileNotFoundError:
          continue  # deleted meanwhile


@pytest.mark.long
def test_a_killed_run_with_a_separate_process_is_what_its_log_says(
  train, tiny_corpus, tiny_start
):
  refresh = 'separate_process(every=2, at_most_late=50)'
  builder = Builder(train.folder / 'killed', tiny_corpus, tiny_start)
  builder.start()
  train('killed', refresh, num_steps=30, kill_at=14)
  killed = train('killed', refresh, num_steps=30)
  builder.ended.set()
  builder.join()
  assert len(read_served(killed)) > 2, 'no snapshot was made in time'
  replay = train('replay', 'off', num_steps=30, replay=killed)
  assert_same_params(replay, killed)
