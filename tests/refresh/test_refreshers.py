"""What is searched at every step, under each schedule.

Parameters are a function of the step, so that whoever has a step has them; and
what is searched is compared with all blocks embedded anew.
"""

import shutil
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.featurize import Ragged
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import load_snapshot, save_snapshot
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, init_params
from realm_jax.refresh.api import check_index, divide_devices, make_refresher
from realm_jax.refresh.publishing import load_published, published
from realm_jax.refresh.rolling import Groups
from realm_jax.refresh.second_mesh import SecondMeshRefresher
from realm_jax.refresh.served import read_served
from realm_jax.refresh.snapshots import SnapshotMaker

NUM_STEPS = 13
LENGTHS = tiny.LENGTHS


class Setup:
  """Corpus, model, and the parameters of each step."""

  def __init__(self, folder):
    self.corpus = Corpus.open(folder)
    self.model = tiny.with_vocab_of(self.corpus)
    self.first = init_params(self.model, jax.random.key(5))
    self.embed_queries = make_embed(self.model, Realm.embed_queries)
    self.embed_documents = make_embed(self.model, Realm.embed_documents)
    self._embeds = {}

  def params(self, step):
    """All different, and no multiples of each other."""
    return jax.tree.map(
      lambda a: a * (1 + 0.1 * step * jnp.sin(40 * a)), self.first
    )

  def snapshot_maker(self):
    return SnapshotMaker(self.embed_documents, self.corpus, LENGTHS)

  def embeds(self, step, tmp_path):
    """All blocks, embedded with the parameters of a step."""
    if step not in self._embeds:
      snapshot, _ = self.snapshot_maker().snapshot(
        tmp_path / 'oracle' / str(step), self.params(step), step
      )
      self._embeds[step] = np.array(snapshot.block_embeds)
    return self._embeds[step]


@pytest.fixture(scope='module')
def setup(tiny_corpus):
  return Setup(tiny_corpus)


class Trainer:
  """Calls a refresher as the loop does, and keeps what was searched."""

  def __init__(self, setup, folder, refresh, **options):
    folder.mkdir(exist_ok=True)
    self.setup, self.folder = setup, folder
    config = IndexConfig(**options.pop('index', {}))
    self.retriever = Retriever(
      setup.embed_queries, setup.corpus, LENGTHS, config
    )
    self.warnings = []
    self.refresher = make_refresher(
      refresh,
      folder,
      setup.model,
      self.retriever,
      setup.snapshot_maker(),
      setup.embed_documents,
      warn=self.warnings.append,
      seed=3,
      **options,
    )
    self.refresher.queries = self.retriever.query_inputs(
      Ragged(np.full((4, 3), 7, np.int32), np.full(4, 3, np.int32))
    )
    self.searched = {}  # step -> [num_blocks, embed_dim]
    self.measured = {}
    self.between = lambda step: None

  def start(self):
    self.refresher.start(self.setup.params(0))
    return self

  def resume(self, position, step):
    self.refresher.resume(position, step, self.setup.params(step))
    return self

  def run(self, first=0, stop=NUM_STEPS + 1):
    """From one step to another; the run itself ends at NUM_STEPS."""
    for step in range(first, stop):
      self.between(step)
      params = self.setup.params(step)
      measured = self.refresher.advance(step, params)
      every, last = self.refresher.every, step == NUM_STEPS
      if every and (self.refresher.at_end if last else step % every == 0):
        measured |= self.refresher.refresh(step, params)
      self.measured[step] = measured
      rows = np.arange(self.setup.corpus.num_blocks)
      self.searched[step] = np.array(self.retriever.index.embeds(rows))
    return self

  def close(self):
    self.refresher.close()


@pytest.fixture
def trainer(setup, tmp_path):
  """make(name, refresh, ...) -> Trainer; all are closed."""
  made = []

  def make(name, refresh, **options):
    made.append(Trainer(setup, tmp_path / name, refresh, **options))
    return made[-1]

  yield make
  for one in made:
    one.close()


def assert_same_searches(actual, expected, first=0):
  for step in range(first, NUM_STEPS + 1):
    np.testing.assert_array_equal(
      actual.searched[step], expected.searched[step], err_msg=f'{step}'
    )


def test_off_keeps_the_first_index(trainer, setup, tmp_path):
  run = trainer('run', 'off').start().run()
  for searched in run.searched.values():
    np.testing.assert_array_equal(searched, setup.embeds(0, tmp_path))
  assert run.refresher.mean_age(9) == 9
  assert [line[:2] for line in read_served(run.folder)] == [(0, 0)]


def test_synchronous_has_every_index_at_once(trainer, setup, tmp_path):
  run = trainer('run', 'synchronous(every=5)').start().run()
  for step, searched in run.searched.items():
    last = step if step == NUM_STEPS else step // 5 * 5
    np.testing.assert_array_equal(searched, setup.embeds(last, tmp_path))
  assert [line[:2] for line in read_served(run.folder)] == [
    *((0, 0), (5, 5), (10, 10), (13, 13))
  ]
  measured = {step: m for step, m in run.measured.items() if m}
  assert measured.keys() == {5, 10, 13}
  assert measured[13]['refresh_age'] == 3
  assert 0 <= measured[5]['index_overlap'] <= 1


def test_rolling_has_each_block_as_old_as_its_turn(trainer, setup, tmp_path):
  run = trainer('run', 'rolling(pass_every=6)')
  groups = Groups(setup.corpus, LENGTHS, 6, 1, 3)
  ages = []
  run.start().run()
  made = np.zeros(setup.corpus.num_blocks, int)
  for step, searched in run.searched.items():
    if step:  # what was sent off one step before is there
      for group in groups.turns(step - 1):
        made[[i for i in groups.block_ids[group] if i >= 0]] = step - 1
    expected = np.stack(
      [setup.embeds(s, tmp_path)[n] for n, s in enumerate(made.tolist())]
    )
    # Groups are padded alike, but other rows stand beside them.
    np.testing.assert_allclose(searched, expected, atol=1e-6)
    ages.append(step - made.mean())
  assert run.refresher.mean_age(NUM_STEPS) == pytest.approx(ages[-1])
  # After a pass the age is that of an index refreshed every 6 steps: 2.5, and
  # one more, since what is sent off is written a step later.
  assert np.mean(ages[7:13]) == pytest.approx(3.5, abs=0.2)
  measured = {step: m for step, m in run.measured.items() if m}
  assert measured.keys() == {6, 12}
  assert 0 <= measured[12]['index_overlap'] <= 1


@pytest.mark.parametrize('num_devices', [1, 4])
@pytest.mark.parametrize('pass_every', [1, 5, 60, 500])
def test_a_pass_takes_each_block_once(setup, pass_every, num_devices):
  groups = Groups(setup.corpus, LENGTHS, pass_every, num_devices, 0)
  assert groups.block_ids.shape[1] % num_devices == 0
  for first in (0, 3):
    turns = [t for n in range(pass_every) for t in groups.turns(first + n)]
    taken = np.sort(groups.block_ids[turns].ravel())
    taken = taken[taken >= 0]
    np.testing.assert_array_equal(taken, np.arange(setup.corpus.num_blocks))


@pytest.mark.slow
@pytest.mark.parametrize(
  'index', [{}, {'dtype': 'bfloat16', 'rescore': False}, {'dtype': 'int8'}]
)
def test_rolling_goes_on_with_exactly_the_index_it_had(trainer, index):
  expected = trainer('whole', 'rolling(pass_every=5)', index=index)
  expected.start().run()
  stopped = trainer('run', 'rolling(pass_every=5)', index=index)
  stopped.start().run(stop=8)
  position = stopped.refresher.position(7)
  resumed = trainer('run', 'rolling(pass_every=5)', index=index)
  resumed.resume(position, 7).run(8)
  assert_same_searches(resumed, expected, 8)
  assert resumed.refresher.mean_age(13) == expected.refresher.mean_age(13)
  resumed.refresher.prune(position)
  kept = sorted(path.name for path in (resumed.folder / 'snapshots').iterdir())
  assert kept == ['00000007']


def test_rolling_needs_an_index_whose_rows_can_be_changed():
  check_index('rolling(pass_every=5)', 'exact')
  check_index('synchronous(every=5)', 'scann')
  with pytest.raises(UserError, match=r"IndexConfig\.kind is 'scann'"):
    check_index('rolling(pass_every=5)', 'scann')


def second_mesh(trainer, name, refresh='second_mesh(every=4)', **options):
  return trainer(name, refresh, builders=jax.devices()[-1:], **options)


def wait_for_builder(run):
  """Lets every build end, and what it made be verified, within its step."""

  def wait(step):
    refresher = run.refresher
    if refresher._building is not None:
      refresher._building[1].exception()
      refresher._look_after_builder()
    if refresher._verifying is None and step:
      refresher._arrived(step)  # sends off
    if refresher._verifying is not None:
      refresher._verifying[1].exception()

  run.between = wait


def test_a_second_mesh_embeds_the_parameters_of_the_step_it_was_asked_at(
  trainer, setup, tmp_path
):
  run = second_mesh(trainer, 'run')
  wait_for_builder(run)
  run.start().run()
  assert [line[:2] for line in read_served(run.folder)] == [
    *((0, 0), (5, 4), (9, 8), (13, 12))
  ]
  for step, searched in run.searched.items():
    last = max((step - 1) // 4 * 4, 0)
    np.testing.assert_array_equal(searched, setup.embeds(last, tmp_path))
  assert run.measured[5]['refresh_age'] == 5
  assert run.measured[5]['refresh_seconds'] > 0
  assert run.warnings == []


def test_a_replay_of_a_second_mesh_needs_none(trainer):
  expected = second_mesh(trainer, 'run')
  wait_for_builder(expected)
  expected.start().run()
  replay = trainer(
    'replay', 'synchronous(every=3)', replay=read_served(expected.folder)
  )
  replay.start().run()
  assert_same_searches(replay, expected)
  assert read_served(replay.folder) == read_served(expected.folder)


def test_a_replay_of_rolling_rolls(trainer):
  expected = trainer('run', 'rolling(pass_every=6)').start().run()
  replay = trainer('replay', 'off', replay=read_served(expected.folder))
  replay.start().run()
  assert_same_searches(replay, expected)


def test_what_was_served_before_a_stop_is_served_again(trainer):
  expected = second_mesh(trainer, 'run')
  wait_for_builder(expected)
  position = None

  def between(step, wait=expected.between):
    nonlocal position
    if step == 7:
      position = expected.refresher.position(6)
    wait(step)

  expected.between = between
  expected.start().run()
  # Whatever the builder does now, the log is followed to its end.
  resumed = second_mesh(trainer, 'run')
  resumed.resume(position, 6).run(7)
  assert_same_searches(resumed, expected, 7)
  restarted = second_mesh(trainer, 'run')
  restarted.start().run()
  assert_same_searches(restarted, expected)


def test_a_builder_that_fails_is_tried_again_when_it_is_due(
  trainer, monkeypatch
):
  run = second_mesh(trainer, 'run')
  wait_for_builder(run)
  make = run.refresher._maker.snapshot
  calls = []

  def fail_first(*args):
    calls.append(args)
    if len(calls) == 1:
      raise MemoryError('no room on the device')
    return make(*args)

  monkeypatch.setattr(run.refresher._maker, 'snapshot', fail_first)
  run.start().run()
  assert [line[:2] for line in read_served(run.folder)] == [
    *((0, 0), (9, 8), (13, 12))
  ]
  (warning,) = run.warnings
  assert 'step 4 could not be made: MemoryError: no room' in warning
  assert 'goes on with that of step 0' in warning


def test_a_refresh_is_left_out_while_the_last_is_not_done(trainer, monkeypatch):
  run = second_mesh(trainer, 'run')
  make, go = run.refresher._maker.snapshot, threading.Event()

  def wait(*args):
    assert go.wait(60)
    return make(*args)

  monkeypatch.setattr(run.refresher._maker, 'snapshot', wait)
  run.start().run()
  go.set()
  assert [line[:2] for line in read_served(run.folder)] == [(0, 0)]
  left_out = {
    step: measured['refreshes_left_out']
    for step, measured in run.measured.items()
    if 'refreshes_left_out' in measured
  }
  assert left_out == {8: 1, 12: 2}
  (warning,) = run.warnings  # 4 + 4 steps are exceeded at 9
  assert 'After 9 steps the index is 9 steps old' in warning


def test_devices_that_train_must_be_left():
  num_devices = jax.device_count()
  train, embed = divide_devices('second_mesh(every=4, num_devices=2)')
  assert train + embed == jax.devices()
  assert len(embed) == 2
  with pytest.raises(UserError, match='at least one must train'):
    divide_devices(f'second_mesh(every=4, num_devices={num_devices})')
  assert divide_devices('off') == (jax.devices(), [])


@pytest.mark.parametrize(
  'refresh',
  ['second_mesh(every=4)', 'separate_process(every=4, at_most_late=0)'],
)
def test_several_processes_refresh_in_step(monkeypatch, refresh):
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  with pytest.raises(UserError, match='for one process that trains, but ther'):
    divide_devices(refresh)
  divide_devices('rolling(pass_every=4)')


def test_several_devices_of_a_second_mesh_embed_together(
  trainer, setup, tmp_path
):
  run = trainer(
    'run',
    'second_mesh(every=4, num_devices=2)',
    builders=jax.devices()[-2:],
  )
  wait_for_builder(run)
  run.start().run(stop=6)
  assert isinstance(run.refresher, SecondMeshRefresher)
  assert run.retriever.index_step == 4
  np.testing.assert_allclose(
    run.searched[5], setup.embeds(4, tmp_path), atol=1e-6
  )


class Builder:
  """Does what `build-index --follow` does, when it is told to."""

  def __init__(self, setup, folder):
    self.setup, self.folder = setup, folder
    self.spoil = lambda snapshot: snapshot
    self.done = set()

  def work(self):
    """Embeds what was published last."""
    entry = published(self.folder)[-1]
    if entry.step in self.done:
      return
    self.done.add(entry.step)
    scratch = self.folder / 'scratch'
    shutil.rmtree(scratch, ignore_errors=True)
    params = load_published(entry.folder, self.setup.model)
    snapshot, _ = self.setup.snapshot_maker().snapshot(
      scratch, params, entry.step
    )
    folder = self.folder / 'snapshots' / f'{entry.step:08d}'
    save_snapshot(folder, self.spoil(snapshot))


@pytest.fixture
def separate(trainer, setup):
  """A trainer and a builder that works between any two steps."""

  def make(name='run', at_most_late=3, works=lambda step: True):
    run = trainer(
      name, f'separate_process(every=4, at_most_late={at_most_late})'
    )
    builder = Builder(setup, run.folder)

    def between(step):
      if published(run.folder) and works(step):
        builder.work()
      if step > run.refresher._log.last_step:
        run.refresher._arrived(step)  # sends off
      if run.refresher._verifying is not None:
        run.refresher._verifying[1].exception()

    run.between = between
    return run, builder

  return make


def test_a_separate_process_embeds_what_was_published(
  separate, setup, tmp_path, trainer
):
  run, _ = separate()
  run.start().run()
  assert [line[:2] for line in read_served(run.folder)] == [
    *((0, 0), (5, 4), (9, 8), (13, 12))
  ]
  for step, searched in run.searched.items():
    last = max((step - 1) // 4 * 4, 0)
    np.testing.assert_array_equal(searched, setup.embeds(last, tmp_path))
  assert run.warnings == []
  assert [entry.step for entry in published(run.folder)] == [8, 12]
  replay = trainer('replay', 'off', replay=read_served(run.folder))
  replay.start().run()
  assert_same_searches(replay, run)


def test_a_run_goes_on_without_a_builder_and_says_so_once(separate):
  run, _ = separate(works=lambda step: step >= 10)
  run.start().run()
  assert [line[:2] for line in read_served(run.folder)][1] == (10, 8)
  (warning,) = run.warnings
  assert 'After 8 steps the index is 8 steps old, more than 7' in warning
  assert f'realm-jax build-index --follow {run.folder}' in warning


def flip_a_byte(folder):
  (path,) = folder.glob('block_embeds*')
  data = bytearray(path.read_bytes())
  data[-3] ^= 1
  path.write_bytes(data)


@pytest.mark.slow
@pytest.mark.parametrize(
  ('fault', 'message'),
  [
    ('corpus', 'embeds corpus other'),
    ('model', 'was made with parameters'),
    ('byte', 'has checksum'),
    *(
      pytest.param(*case, marks=pytest.mark.slow)
      for case in (
        ('step', 'is of step 3, expected step 4'),
        ('rows', 'has 41 rows, expected 42'),
        ('nan', 'embedding of block 5 is not finite'),
        ('manifest', 'is not valid JSON'),
        ('missing', 'is missing'),
      )
    ),
  ],
)
def test_a_bad_snapshot_is_set_aside_and_never_searched(
  separate, setup, tmp_path, fault, message
):
  run, builder = separate()

  def spoil(snapshot):
    rows = np.array(snapshot.block_embeds)
    if snapshot.index_step != 4:
      return snapshot
    if fault == 'nan':
      rows[5, 2] = np.nan
    changed = {
      'corpus': {'corpus_fingerprint': 'other corpus'},
      'model': {'params_fingerprint': 'f' * 64},
      'step': {'index_step': 3},
      'rows': {'block_embeds': rows[:-1], 'block_digests': None},
      'nan': {'block_embeds': rows},
    }
    return snapshot._replace(**changed.get(fault, {}))

  builder.spoil = spoil
  work = builder.work

  def work_and_damage():
    before = set(builder.done)
    work()
    folder = run.folder / 'snapshots' / '00000004'
    if builder.done - before == {4}:
      if fault == 'byte':
        flip_a_byte(folder)
      if fault == 'manifest':
        (folder / 'manifest.json').write_text('{')
      if fault == 'missing':
        next(folder.glob('block_embeds*')).unlink()

  builder.work = work_and_damage
  run.start().run(stop=10)
  served = [line[:2] for line in read_served(run.folder)]
  assert served == [(0, 0), (9, 8)]
  np.testing.assert_array_equal(run.searched[8], setup.embeds(0, tmp_path))
  assert 'The snapshot of step 4 is not used' in run.warnings[0]
  assert message in run.warnings[0]
  assert (run.folder / 'refused' / '00000004').is_dir()
  assert not (run.folder / 'snapshots' / '00000004').exists()


def test_parameters_that_cannot_be_published_do_not_stop_the_run(
  separate, monkeypatch
):
  run, _ = separate()

  def full(*args):
    raise OSError(28, 'No space left on device')

  with monkeypatch.context() as patch:
    patch.setattr('realm_jax.refresh.separate_process.publish', full)
    run.start().run(stop=5)
  run.run(5)
  assert 'step 4 could not be published' in run.warnings[0]
  assert 'No space left' in run.warnings[0]
  assert [line[:2] for line in read_served(run.folder)] == [
    *((0, 0), (9, 8), (13, 12))
  ]


def test_a_stopped_run_searches_what_it_had_searched(separate):
  expected, _ = separate()
  expected.start().run(stop=7)
  position = expected.refresher.position(6)
  expected.run(7)
  # Again from step 6: the builder is gone, the log and the snapshots are there.
  resumed, _ = separate(works=lambda step: False)
  resumed.resume(position, 6).run(7)
  assert_same_searches(resumed, expected, 7)
  assert [entry.step for entry in published(resumed.folder)] == [8, 12]


def test_what_a_stopped_run_published_later_is_forgotten(separate):
  run, _ = separate(works=lambda step: False)
  run.start().run()
  assert [entry.step for entry in published(run.folder)] == [8, 12]
  resumed, _ = separate(works=lambda step: False)
  resumed.resume({'index_step': 0}, 9)
  assert [entry.step for entry in published(run.folder)] == [8]
  assert list(resumed.refresher.expected) == [8]


def test_a_snapshot_of_a_run_is_of_its_parameters(trainer, setup, tmp_path):
  run = trainer('run', 'rolling(pass_every=4)').start().run(stop=4)
  run.refresher.position(3)
  folder = run.folder / 'snapshots' / '00000003'
  snapshot = load_snapshot(folder, setup.corpus.fingerprint)
  np.testing.assert_array_equal(snapshot.block_embeds, run.searched[3])
  assert snapshot.params_fingerprint == ''  # of several steps
