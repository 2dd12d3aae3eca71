"""The host loop: batch, step, report, save. Resumes where it was stopped."""

import contextlib
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from realm_jax import hosts
from realm_jax.checks import check_at_least
from realm_jax.errors import UserError
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.pipeline import Pipeline
from realm_jax.train.reporting import Reporter, warn
from realm_jax.train.state import TrainState
from realm_jax.train.step import Step
from realm_jax.train.trouble import NotFinite

DROPOUT_RNGS = ('threefry2x32', 'rbg')


@dataclass(frozen=True)
class LoopConfig:
  """How long and how often.

  Attributes:
    num_steps: updates in all; 0 keeps the parameters that a stage starts from.
    log_every: steps between records in metrics.jsonl.
    checkpoint_every: steps between checkpoints.
    seed: of parameters, data order, masks and dropout.
    dropout_rng: what draws the bits of dropout. 'threefry2x32' draws the same
      ones on any number of devices; 'rbg' draws quickly on GPUs and TPUs, but
      others on another number or kind of them.
    retrieve_ahead: 0 retrieves the documents of a batch with the parameters
      that it trains; the device then waits while the host gathers them. 1
      retrieves them with those of one step before, and gathers them while the
      device works.
  """

  num_steps: int = 1000
  log_every: int = 10
  checkpoint_every: int = 100
  seed: int = 0
  dropout_rng: str = 'threefry2x32'
  retrieve_ahead: int = 0

  def __post_init__(self):
    check_at_least(self, num_steps=0, log_every=1, checkpoint_every=1)
    if self.dropout_rng not in DROPOUT_RNGS:
      raise UserError(
        f'LoopConfig.dropout_rng is {self.dropout_rng!r}, expected one of '
        f'{", ".join(DROPOUT_RNGS)}.'
      )
    if self.retrieve_ahead not in (0, 1):
      raise UserError(
        f'LoopConfig.retrieve_ahead is {self.retrieve_ahead}, expected 0 or 1.'
      )


@dataclass(frozen=True)
class Event:
  """Something that happens between steps.

  Attributes:
    every: whenever the steps done are a multiple of this, 0 included. Not again
      on resuming: it happened before the state was saved.
    action: called with the steps done and the parameters; returns metrics to
      record, perhaps none.
    at_end: whether it happens after the last step, whatever its number.
    checked: wait for the last step and see that it has not spoilt the
      parameters. False sends off more work behind it.
  """

  every: int
  action: Callable[[int, Any], dict[str, float]]
  at_end: bool = True
  checked: bool = True

  def due(self, step: int, num_steps: int) -> bool:
    """Whether it happens after so many steps."""
    return self.at_end if step == num_steps else step % self.every == 0


class Interrupted(KeyboardInterrupt):
  """The run was asked to stop; its state is saved."""


class _Done(NamedTuple):
  """A step whose metrics are not read yet.

  Attributes:
    step: updates done with it.
    metrics: of the step, and what was measured of its batch.
    batch: that it was done with.
  """

  step: int
  metrics: dict[str, Any]
  batch: Any


_Pending = _Done | None


def train(
  state: TrainState,
  step_fn: Step,
  pipeline: Pipeline,
  config: LoopConfig,
  checkpoints: Checkpoints,
  reporter: Reporter,
  events: Sequence[Event] = (),
  after_save: Callable[[], None] = lambda: None,
  has_seen_enough: Callable[[], bool] = lambda: False,
) -> TrainState:
  """Runs steps until config.num_steps are done, or enough.

  Everything that happens at a step depends on the state and the step alone, so
  a run that is killed and resumed from its last checkpoint repeats itself.

  Args:
    state: to start from; donated.
    step_fn: step(state, batch, rng) -> (state, metrics).
    pipeline: of the batches; where it stands is saved with the state.
    config: see LoopConfig.
    checkpoints: where the state is saved.
    reporter: what is told of the metrics.
    events: in order, each before the steps it is due at.
    after_save: called after each checkpoint.
    has_seen_enough: whether, after the events of a step, it is to be the last.

  Returns:
    The final state, saved.

  Raises:
    NotFinite: the loss or the gradient is not.
    Interrupted: SIGTERM or Ctrl-C; the state has been saved.
  """
  rng = jax.random.key(config.seed, impl=config.dropout_rng)
  pending: _Pending = None
  step = first_step = int(state.step)
  with _signals() as asked_to_stop:
    while True:
      if step > first_step or step == 0:
        _run_events(events, state, step, pending, config, reporter)
      stop = bool(asked_to_stop) or hosts.asked_to_stop(step)
      last = step == config.num_steps or has_seen_enough()
      if step > first_step and (
        stop or last or step % config.checkpoint_every == 0
      ):
        # What is saved has been reported: a resumed run reports the rest.
        _read(pending, config, reporter)
        pending = None
        checkpoints.save(state, pipeline.position(step))
        after_save()
      if stop:
        raise Interrupted(f'Stopped after {step} steps; run again to go on.')
      if last:
        return state
      batch, host_metrics = pipeline.take(step, state.params)
      # Sent off before the step, which gives the parameters up.
      pipeline.begin(step + 1, state.params)
      state, metrics = step_fn(state, batch, rng)
      step += 1
      # The metrics of step n are read when step n + 1 has been sent.
      _read(pending, config, reporter)
      pending = _Done(step, {**metrics, **host_metrics}, batch)
      pipeline.finish()
      reporter.advance(step)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Gathers SIGTERM and Ctrl-C in the list that it gives.

  A second signal is not caught: the user means it. Python lets only the main
  thread handle signals; in others the list stays empty. Of several processes it
  stays empty too, and Ctrl-C becomes the SIGTERM of hosts.asked_to_stop.
  """
  asked: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield asked
    return

  def ask(number: int, frame: Any) -> None:
    del frame
    if hosts.are_several():
      os.kill(os.getpid(), signal.SIGTERM)
    else:
      asked.append(number)
    signal.signal(number, previous[number])
    if asked:
      warn(
        'Stopping, once the step or refresh that is under way is done and '
        'saved. Ask again to stop now, and to go on from the last checkpoint.'
      )

  caught = [signal.SIGINT]
  if not hosts.are_several():
    caught.append(signal.SIGTERM)
  previous: dict[int, Any] = {
    number: signal.getsignal(number) for number in caught
  }
  try:
    for number in previous:
      signal.signal(number, ask)
    yield asked
  finally:
    for number, handler in previous.items():
      signal.signal(number, handler)


def _run_events(
  events: Sequence[Event],
  state: TrainState,
  step: int,
  pending: _Pending,
  config: LoopConfig,
  reporter: Reporter,
) -> None:
  """Runs the events that are due, and reports what they measured."""
  measured: dict[str, float] = {}
  for event in events:
    if not event.due(step, config.num_steps):
      continue
    if event.checked:
      _check_finite(pending)  # a refresh saves what it makes of the state
    measured.update(event.action(step, state.params))
  if measured:
    reporter.report(step, measured)


def _check_finite(pending: _Pending) -> None:
  """Raises NotFinite if the step has spoilt the state."""
  if pending is None:
    return
  # The loss is that of the parameters before the step's update, so that only
  # the gradient tells whether the update itself is sound.
  for name in ('loss', 'gradient_norm'):
    value = float(pending.metrics[name])
    if not math.isfinite(value):
      name = name.replace('_', ' ')
      message = f'The {name} of step {pending.step} is {value}.'
      raise NotFinite(message, pending.step, pending.batch)


def _read(pending: _Pending, config: LoopConfig, reporter: Reporter) -> None:
  """Waits for the metrics, checks them and reports those that are due."""
  if pending is None:
    return
  start = time.perf_counter()
  _check_finite(pending)
  if pending.step % config.log_every == 0:
    # Near zero where the host has more to do than the device.
    waited = time.perf_counter() - start
    reporter.report(pending.step, {**pending.metrics, 'wait_seconds': waited})
