"""Tasks that seqio's own tool can cache (adapter; extra `data`)."""

import functools
from typing import Any

from realm_jax.data.seqio_pipeline import (
  TaskExamples,
  make_preprocessor,
  make_shape_check,
  make_source,
)
from realm_jax.optional import require


def cacheable_task(name: str, examples: TaskExamples, **settings: Any) -> Any:
  """A seqio.Task over examples.

  Read as it is, it makes its examples anew in every epoch. With use_cached it
  reads what `seqio_cache_tasks` wrote: the examples of the first epoch, in
  every epoch the same ones.

  Args:
    name: of the task.
    examples: what it yields.
    **settings: further arguments of seqio.Task.

  Raises:
    ImportError: seqio is not installed.
  """
  return _task_class()(name, examples, **settings)


@functools.cache
def _task_class() -> type:
  # Defined here because its base class is there only with the extra.
  seqio = require('seqio', 'data')

  class CacheableTask(seqio.Task):  # type: ignore[name-defined]
    """See cacheable_task.

    seqio repeats a task before what follows the placeholder, and never what
    precedes it. So a task with one would have the first epoch's examples for
    ever, cached or not; without one the tool leaves it out.
    """

    def __init__(self, name: str, examples: TaskExamples, **settings: Any):
      make, check = make_preprocessor(examples), make_shape_check(examples)
      settings['source'] = make_source(examples)
      placeholder = seqio.CacheDatasetPlaceholder()
      super().__init__(
        name, preprocessors=[make, placeholder, check], **settings
      )
      self._uncached = seqio.Task(name, preprocessors=[make, check], **settings)

    def get_dataset(
      self,
      sequence_length: Any = None,
      split: str = 'train',
      use_cached: bool = False,
      *args: Any,
      **settings: Any,
    ) -> Any:
      read = super().get_dataset if use_cached else self._uncached.get_dataset
      return read(sequence_length, split, use_cached, *args, **settings)

    def replace(self, **properties: Any) -> Any:
      """A variant of the task, which cannot be cached."""
      return self._uncached.replace(**properties)

  return CacheableTask
