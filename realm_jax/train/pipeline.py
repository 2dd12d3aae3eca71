"""The next batch, made on the host while the device does a step.

Retrieval needs parameters, and those of the next step are not there before the
last one is done. With retrieve_ahead=1 the queries of a batch are embedded, and
the index searched, with the parameters of one step before; the device does that
before the step that is sent off next, and the host puts the batch together
while the device is busy with it.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from realm_jax.data.batches import Batches


class BatchSource(ABC):
  """Where a stage's batches come from, and the host state behind them.

  As it stands the host state is the position in the data; a source that has
  more overrides the other methods.

  Attributes:
    uses_params: whether a batch depends on the parameters, which is what makes
      it matter when it is begun.
  """

  uses_params = True

  def __init__(self, batches: Batches):
    """Keeps the stream of examples."""
    self._batches = batches

  @abstractmethod
  def begin(self, step: int, params: Any) -> Any:
    """Draws the examples of the next batch and sends off their retrieval.

    Args:
      step: updates done when the batch is used.
      params: to retrieve with; they may be given up as soon as this returns.

    Returns:
      What `finish` takes. Nothing is waited for.
    """

  @abstractmethod
  def finish(self, begun: Any) -> tuple[Any, dict[str, float]]:
    """Waits for what was begun and puts the batch together.

    Returns:
      The batch, of numpy arrays or such as are on devices already, and what was
      measured; 'retrieve_seconds' is the time that retrieval was waited for.
    """

  def next_batch(self, state: Any) -> tuple[Any, dict[str, float]]:
    """The next batch, begun and finished with the parameters of a state."""
    return self.finish(self.begin(int(state.step), state.params))

  def remember(self, begun: Any) -> dict[str, Any]:
    """JSON values from which a finished batch can be made again."""
    del begun
    return {}

  def recall(self, step: int, remembered: dict[str, Any]) -> Any:
    """What `begin` returned, without retrieving anew; `finish` takes it."""
    del remembered
    return self.begin(step, None)

  def start(self, params: Any) -> None:
    """Called once before the first step of a new run."""
    del params

  def data_position(self) -> dict[str, Any]:
    """Where the stream of examples stands: JSON values."""
    return self._batches.position()

  def position(self, step: int) -> dict[str, Any]:
    """JSON values from which `resume` can go on, but for those of the data.

    Args:
      step: updates done.
    """
    del step
    return {}

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """Goes back to where a checkpoint was saved.

    Args:
      position: JSON values of `position`, and as 'data' those of the data.
      step: updates done.
      params: of the checkpoint.
    """
    del step, params
    self._batches.seek(position['data'])

  def prune(self, oldest: dict[str, Any]) -> None:
    """Deletes what no position from `oldest` on needs."""
    del oldest

  def close(self) -> None:
    """Ends what runs beside the training."""
    self._batches.close()


class _Ahead(NamedTuple):
  """A batch that is made before its turn.

  Attributes:
    begun: what the source has begun.
    data: where the stream of examples stood before it.
    batch: with what was measured, when it is finished.
  """

  begun: Any
  data: dict[str, Any]
  batch: tuple[Any, dict[str, float]] | None = None


class Pipeline:
  """Hands out the batches of a source, made ahead or when asked for.

  What does not depend on parameters is always made ahead.
  """

  def __init__(
    self,
    source: BatchSource,
    num_steps: int,
    retrieve_ahead: int = 0,
    place: Callable[[Any], Any] = jax.device_put,
  ):
    """Keeps its arguments.

    Args:
      source: of the batches.
      num_steps: of the run; nothing is made for a later one.
      retrieve_ahead: 0 or 1; see LoopConfig.
      place: puts a batch on the devices.
    """
    self._source = source
    self._num_steps = num_steps
    self._makes_ahead = bool(retrieve_ahead) or not source.uses_params
    self._place = place
    self._ahead: _Ahead | None = None

  def take(self, step: int, params: Any) -> tuple[Any, dict[str, float]]:
    """The batch of a step, on the devices, and what was measured of it."""
    if self._ahead is None:
      return self._finish(self._source.begin(step, params))
    assert self._ahead.batch is not None
    batch, self._ahead = self._ahead.batch, None
    return batch

  def begin(self, step: int, params: Any) -> None:
    """Sends off the retrieval for the batch of a later step.

    Args:
      step: which; with none ahead, or after the last one, nothing is done.
      params: may be given up, by a step that donates them, as soon as this
        returns.
    """
    if self._makes_ahead and step < self._num_steps:
      data = self._source.data_position()
      self._ahead = _Ahead(self._source.begin(step, params), data)

  def finish(self) -> None:
    """Puts together what was begun: the host's part, while the device works."""
    if self._ahead is not None:
      batch = self._finish(self._ahead.begun)
      self._ahead = self._ahead._replace(batch=batch)

  def _finish(self, begun: Any) -> tuple[Any, dict[str, float]]:
    start = time.perf_counter()
    batch, measured = self._source.finish(begun)
    batch = self._place(batch)
    seconds = time.perf_counter() - start
    retrieving = measured.get('retrieve_seconds', 0.0)
    return batch, {**measured, 'gather_seconds': seconds - retrieving}

  def position(self, step: int) -> dict[str, Any]:
    """JSON values from which `resume` goes on; taken between steps."""
    position = self._source.position(step)
    if self._ahead is None:
      return {**position, 'data': self._source.data_position()}
    ahead = self._source.remember(self._ahead.begun)
    return {**position, 'data': self._ahead.data, 'ahead': ahead}

  def resume(self, position: dict[str, Any], step: int, params: Any) -> None:
    """Goes back to a position, and makes what was ahead there once more.

    Args:
      position: of `position`.
      step: updates done.
      params: of the checkpoint.
    """
    self._source.resume(position, step, params)
    if 'ahead' in position:
      begun = self._source.recall(step, position['ahead'])
      self._ahead = _Ahead(begun, position['data'])
      self.finish()
