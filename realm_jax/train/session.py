"""One training stage in one folder: restore, train, finish."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import jax

from realm_jax import hosts
from realm_jax.sharding import Layout
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.loop import Event, LoopConfig, train
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.pipeline import BatchSource, Pipeline
from realm_jax.train.reporting import Reporter, Silent, console
from realm_jax.train.run_folder import RunFolder
from realm_jax.train.selection import BestOnDev
from realm_jax.train.state import create_state
from realm_jax.train.step import Step
from realm_jax.train.trouble import trouble_is_told


def run_stage(
  run: RunFolder,
  params: Any,
  optimizer: OptimizerConfig,
  make_step: Callable[..., Step],
  source: BatchSource,
  loop: LoopConfig,
  events: Sequence[Event] = (),
  num_candidates: int = 0,
  layout: Layout | None = None,
  selection: BestOnDev | None = None,
) -> Any:
  """Trains to the end, from wherever the run's last checkpoint stands.

  Args:
    run: the folder.
    params: initial parameters, for a new run.
    optimizer: see OptimizerConfig.
    make_step: optax transformation -> step.
    source: of the batches; closed at the end.
    loop: see LoopConfig.
    events: what happens between steps.
    num_candidates: with the null document; for warnings.
    layout: of state and batches over a mesh, which may be another one than that
      of the checkpoint; None for one device.
    selection: measures between the steps, after events; None to keep the
      parameters of the last step.

  Returns:
    The parameters kept, which are saved in the folder as well.
  """
  console.quiet = not hosts.is_first()
  transformation, _ = make_optimizer(optimizer, params)
  state = create_state(params, transformation, layout)
  folder = run.path / 'checkpoints'
  pipeline = Pipeline(
    source,
    loop.num_steps,
    loop.retrieve_ahead,
    layout.place if layout else jax.device_put,
  )
  with (
    contextlib.closing(source),
    contextlib.closing(Checkpoints(folder)) as checkpoints,
    trouble_is_told(run.path, checkpoints.latest_step),
  ):
    if checkpoints.latest_step() is None:
      source.start(state.params)
    else:
      state, position = checkpoints.restore(state)
      pipeline.resume(position, int(state.step), state.params)
      if selection:
        selection.resume(int(state.step))

    def prune() -> None:
      oldest = checkpoints.oldest_host()
      if oldest is not None:
        source.prune(oldest)
      if selection:
        selection.prune()

    first_step = int(state.step)
    with contextlib.closing(
      Reporter(run.path, run.stage, loop.num_steps, first_step, num_candidates)
      if hosts.is_first()
      else Silent()
    ) as reporter:
      state = train(
        state,
        make_step(transformation),
        pipeline,
        loop,
        checkpoints,
        reporter,
        [*events, selection.event()] if selection else events,
        prune,
        selection.has_seen_enough if selection else lambda: False,
      )
    params, step = state.params, int(state.step)
    if selection:
      best = selection.best_params(params)
      params = layout.place_params(best) if layout else best
      step = selection.best_step
    run.finish(params, num_steps=step)
  return params
