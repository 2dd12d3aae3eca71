"""A tensor that lies in some file."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

ALL = slice(None)


class Entry(NamedTuple):
  """A tensor of a file.

  Attributes:
    key: its name.
    shape: its shape.
    read: slice of rows, or ALL -> values; reads no more than these where it
      can.
  """

  key: str
  shape: tuple[int, ...]
  read: Callable[[slice], np.ndarray]
