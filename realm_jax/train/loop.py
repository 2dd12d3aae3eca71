"""The host loop: batch, step, report, save. Resumes where it was stopped."""

import contextlib
import math
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax

from realm_jax.errors import UserError
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.reporting import Reporter
from realm_jax.train.state import TrainState
from realm_jax.train.step import Step

DROPOUT_RNGS = ('threefry2x32', 'rbg')


@dataclass(frozen=True)
class LoopConfig:
  """How long and how often.

  Attributes:
    num_steps: updates in all.
    log_every: steps between records in metrics.jsonl.
    checkpoint_every: steps between checkpoints.
    seed: of parameters, data order, masks and dropout.
    dropout_rng: what draws the bits of dropout. 'threefry2x32' draws the same
      ones on any number of devices; 'rbg' draws quickly on GPUs and TPUs, but
      others on another number or kind of them.
  """

  num_steps: int = 1000
  log_every: int = 10
  checkpoint_every: int = 100
  seed: int = 0
  dropout_rng: str = 'threefry2x32'

  def __post_init__(self):
    for name in ('num_steps', 'log_every', 'checkpoint_every'):
      if getattr(self, name) < 1:
        raise UserError(
          f'LoopConfig.{name} is {getattr(self, name)}, expected at least 1.'
        )
    if self.dropout_rng not in DROPOUT_RNGS:
      raise UserError(
        f'LoopConfig.dropout_rng is {self.dropout_rng!r}, expected one of '
        f'{", ".join(DROPOUT_RNGS)}.'
      )


@dataclass(frozen=True)
class Event:
  """Something that happens between steps.

  Attributes:
    every: whenever the steps done are a multiple of this, 0 included, and after
      the last one. Not again on resuming: it happened before the state was
      saved.
    action: called with the state; returns metrics to record, perhaps none.
  """

  every: int
  action: Callable[[TrainState], dict[str, float]]


class Interrupted(KeyboardInterrupt):
  """The run was asked to stop; its state is saved."""


def _due(step: int, every: int, num_steps: int) -> bool:
  return step % every == 0 or step == num_steps


# Steps done, and the metrics of the last of them; None if they were read.
_Pending = tuple[int, dict[str, Any]] | None


def train(
  state: TrainState,
  step_fn: Step,
  next_batch: Callable[[TrainState], tuple[Any, dict[str, float]]],
  config: LoopConfig,
  checkpoints: Checkpoints,
  reporter: Reporter,
  host_state: Callable[[], dict[str, Any]],
  events: Sequence[Event] = (),
  after_save: Callable[[], None] = lambda: None,
) -> TrainState:
  """Runs steps until config.num_steps are done.

  Everything that happens at a step depends on the state and the step alone, so
  a run that is killed and resumed from its last checkpoint repeats itself.

  Args:
    state: to start from; donated.
    step_fn: step(state, batch, rng) -> (state, metrics).
    next_batch: given the state, the next batch and what the host measured.
    config: see LoopConfig.
    checkpoints: where the state is saved.
    reporter: what is told of the metrics.
    host_state: JSON values to save with the state; taken between steps.
    events: in order, each before the steps it is due at.
    after_save: called after each checkpoint.

  Returns:
    The final state, saved.

  Raises:
    FloatingPointError: the loss or the gradient is not finite.
    Interrupted: SIGTERM or Ctrl-C; the state has been saved.
  """
  rng = jax.random.key(config.seed, impl=config.dropout_rng)
  pending: _Pending = None
  step = first_step = int(state.step)
  with _signals() as asked_to_stop:
    while True:
      if step > first_step or step == 0:
        _run_events(events, state, step, pending, config, reporter)
      stop = bool(asked_to_stop)
      if step > first_step and (
        stop or _due(step, config.checkpoint_every, config.num_steps)
      ):
        # What is saved has been reported: a resumed run reports the rest.
        _read(pending, config, reporter)
        pending = None
        checkpoints.save(state, host_state())
        after_save()
      if stop:
        raise Interrupted(f'Stopped after {step} steps; run again to go on.')
      if step == config.num_steps:
        return state
      batch, host_metrics = next_batch(state)
      state, metrics = step_fn(state, batch, rng)
      step += 1
      # The metrics of step n are read when step n + 1 has been sent.
      _read(pending, config, reporter)
      pending = step, {**metrics, **host_metrics}
      reporter.advance(step)


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
  """Gathers SIGTERM and Ctrl-C in the list that it gives.

  A second signal is not caught: the user means it. Python lets only the main
  thread handle signals; in others the list stays empty.
  """
  asked: list[int] = []
  if threading.current_thread() is not threading.main_thread():
    yield asked
    return

  def ask(number: int, frame: Any) -> None:
    del frame
    asked.append(number)
    signal.signal(number, previous[number])

  previous: dict[int, Any] = {
    number: signal.getsignal(number)
    for number in (signal.SIGTERM, signal.SIGINT)
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
  due = [e for e in events if _due(step, e.every, config.num_steps)]
  if not due:
    return
  _check_finite(pending)  # a refresh saves what it makes of the state
  measured: dict[str, float] = {}
  for event in due:
    measured.update(event.action(state))
  if measured:
    reporter.report(step, measured)


def _check_finite(pending: _Pending) -> None:
  """Raises FloatingPointError if the step has spoilt the state."""
  if pending is None:
    return
  step, metrics = pending
  # The loss is that of the parameters before the step's update, so that only
  # the gradient tells whether the update itself is sound.
  for name in ('loss', 'gradient_norm'):
    value = float(metrics[name])
    if not math.isfinite(value):
      raise FloatingPointError(
        f'The {name.replace("_", " ")} of step {step} is {value}. The last '
        'checkpoint is whole; lower the learning rate and start a new run.'
      )


def _read(pending: _Pending, config: LoopConfig, reporter: Reporter) -> None:
  """Waits for the metrics, checks them and reports those that are due."""
  if pending is None:
    return
  _check_finite(pending)
  step, metrics = pending
  if step % config.log_every == 0:
    reporter.report(step, metrics)
