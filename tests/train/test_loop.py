"""The loop, with a step that only counts."""

import os
import signal
import threading

import jax
import jax.numpy as jnp
import pytest

from realm_jax.errors import UserError
from realm_jax.train.loop import Event, Interrupted, LoopConfig, train
from realm_jax.train.pipeline import BatchSource, Pipeline
from realm_jax.train.state import TrainState
from realm_jax.train.trouble import NotFinite


class FakeCheckpoints:
  def __init__(self):
    self.saved = []

  def save(self, state, host):
    self.saved.append((int(state.step), host))


class FakeReporter:
  def __init__(self):
    self.reports = []

  def report(self, step, metrics):
    self.reports.append((step, {n: float(v) for n, v in metrics.items()}))

  def advance(self, step):
    pass


class Run(BatchSource):
  """What train is called with, and what it did."""

  def __init__(
    self, first_step=0, losses=None, norms=None, events=(), **config
  ):
    self.order = []
    self.config = LoopConfig(
      **{'num_steps': 7, 'log_every': 2, 'checkpoint_every': 3, **config}
    )
    self.checkpoints, self.reporter = FakeCheckpoints(), FakeReporter()
    self.state = TrainState(jnp.int32(first_step), {'w': jnp.float32(0)}, ())
    self.losses, self.norms = losses or {}, norms or {}
    self.events = events
    self.batches = first_step
    self.on_batch = lambda number: None

  def begin(self, step, params):
    assert step == self.batches
    self.batches += 1
    self.order.append(f'begin {self.batches}')
    return self.batches, float(params['w'])

  def finish(self, begun):
    number, w = begun
    self.order.append(f'finish {number}')
    self.on_batch(number)
    return number, {'begun_with': w}

  def data_position(self):
    return self.batches

  def remember(self, begun):
    return {'w': begun[1]}

  def step(self, state, batch, rng):
    del rng
    self.order.append(f'step {batch}')
    metrics = {
      'loss': self.losses.get(batch, float(batch)),
      'gradient_norm': self.norms.get(batch, 0.5),
    }
    state = TrainState(
      state.step + 1, {'w': state.params['w'] + batch}, state.opt_state
    )
    return state, {name: jnp.float32(v) for name, v in metrics.items()}

  def __call__(self):
    return train(
      self.state,
      self.step,
      Pipeline(
        self,
        self.config.num_steps,
        self.config.retrieve_ahead,
        lambda batch: batch,
      ),
      self.config,
      self.checkpoints,
      self.reporter,
      self.events,
      lambda: self.order.append('after save'),
    )


def test_all_steps_are_done_logged_and_saved():
  run = Run()
  state = run()
  assert int(state.step) == 7
  assert float(state.params['w']) == sum(range(1, 8))
  assert run.checkpoints.saved == [(n, {'data': n}) for n in (3, 6, 7)]
  assert [step for step, _ in run.reporter.reports] == [2, 4, 6]
  first = run.reporter.reports[0][1]
  assert (first['loss'], first['gradient_norm']) == (2.0, 0.5)
  assert first['begun_with'] == 1  # the parameters that the batch trains
  assert first['gather_seconds'] >= 0 <= first['wait_seconds']
  assert run.order.count('after save') == 3


def test_metrics_are_read_when_the_next_step_has_been_sent():
  run = Run(losses={2: float('nan')}, checkpoint_every=100)
  with pytest.raises(FloatingPointError, match='loss of step 2 is nan'):
    run()
  assert run.order[-1] == 'step 3'
  assert run.checkpoints.saved == []


def test_a_state_that_diverged_is_not_saved():
  run = Run(losses={3: float('inf')})
  with pytest.raises(FloatingPointError, match='loss of step 3 is inf'):
    run()
  assert run.checkpoints.saved == []


@pytest.mark.parametrize('step', [3, 7])  # a checkpoint; the last step
def test_a_state_made_by_a_gradient_that_diverged_is_not_saved(step):
  run = Run(norms={step: float('nan')})
  with pytest.raises(FloatingPointError, match=f'norm of step {step} is nan'):
    run()
  assert step not in [saved for saved, _ in run.checkpoints.saved]
  assert run.order[-1] != f'step {step + 1}'


@pytest.mark.parametrize('retrieve_ahead', [0, 1])
def test_a_step_that_diverged_is_told_with_its_own_batch(retrieve_ahead):
  run = Run(losses={4: float('nan')}, retrieve_ahead=retrieve_ahead)
  with pytest.raises(NotFinite) as caught:
    run()
  assert (caught.value.step, caught.value.batch) == (4, 4)


def test_events_do_not_see_a_state_that_diverged():
  seen = []
  run = Run(
    norms={4: float('inf')},
    events=[Event(4, lambda step, params: seen.append(step) or {})],
  )
  with pytest.raises(
    FloatingPointError, match='gradient norm of step 4 is inf'
  ):
    run()
  assert seen == [0]


def test_events_happen_at_the_start_when_due_and_at_the_end():
  seen = []

  def action(name):
    def act(step, params):
      seen.append((name, step, float(params['w'])))
      return {name: 1.0} if name == 'probe' else {}

    return act

  run = Run(events=[Event(4, action('refresh')), Event(3, action('probe'))])
  run()
  assert seen == [
    ('refresh', 0, 0.0),
    ('probe', 0, 0.0),
    ('probe', 3, 6.0),
    ('refresh', 4, 10.0),
    ('probe', 6, 21.0),
    ('refresh', 7, 28.0),
    ('probe', 7, 28.0),
  ]
  probed = [step for step, m in run.reporter.reports if 'probe' in m]
  assert probed == [0, 3, 6, 7]


def test_events_precede_the_checkpoint_of_their_step():
  order = []
  run = Run(events=[Event(3, lambda step, params: order.append('event') or {})])
  save = run.checkpoints.save
  run.checkpoints.save = lambda state, host: (
    order.append('save'),
    save(state, host),
  )
  run()
  assert order == ['event', 'event', 'save', 'event', 'save', 'event', 'save']


def test_on_resuming_nothing_happens_twice():
  seen = []
  run = Run(
    first_step=3,
    events=[Event(3, lambda step, params: seen.append(step) or {})],
  )
  run()
  assert seen == [6, 7]
  assert [step for step, _ in run.checkpoints.saved] == [6, 7]
  assert run.order[0] == 'begin 4'


def test_a_run_that_is_at_its_end_does_nothing():
  run = Run(first_step=7)
  assert int(run().step) == 7
  assert run.order == []
  assert run.checkpoints.saved == []


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_its_step_and_saves(number, capsys):
  before = signal.getsignal(number)
  run = Run()
  run.on_batch = lambda batch: batch == 5 and os.kill(os.getpid(), number)
  with pytest.raises(Interrupted, match='Stopped after 5 steps'):
    run()
  assert run.checkpoints.saved == [(3, {'data': 3}), (5, {'data': 5})]
  assert signal.getsignal(number) == before
  assert 'Stopping, once the step or refresh' in capsys.readouterr().err


@pytest.fixture
def heeded_interrupts():
  """Ctrl-C raises, also where what started the tests has it ignored."""
  before = signal.signal(signal.SIGINT, signal.default_int_handler)
  yield
  signal.signal(signal.SIGINT, before)


def test_a_second_signal_is_not_waited_for(heeded_interrupts):
  run = Run()

  def interrupt_twice(batch):
    if batch == 5:
      # Not os.kill: two of those may be handled as one.
      signal.raise_signal(signal.SIGINT)
      signal.raise_signal(signal.SIGINT)

  run.on_batch = interrupt_twice
  with pytest.raises(KeyboardInterrupt) as caught:
    run()
  assert not isinstance(caught.value, Interrupted)
  assert [step for step, _ in run.checkpoints.saved] == [3]


def test_a_run_in_another_thread_needs_no_signals():
  before = signal.getsignal(signal.SIGINT)
  run, states = Run(), []
  thread = threading.Thread(target=lambda: states.append(run()))
  thread.start()
  thread.join()
  assert [int(state.step) for state in states] == [7]
  assert signal.getsignal(signal.SIGINT) == before


def test_a_batch_is_begun_before_the_step_and_finished_behind_it():
  run = Run(retrieve_ahead=1, num_steps=4)
  state = run()
  assert float(state.params['w']) == sum(range(1, 5))
  assert [action for action in run.order if action != 'after save'] == [
    *('begin 1', 'finish 1'),  # nothing to do meanwhile
    *('begin 2', 'step 1', 'finish 2'),
    *('begin 3', 'step 2', 'finish 3'),
    *('begin 4', 'step 3', 'finish 4'),
    'step 4',
  ]
  # Batch 4 with the parameters of batch 3: those after two steps.
  (_, fourth) = run.reporter.reports[-1]
  assert fourth['begun_with'] == 1 + 2


def test_the_host_puts_a_batch_together_while_the_device_works():
  run = Run(retrieve_ahead=1, num_steps=3)

  class WhenRead(float):
    """A metric that says when it was waited for."""

    def __float__(self):
      run.order.append(f'read {super().__float__():.0f}')
      return super().__float__()

  step = run.step

  def step_unread(state, batch, rng):
    state, metrics = step(state, batch, rng)
    return state, {**metrics, 'loss': WhenRead(batch)}

  run.step = step_unread
  run()
  at = run.order.index
  assert at('step 1') < at('finish 2') < at('read 1')
  assert at('step 2') < at('read 1') < at('finish 3') < at('read 2')


def test_a_batch_made_ahead_is_saved_as_not_yet_drawn():
  run = Run(retrieve_ahead=1)
  run()
  assert run.checkpoints.saved == [
    (3, {'data': 3, 'ahead': {'w': 3.0}}),
    (6, {'data': 6, 'ahead': {'w': 15.0}}),
    (7, {'data': 7}),
  ]


def test_what_needs_no_parameters_is_made_ahead_in_any_case():
  run = Run(retrieve_ahead=0, num_steps=2)
  run.uses_params = False
  run()
  assert run.order[:4] == ['begin 1', 'finish 1', 'begin 2', 'step 1']


def test_an_event_that_is_not_checked_waits_for_no_step():
  seen = []

  def action(name):
    return lambda step, params: seen.append((name, step)) or {}

  run = Run(
    norms={2: float('nan')},
    events=[
      Event(1, action('sent'), checked=False),
      Event(1, action('checked')),
    ],
  )
  with pytest.raises(FloatingPointError):
    run()
  assert seen == [
    *(('sent', 0), ('checked', 0), ('sent', 1), ('checked', 1)),
    ('sent', 2),
  ]


def test_an_event_that_is_of_no_use_at_the_end_is_left_out():
  seen = []
  run = Run(
    num_steps=4,
    events=[Event(2, lambda step, params: seen.append(step) or {}, False)],
  )
  run()
  assert seen == [0, 2]


def test_more_than_one_batch_ahead_is_refused():
  with pytest.raises(UserError, match=r'retrieve_ahead is 2, expected 0 or 1'):
    LoopConfig(retrieve_ahead=2)


@pytest.mark.parametrize(
  ('name', 'value'),
  [('num_steps', -1), ('log_every', 0), ('checkpoint_every', 0)],
)
def test_counts_that_are_too_small_are_refused(name, value):
  with pytest.raises(UserError, match=rf'LoopConfig\.{name} is {value}'):
    LoopConfig(**{name: value})


class KeepsRng(Run):
  def step(self, state, batch, rng):
    self.rng = rng
    return super().step(state, batch, rng)


@pytest.mark.parametrize('name', ['threefry2x32', 'rbg'])
def test_dropout_draws_with_the_generator_that_is_asked_for(name):
  run = KeepsRng(num_steps=1, dropout_rng=name)
  run()
  assert str(jax.random.key_impl(run.rng)) == name


def test_an_unknown_generator_is_refused():
  with pytest.raises(UserError, match=r"dropout_rng is 'mt', expected one of"):
    LoopConfig(dropout_rng='mt')
