"""The corpus's WordPiece as a seqio vocabulary (adapter; extra `data`)."""

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np

from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.optional import require


def wordpiece_vocabulary(wordpiece: WordPiece) -> Any:
  """A seqio.Vocabulary with the ids of `wordpiece`, in Python and TensorFlow.

  Two of them are equal if their tokens are. There is no end-of-sequence token.
  Decoding leaves [PAD] out, so that padded predictions read well; otherwise it
  is WordPiece.decode.

  Raises:
    ImportError: seqio is not installed.
    UserError: [PAD] is not token 0, as seqio demands.
  """
  if wordpiece.pad_id != 0:
    raise UserError(
      f'[PAD] is token {wordpiece.pad_id} of the vocabulary, expected 0: seqio '
      'pads with zeros. Prepare the corpus with a vocabulary that begins with '
      '[PAD].'
    )
  return _vocabulary_class()(wordpiece)


@functools.cache
def _vocabulary_class() -> type:
  # Defined here because its base class is there only with the extra.
  seqio, tf = require('seqio', 'data'), require('tensorflow', 'data')

  class WordPieceVocabulary(seqio.Vocabulary):  # type: ignore[name-defined]
    """See wordpiece_vocabulary."""

    def __init__(self, wordpiece: WordPiece):
      super().__init__()
      self.wordpiece = wordpiece

    bos_id = property(lambda self: None)
    eos_id = property(lambda self: None)
    unk_id = property(lambda self: self.wordpiece.unk_id)
    _base_vocab_size = property(lambda self: self.wordpiece.size)

    def _encode(self, s: str) -> list[int]:
      return self.wordpiece.encode(s).token_ids.tolist()

    def _decode(self, ids: Iterable[int]) -> str:
      pad_id = self.wordpiece.pad_id
      return self.wordpiece.decode(i for i in ids if i != pad_id)

    def _encode_tf(self, s: Any) -> Any:
      def encode(text: np.ndarray) -> np.ndarray:
        return self.wordpiece.encode(text.item().decode('utf-8')).token_ids

      token_ids = tf.numpy_function(encode, [s], tf.int32, stateful=False)
      return tf.ensure_shape(token_ids, [None])

    def _decode_tf(self, ids: Any) -> Any:
      def decode(ids: np.ndarray) -> np.ndarray:
        rows = ids.reshape(-1, ids.shape[-1])
        texts = [self._decode(row).encode('utf-8') for row in rows]
        return np.array(texts, object).reshape(ids.shape[:-1])

      texts = tf.numpy_function(decode, [ids], tf.string, stateful=False)
      return tf.ensure_shape(texts, ids.shape[:-1])

    def __eq__(self, other: object) -> bool:
      return (
        isinstance(other, WordPieceVocabulary)
        and other.wordpiece.fingerprint == self.wordpiece.fingerprint
      )

    def __hash__(self) -> int:
      return hash(self.wordpiece.fingerprint)

    def __str__(self) -> str:
      return (
        f'WordPieceVocabulary({self.wordpiece.size} tokens, fingerprint '
        f'{self.wordpiece.fingerprint[:12]})'
      )

  return WordPieceVocabulary
