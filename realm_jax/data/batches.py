"""Grain pipelines: shuffled, restartable batches of examples.

The position in the data is a small JSON value that goes into the checkpoint. A
batch is a pure function of seed and position, whatever the number of threads.
"""

from collections.abc import Callable, Sequence
from typing import Any

import grain
import numpy as np

from realm_jax.data.examples import Example
from realm_jax.errors import UserError


class Batches:
  """An endless stream of batches over a set of examples.

  Every epoch visits each example once, in a new order.
  """

  def __init__(
    self,
    example_ids: Sequence[int] | np.ndarray,
    make_example: Callable[[int, int], Example | None],
    batch_size: int,
    seed: int,
  ):
    """Builds the stream; nothing is read yet.

    Args:
      example_ids: [num_examples] what make_example is called with.
      make_example: (example id, epoch) -> a dictionary of arrays, or None to
        leave the example out.
      batch_size: examples a batch.
      seed: of the order.

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

    def at(index: int, position: int) -> Example | None:
      return make_example(int(example_ids[position]), index // num_examples)

    dataset = (
      grain.MapDataset.range(num_examples)
      .seed(seed)
      .shuffle()
      .repeat()
      .map_with_index(at)
      .to_iter_dataset(
        grain.ReadOptions(num_threads=1, prefetch_buffer_size=4 * batch_size)
      )
      .batch(batch_size, drop_remainder=True)
    )
    self._iterator = iter(dataset)

  def __iter__(self):
    return self

  def __next__(self) -> Example:
    """The next batch: arrays with a leading batch dimension."""
    return next(self._iterator)

  def position(self) -> dict[str, Any]:
    """Where the stream stands: JSON values."""
    return self._iterator.get_state()

  def seek(self, position: dict[str, Any]) -> None:
    """Goes back to where `position` was taken."""
    self._iterator.set_state(position)
