"""Examples of tasks -> the library's batches: seqio feature converters.

They go as far as batches go without an index. A field of a batch that is
TextInputs is three features, 'query.token_ids', 'query.mask' and
'query.segment_ids'; text_inputs puts them together again. All features are
int32 and of fixed shape, made by the functions that the trainer calls. Adapter;
extra `data`.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from realm_jax.data.corpus import BlockTokens
from realm_jax.data.examples import (
  Example,
  Lengths,
  inverse_cloze_shapes,
  masked_shapes,
)
from realm_jax.data.featurize import Ragged, document_inputs, query_inputs
from realm_jax.data.qa_examples import question_shapes
from realm_jax.data.seqio_pipeline import Shapes
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.optional import require
from realm_jax.types import TextInputs


def pretrain_converter(wordpiece: WordPiece, lengths: Lengths) -> Any:
  """For the masked tasks: what a PretrainBatch is made of.

  Features: query; mlm_positions, mlm_targets, mlm_mask; and what finds and
  joins the candidates, query_ids, query_lens, source_block_id, sentence_id.
  train.pretrain_source.pretrain_batch takes them as `examples`.

  Args:
    wordpiece: of the corpus.
    lengths: those that the tasks were registered with.

  Returns:
    A seqio.FeatureConverter; its task_feature_lengths are what
    seqio.get_dataset wants to be given beside it.

  Raises:
    ImportError: seqio is not installed.
  """

  def convert(examples: Example) -> Example:
    queries = Ragged(examples['query_ids'], examples['query_lens'])
    query = query_inputs(queries, lengths.query_len, wordpiece)
    return {**examples, **_named('query', query)}

  shapes = masked_shapes(lengths)
  return _converter_class()(
    shapes, {**shapes, **_named_shapes('query', lengths.query_len)}, convert
  )


def finetune_converter(wordpiece: WordPiece, lengths: Lengths) -> Any:
  """For the question tasks: what a QABatch is made of.

  Features: question; answer_ids, answer_lens; and question_ids, question_lens,
  which join the question and the blocks found. train.qa_source.read_inputs
  takes them as `examples`. Arguments, result and errors: see
  pretrain_converter.
  """

  def convert(examples: Example) -> Example:
    token_ids = examples['question_ids']
    # No text has [PAD] among its tokens, and [PAD] is 0.
    lens = (token_ids != 0).sum(axis=1, dtype=np.int32)
    question = query_inputs(
      Ragged(token_ids, lens), lengths.query_len, wordpiece
    )
    return {**examples, 'question_lens': lens, **_named('question', question)}

  shapes = {
    name: shape for name, shape in question_shapes(lengths).items() if shape
  }
  return _converter_class()(
    shapes,
    {
      **shapes,
      'question_lens': (),
      **_named_shapes('question', lengths.query_len),
    },
    convert,
  )


def ict_converter(wordpiece: WordPiece, lengths: Lengths) -> Any:
  """For realm_ict: the fields of an IctBatch without its reader's.

  Features: query, documents, block_ids. Documents are padded to document_len,
  not to a multiple. Arguments, result and errors: see pretrain_converter.
  """

  def convert(examples: Example) -> Example:
    queries = Ragged(examples['query_ids'], examples['query_lens'])
    blocks = BlockTokens(
      examples['title_ids'],
      examples['title_lens'],
      examples['body_ids'],
      examples['body_lens'],
    )
    full = lengths.document_len
    documents = document_inputs(blocks, wordpiece, full, full)
    return {
      **_named('query', query_inputs(queries, lengths.query_len, wordpiece)),
      **_named('documents', documents),
      'block_ids': examples['block_id'],
    }

  return _converter_class()(
    inverse_cloze_shapes(lengths),
    {
      **_named_shapes('query', lengths.query_len),
      **_named_shapes('documents', lengths.document_len),
      'block_ids': (),
    },
    convert,
  )


def text_inputs(batch: Mapping[str, Any], name: str) -> TextInputs:
  """A field of a batch, out of its three features."""
  return TextInputs(*(batch[f'{name}.{part}'] for part in TextInputs._fields))


def _named(name: str, inputs: TextInputs) -> Example:
  return {f'{name}.{part}': array for part, array in inputs._asdict().items()}


def _named_shapes(name: str, length: int) -> dict[str, tuple[int, ...]]:
  return {f'{name}.{part}': (length,) for part in TextInputs._fields}


@functools.cache
def _converter_class() -> type:
  # Defined here because its base class is there only with the extra.
  seqio, tf = require('seqio', 'data'), require('tensorflow', 'data')

  class BatchConverter(seqio.FeatureConverter):  # type: ignore[name-defined]
    """Features of a task -> features of a batch, by a numpy function.

    Attributes:
      task_feature_lengths: name -> first dimension, None for a number.
    """

    def __init__(
      self,
      task_shapes: Shapes,
      model_shapes: Shapes,
      convert: Callable[[Example], Example],
    ):
      """Keeps its arguments; convert takes and gives a batch of one."""
      self.TASK_FEATURES = self._specs(task_shapes)
      self.MODEL_FEATURES = self._specs(model_shapes)
      super().__init__(pack=False)
      self.task_feature_lengths = _first_dimensions(task_shapes)
      self._task_shapes = task_shapes
      self._model_shapes = model_shapes
      self._convert = convert

    def _specs(self, shapes: Shapes) -> dict[str, Any]:
      return {
        name: self.FeatureSpec(tf.int32, rank=len(shape))
        for name, shape in shapes.items()
      }

    def get_model_feature_lengths(
      self, task_feature_lengths: Mapping[str, Any]
    ) -> dict[str, int | None]:
      del task_feature_lengths  # of no effect: all shapes are fixed
      return _first_dimensions(self._model_shapes)

    def _convert_features(
      self, ds: Any, task_feature_lengths: Mapping[str, Any]
    ) -> Any:
      del task_feature_lengths
      self._check_shapes(ds.element_spec)
      return ds.map(self._convert_one, tf.data.AUTOTUNE, deterministic=True)

    def _convert_one(self, example: dict[str, Any]) -> dict[str, Any]:
      names, shapes = self._task_shapes.keys(), self._model_shapes

      def convert(*arrays: np.ndarray) -> list[np.ndarray]:
        examples = {
          name: np.asarray(array)[None]
          for name, array in zip(names, arrays, strict=True)
        }
        converted = self._convert(examples)
        return [converted[name][0] for name in shapes]

      arrays = tf.numpy_function(
        convert,
        [example[name] for name in names],
        [tf.int32] * len(shapes),
        stateful=False,
      )
      return {
        name: tf.ensure_shape(array, shape)
        for (name, shape), array in zip(shapes.items(), arrays, strict=True)
      }

    def _check_shapes(self, spec: Mapping[str, Any]) -> None:
      for name, shape in self._task_shapes.items():
        if tuple(spec[name].shape) != shape:
          raise UserError(
            f'{name} of the task has shape {tuple(spec[name].shape)}, but the '
            f'converter was made for {shape}. Give the converter the Lengths '
            'that the tasks were registered with.'
          )

  return BatchConverter


def _first_dimensions(shapes: Shapes) -> dict[str, int | None]:
  return {name: shape[0] if shape else None for name, shape in shapes.items()}
