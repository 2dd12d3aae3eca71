"""Grain pipelines: shuffled, restartable batches of examples.

The position in the data is a small JSON value that goes into the checkpoint. A
batch is a pure function of seed and position, whatever the number of threads,
and so is each row of it: of several hosts each makes its own rows, and together
they make the batches of one.
"""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import grain
import numpy as np
from absl import flags

from realm_jax.checks import check_at_least
from realm_jax.data.examples import Example
from realm_jax.errors import UserError

_BATCHES_AHEAD = 4


@dataclass(frozen=True)
class DataConfig:
  """How batches are made; what is in them does not depend on it.

  Attributes:
    num_workers: processes of each host that make examples. 0 makes them in a
      thread beside the training: enough for a CPU, while an accelerator may
      have to wait for it. Where wait_seconds in metrics.jsonl, the time that
      the device was waited for, is near zero, workers help.
  """

  num_workers: int = 0

  def __post_init__(self):
    check_at_least(self, num_workers=0)


class Batches:
  """An endless stream of batches over a set of examples.

  Every epoch visits each example once, in a new order. One that is left out
  gives its place to another, drawn at random.
  """

  def __init__(
    self,
    example_ids: Sequence[int] | np.ndarray,
    make_example: Callable[[int, int], Example | None],
    batch_size: int,
    seed: int,
    rows: Sequence[int] | np.ndarray | None = None,
    config: DataConfig | None = None,
  ):
    """Builds the stream; nothing is read yet.

    Args:
      example_ids: [num_examples] what make_example is called with.
      make_example: (example id, epoch) -> a dictionary of arrays, or None to
        leave the example out.
      batch_size: examples a batch.
      seed: of the order.
      rows: which rows of each batch to make; None for all.
      config: see DataConfig.

    Raises:
      UserError: there are fewer examples than a batch holds, or make_example
        leaves all of them out.
    """
    num_examples = len(example_ids)
    if num_examples < batch_size:
      raise UserError(
        f'There are {num_examples} examples, fewer than the batch size of '
        f'{batch_size}. Lower the batch size or prepare more text.'
      )
    example_ids = np.asarray(example_ids)
    # A stream of nothing would be searched for an example for ever.
    if all(make_example(int(number), 0) is None for number in example_ids):
      raise UserError(
        f'Of {num_examples} sentences or questions no example can be made: '
        'sentences need something to blank out or a block around them, '
        'questions an answer of a few words. Prepare more text.'
      )
    rows = np.arange(batch_size) if rows is None else np.asarray(rows)
    order = grain.MapDataset.range(num_examples).seed(seed).shuffle().repeat()

    def at(index: int, row: int) -> Example:
      place = index // len(rows) * batch_size + int(row)
      epoch = place // num_examples
      example = make_example(int(example_ids[order[place]]), epoch)
      if example is None:
        # Moving up those behind it would take knowing them all.
        rng = np.random.default_rng([seed, place])
        while example is None:
          example = make_example(int(rng.choice(example_ids)), epoch)
      return example

    self._dataset = (
      grain.MapDataset.source(rows)
      .repeat()
      .map_with_index(at)
      .batch(len(rows), drop_remainder=True)
    )
    self._num_workers = (config or DataConfig()).num_workers
    self._next = 0
    self._iterator: grain.DatasetIterator | None = None

  def __iter__(self) -> Iterator[Example]:
    return self

  def __next__(self) -> Example:
    """The next batch: arrays with a leading dimension, of the rows made."""
    if self._iterator is None:
      self._iterator = self._from(self._next)
    batch = next(self._iterator)
    self._next += 1
    return batch

  def position(self) -> dict[str, Any]:
    """Where the stream stands: JSON values, whatever rows and workers."""
    return {'next_index': self._next}

  def seek(self, position: dict[str, Any]) -> None:
    """Goes back to where `position` was taken."""
    self.close()
    self._next = position['next_index']

  def close(self) -> None:
    """Ends the workers; the stream may be read on, by new ones."""
    if self._iterator is not None:
      self._iterator.close()
      self._iterator = None

  def _from(self, number: int) -> grain.DatasetIterator:
    """The batches from one on."""
    # Grain looks for flags of its own, which nobody here parses.
    if not flags.FLAGS.is_parsed():
      flags.FLAGS.mark_as_parsed()
    dataset = self._dataset[number:] if number else self._dataset
    batches = dataset.to_iter_dataset(
      grain.ReadOptions(num_threads=1, prefetch_buffer_size=_BATCHES_AHEAD)
    )
    if self._num_workers:
      batches = batches.mp_prefetch(
        grain.MultiprocessingOptions(num_workers=self._num_workers),
        worker_init_fn=_leave_interrupts,
      )
    return iter(batches)


def _leave_interrupts(worker: int, num_workers: int) -> None:
  """Ctrl-C reaches the workers too; it is the trainer that ends them."""
  del worker, num_workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)
