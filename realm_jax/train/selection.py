"""The parameters that did best on questions that are not trained on."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from realm_jax import hosts
from realm_jax.train.checkpoint import load_params, save_params
from realm_jax.train.loop import Event
from realm_jax.train.reporting import read_metrics


class BestOnDev:
  """Measures as a run trains, keeps the best parameters, says when to stop.

  What was measured stands in the run's metrics.jsonl, as dev_METRIC; the best
  parameters lie in best/STEP. A run that is resumed goes on from what had been
  measured at its checkpoint.
  """

  def __init__(
    self,
    folder: Path,
    measure: Callable[[Any], dict[str, float]],
    metric: str,
    every: int,
    patience: int = 0,
  ):
    """Keeps its arguments.

    Args:
      folder: of the run.
      measure: parameters -> metrics by name.
      metric: the one that counts; more is better, of equals the first.
      every: steps between measurements; there is one at the end as well.
      patience: measurements without a better one after which training stops;
        0 for never.
    """
    self._folder = folder
    self._measure = measure
    self._metric = metric
    self._every = every
    self._patience = patience
    self._values: dict[int, float] = {}  # by steps done

  def resume(self, step: int) -> None:
    """Goes back to a checkpoint: what was measured later does not count.

    Args:
      step: updates done.
    """
    name = f'dev_{self._metric}'
    self._values = {
      int(record['step']): record[name]
      for record in read_metrics(self._folder)
      if name in record and record['step'] <= step
    }

  def event(self) -> Event:
    """The measurement, for the loop."""
    return Event(self._every, self._act)

  def _act(self, step: int, params: Any) -> dict[str, float]:
    measured = self._measure(params)
    self._values[step] = measured[self._metric]
    if self.best_step == step:
      save_params(self._folder_of(step), params)
    return {f'dev_{name}': value for name, value in measured.items()}

  def _folder_of(self, step: int) -> Path:
    return self._folder / 'best' / f'{step:08d}'

  @property
  def best_step(self) -> int:
    """Updates done at the best measurement; ValueError if there is none."""
    return max(self._values, key=lambda step: (self._values[step], -step))

  def has_seen_enough(self) -> bool:
    """Whether as many measurements as patience allows brought nothing."""
    if not self._patience or not self._values:
      return False
    since = sum(step > self.best_step for step in self._values)
    return since >= self._patience

  def best_params(self, params: Any) -> Any:
    """The best parameters, on one device.

    Args:
      params: for structure, shapes and dtypes.
    """
    return load_params(self._folder_of(self.best_step), params)

  def prune(self) -> None:
    """Deletes parameters that were surpassed before a checkpoint."""
    if not self._values or not hosts.is_first():
      return
    for folder in (self._folder / 'best').glob('[0-9]*'):
      if folder != self._folder_of(self.best_step):
        shutil.rmtree(folder, ignore_errors=True)
