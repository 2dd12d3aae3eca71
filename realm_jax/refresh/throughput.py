"""How fast blocks are embedded, and how much of the work is padding."""

import time
from collections import Counter

from realm_jax.types import TextInputs


class Throughput:
  """What was embedded, and the time it took.

  Attributes:
    num_blocks: blocks embedded.
    num_tokens: their wordpieces, special tokens included, padding not.
    num_texts: padded length -> texts embedded at that length, those that fill
      up a batch included.
    seconds: from start to stop, compilation included.
  """

  def __init__(self):
    """Starts the clock."""
    self.num_blocks = 0
    self.num_tokens = 0
    self.num_texts: Counter[int] = Counter()
    self.seconds = 0.0
    self._start = time.perf_counter()

  def add(self, num_blocks: int, inputs: TextInputs) -> None:
    """Counts a batch.

    Args:
      num_blocks: the first texts of it; the others fill it up.
      inputs: [num_texts, length].
    """
    num_texts, length = inputs.token_ids.shape
    self.num_blocks += num_blocks
    self.num_tokens += int(inputs.mask[:num_blocks].sum())
    self.num_texts[length] += num_texts

  def stop(self) -> None:
    """Stops the clock."""
    self.seconds = time.perf_counter() - self._start

  @property
  def blocks_per_second(self) -> float:
    """0 where nothing was embedded."""
    return self.num_blocks / self.seconds if self.num_blocks else 0.0

  @property
  def tokens_per_second(self) -> float:
    """Of real tokens; 0 where nothing was embedded."""
    return self.num_tokens / self.seconds if self.num_blocks else 0.0

  @property
  def padding_share(self) -> float:
    """Of the places that were computed, those without a token; 0 to 1."""
    places = sum(length * num for length, num in self.num_texts.items())
    return 1 - self.num_tokens / places if places else 0.0
