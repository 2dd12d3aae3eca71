"""Examples of a task -> seqio source, preprocessors and features (adapter)."""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from realm_jax.data.examples import Example
from realm_jax.errors import UserError
from realm_jax.optional import require

Shapes = Mapping[str, tuple[int, ...]]

# seqio's ending for the text behind a token feature.
RAW = '_pretokenized'

_TOKEN_FEATURES = (
  'query_ids',
  'mlm_targets',
  'title_ids',
  'body_ids',
  'question_ids',
  'answer_ids',
)


@dataclass(frozen=True)
class TaskExamples:
  """The examples of one task.

  Attributes:
    name: of the task.
    ids: split -> [num_examples] ints, what `make` is called with.
    make: (split, id, epoch) -> an example, or None to leave it out.
    shapes: of the features for the model; all are int32. Together with
      extra_shapes these name all that an example has.
    extra_shapes: of what goes with them and is no seqio feature, so that
      mixtures leave it out; strings where the name ends in RAW, else int32.
  """

  name: str
  ids: Mapping[str, np.ndarray]
  make: Callable[[str, int, int], Example | None]
  shapes: Shapes
  extra_shapes: Shapes


def make_source(examples: TaskExamples) -> Any:
  """A seqio source of places in a split, ascending; see make_preprocessor."""
  seqio, tf = require('seqio', 'data'), require('tensorflow', 'data')
  splits = list(examples.ids)

  def dataset(split: str, shuffle_files: bool, seed: Any = None) -> Any:
    if split not in splits:
      raise UserError(
        f'Task {examples.name} has no split {split!r}, expected one of '
        f'{", ".join(splits)}.'
      )
    if seed is None:
      seed = int(np.random.default_rng().integers(2**31))
    element = {
      'split': tf.constant(splits.index(split)),
      'shuffled': tf.constant(shuffle_files),
      'seed': tf.cast(seed, tf.int64),
    }
    return tf.data.Dataset.range(len(examples.ids[split])).map(
      lambda place: {'place': place, **element}
    )

  return seqio.FunctionDataSource(
    dataset,
    splits=splits,
    num_input_examples={s: len(ids) for s, ids in examples.ids.items()},
  )


def make_preprocessor(examples: TaskExamples) -> Callable:
  """What makes the examples of a make_source dataset, in its order.

  seqio repeats a source before its preprocessors see it, and names no epoch.
  Places ascend within an epoch, in any shard: where they fall back, the next
  one begins. Shuffling is a permutation of all places, another one for every
  epoch and task, so that it needs no buffer and a mixture of tasks over the
  same sentences does not meet each of them several times in a row.
  """
  tf = require('tensorflow', 'data')
  splits = list(examples.ids)
  shapes = {**examples.shapes, **examples.extra_shapes}
  own_seed = zlib.crc32(examples.name.encode('utf-8'))
  # What stands for an example that is left out, until it is dropped.
  blank = {
    name: np.full(shape, b'', object)
    if name.endswith(RAW)
    else np.zeros(shape, np.int32)
    for name, shape in shapes.items()
  }

  def add_epoch(state: Any, element: dict[str, Any]) -> Any:
    last, epoch = state
    epoch += tf.cast(element['place'] <= last, tf.int64)
    return (element['place'], epoch), element | {'epoch': epoch}

  def permuted_place(element: dict[str, Any]) -> Any:
    sizes = [len(examples.ids[split]) for split in splits]
    return tf.random.experimental.index_shuffle(
      element['place'],
      tf.stack([element['seed'] + own_seed, element['epoch']]),
      tf.constant(sizes, tf.int64)[element['split']] - 1,
    )

  def make(number: int, place: int, epoch: int) -> tuple:
    split = splits[number]
    example = examples.make(split, int(examples.ids[split][place]), int(epoch))
    if example is None:
      return False, *blank.values()
    if example.keys() != blank.keys():
      raise ValueError(
        f'An example of {examples.name} has {sorted(example)}, but its shapes '
        f'are those of {sorted(blank)}.'
      )
    return True, *(example[name] for name in blank)

  def to_example(element: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    place = tf.where(
      element['shuffled'], permuted_place(element), element['place']
    )
    is_there, *arrays = tf.numpy_function(
      make,
      [element['split'], place, element['epoch']],
      [tf.bool, *(tf.as_dtype(array.dtype) for array in blank.values())],
      stateful=False,
    )
    return tf.ensure_shape(is_there, ()), {
      name: tf.ensure_shape(array, shape)
      for (name, shape), array in zip(shapes.items(), arrays, strict=True)
    }

  def preprocess(dataset: Any) -> Any:
    start = (tf.constant(-1, tf.int64), tf.constant(0, tf.int64))
    return (
      dataset.scan(start, add_epoch)
      .map(to_example, tf.data.AUTOTUNE, deterministic=True)
      .filter(lambda is_there, _: is_there)
      .map(lambda _, example: example)
    )

  return preprocess


def make_shape_check(examples: TaskExamples) -> Callable:
  """What comes last: shapes, which seqio's cache forgets, are known again."""
  tf = require('tensorflow', 'data')
  shapes = {**examples.shapes, **examples.extra_shapes}

  def check(
    dataset: Any, sequence_length: Mapping[str, Any] | None = None
  ) -> Any:
    _check_sequence_length(examples, sequence_length or {})
    return dataset.map(
      lambda example: {
        name: tf.ensure_shape(example[name], shape)
        for name, shape in shapes.items()
      }
    )

  return check


def _check_sequence_length(
  examples: TaskExamples, sequence_length: Mapping[str, Any]
) -> None:
  """Refuses to cut features, whose lengths would then be wrong."""
  for name, shape in examples.shapes.items():
    limits = sequence_length.get(name)
    if limits is None:
      continue
    limits = (limits,) if isinstance(limits, int) else tuple(limits)
    if len(limits) > len(shape) or any(
      limit is not None and limit < size
      for limit, size in zip(limits, shape, strict=False)
    ):
      raise UserError(
        f'sequence_length of {name} is {limits}, but in task {examples.name} '
        f'it has shape {shape}. Leave it out of sequence_length, and give '
        'register_tasks other Lengths.'
      )


def make_features(vocabulary: Any, shapes: Shapes) -> dict[str, Any]:
  """seqio features: token ids of the vocabulary, and numbers."""
  seqio, tf = require('seqio', 'data'), require('tensorflow', 'data')
  numbers = seqio.PassThroughVocabulary(size=0)
  return {
    name: seqio.Feature(
      vocabulary if name in _TOKEN_FEATURES else numbers,
      add_eos=False,
      dtype=tf.int32,
      rank=len(shape),
    )
    for name, shape in shapes.items()
  }
