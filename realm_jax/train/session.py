"""One training stage in one folder: restore, train, finish."""

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from realm_jax.data.batches import Batches
from realm_jax.sharding import Layout
from realm_jax.train.checkpoint import Checkpoints
from realm_jax.train.loop import Event, LoopConfig, train
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.reporting import Reporter
from realm_jax.train.run_folder import RunFolder
from realm_jax.train.state import TrainState, create_state
from realm_jax.train.step import Step


class BatchSource(ABC):
  """Where a stage's batches come from, and the host state behind them.

  As it stands the host state is the position in the data; a source that has
  more overrides the other methods.
  """

  def __init__(self, batches: Batches):
    """Keeps the stream of examples."""
    self._batches = batches

  @abstractmethod
  def next_batch(self, state: TrainState) -> tuple[Any, dict[str, float]]:
    """The next batch, and what was measured while making it."""

  def start(self, params: Any) -> None:
    """Called once before the first step of a new run."""
    del params

  def position(self) -> dict[str, Any]:
    """JSON values from which `seek` can go on."""
    return {'data': self._batches.position()}

  def seek(self, position: dict[str, Any]) -> None:
    """Goes back to a position."""
    self._batches.seek(position['data'])

  def prune(self, oldest: dict[str, Any]) -> None:
    """Deletes what no position from `oldest` on needs."""
    del oldest


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
) -> Any:
  """Trains to the end, from wherever the run's last checkpoint stands.

  Args:
    run: the folder.
    params: initial parameters, for a new run.
    optimizer: see OptimizerConfig.
    make_step: optax transformation -> step.
    source: of the batches.
    loop: see LoopConfig.
    events: what happens between steps.
    num_candidates: with the null document; for warnings.
    layout: of state and batches over a mesh, which may be another one than that
      of the checkpoint; None for one device.

  Returns:
    The final parameters, which are saved in the folder as well.
  """
  transformation, _ = make_optimizer(optimizer, params)
  state = create_state(params, transformation, layout)
  folder = run.path / 'checkpoints'
  with contextlib.closing(Checkpoints(folder)) as checkpoints:
    if checkpoints.latest_step() is None:
      source.start(state.params)
    else:
      state, position = checkpoints.restore(state)
      source.seek(position)

    def prune() -> None:
      oldest = checkpoints.oldest_host()
      if oldest is not None:
        source.prune(oldest)

    def next_batch(state: TrainState) -> tuple[Any, dict[str, float]]:
      batch, measured = source.next_batch(state)
      return (layout.place(batch) if layout else batch), measured

    first_step = int(state.step)
    with contextlib.closing(
      Reporter(run.path, run.stage, loop.num_steps, first_step, num_candidates)
    ) as reporter:
      state = train(
        state,
        make_step(transformation),
        next_batch,
        loop,
        checkpoints,
        reporter,
        source.position,
        events,
        prune,
      )
  run.finish(state.params, num_steps=loop.num_steps)
  return state.params
