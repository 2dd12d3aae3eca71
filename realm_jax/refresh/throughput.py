"""How fast blocks are embedded, and how much of the work is padding."""

import time
from collections import Counter

import numpy as np


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

  def add(self, block_lens: np.ndarray, num_texts: int, length: int) -> None:
    """Counts a batch.

    Args:
      block_lens: [num_blocks] int; real tokens of each block, if there were
        room for them.
      num_texts: in the batch; those that are no blocks fill it up.
      length: that texts are padded or cut to.
    """
    self.num_blocks += len(block_lens)
    self.num_tokens += int(np.minimum(block_lens, length).sum())
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
