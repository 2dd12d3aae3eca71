"""Token sequences -> fixed-length inputs of the embedder and the reader.

    query      [CLS] query [SEP]                      segment 0
    document   [CLS] title [SEP] body [SEP]           segments 0, 0, 0, 1, 1
    joint      [CLS] query [SEP] body [SEP]           segments 0, 0, 0, 1, 1

The reader is not given the title. The null document has neither title nor body.
All functions are vectorised over leading dimensions. Source: the original
code's featurizers, reference in the documentation.
"""

from typing import NamedTuple

import numpy as np

from realm_jax.data.corpus import BlockTokens
from realm_jax.data.wordpiece import WordPiece
from realm_jax.types import TextInputs

# [CLS] and two [SEP] around a pair; [CLS] and one [SEP] around a query.
PAIR_SPECIALS = 3
QUERY_SPECIALS = 2


class Ragged(NamedTuple):
  """Sequences of different lengths, padded.

  Attributes:
    token_ids: [..., max_length] int32.
    lens: [...] int32; real tokens of each.
  """

  token_ids: np.ndarray
  lens: np.ndarray


def ragged(sequences: list[np.ndarray]) -> Ragged:
  """Pads a list of [length] int arrays to [num_sequences, max_length]."""
  lens = np.array([len(sequence) for sequence in sequences], np.int32)
  token_ids = np.zeros((len(sequences), int(lens.max(initial=0))), np.int32)
  for row, sequence in zip(token_ids, sequences, strict=True):
    row[: len(sequence)] = sequence
  return Ragged(token_ids, lens)


def bucket_len(needed: int, multiple: int, longest: int) -> int:
  """The length to pad to: few distinct ones, so that few steps are compiled.

  Args:
    needed: tokens of the longest row.
    multiple: lengths are multiples of this.
    longest: never longer than this; rows beyond it are cut.
  """
  return min(longest, -(-needed // multiple) * multiple)


def _fill(out: np.ndarray, tokens: Ragged, start: np.ndarray) -> None:
  """Writes row i of tokens into out[i, start[i]:start[i] + lens[i]]."""
  width = tokens.token_ids.shape[-1]
  # [num_rows, width]
  real = np.arange(width) < tokens.lens[:, None]
  rows, columns = np.nonzero(real)
  out[rows, start[rows] + columns] = tokens.token_ids[rows, columns]


def query_inputs(
  queries: Ragged, length: int, wordpiece: WordPiece
) -> TextInputs:
  """[CLS] query [SEP], queries cut to length - 2. [batch, length] each."""
  lens = np.minimum(queries.lens, length - QUERY_SPECIALS)
  token_ids = np.zeros((len(lens), length), np.int32)
  token_ids[:, 0] = wordpiece.cls_id
  start = np.ones_like(lens)
  _fill(token_ids, Ragged(queries.token_ids, lens), start)
  token_ids[np.arange(len(lens)), 1 + lens] = wordpiece.sep_id
  mask = np.arange(length) < (lens + QUERY_SPECIALS)[:, None]
  return TextInputs(token_ids, mask.astype(np.int32), np.zeros_like(token_ids))


def pair_inputs(
  first: Ragged, second: Ragged, length: int, wordpiece: WordPiece
) -> TextInputs:
  """[CLS] first [SEP] second [SEP].

  The first part is kept before the second, which gets what room is left.

  Args:
    first: token_ids [..., first_len], lens [...].
    second: token_ids [..., second_len], lens [...].
    length: of the result.
    wordpiece: for the special tokens.

  Returns:
    [..., length] each; segment 1 is the second part and the last [SEP].
  """
  leading = first.lens.shape
  first, second = (
    Ragged(
      part.token_ids.reshape(part.lens.size, part.token_ids.shape[-1]),
      part.lens.reshape(-1),
    )
    for part in (first, second)
  )
  first_lens = np.minimum(first.lens, length - PAIR_SPECIALS)
  second_lens = np.minimum(second.lens, length - PAIR_SPECIALS - first_lens)
  num_rows = len(first_lens)
  rows = np.arange(num_rows)
  token_ids = np.zeros((num_rows, length), np.int32)
  token_ids[:, 0] = wordpiece.cls_id
  _fill(
    token_ids, Ragged(first.token_ids, first_lens), np.ones_like(first_lens)
  )
  token_ids[rows, 1 + first_lens] = wordpiece.sep_id
  second_start = first_lens + 2
  _fill(token_ids, Ragged(second.token_ids, second_lens), second_start)
  total = second_start + second_lens + 1
  token_ids[rows, total - 1] = wordpiece.sep_id
  # [num_rows, length]
  position = np.arange(length)
  mask = position < total[:, None]
  segment_ids = mask & (position >= second_start[:, None])
  return TextInputs(
    *(
      array.astype(np.int32).reshape(*leading, length)
      for array in (token_ids, mask, segment_ids)
    )
  )


def document_inputs(
  blocks: BlockTokens, wordpiece: WordPiece, multiple: int, longest: int
) -> TextInputs:
  """Title and body as the embedder reads them. [..., document_len] each."""
  needed = int((blocks.title_len + blocks.body_len).max(initial=0))
  length = bucket_len(needed + PAIR_SPECIALS, multiple, longest)
  return pair_inputs(
    Ragged(blocks.title_ids, blocks.title_len),
    Ragged(blocks.body_ids, blocks.body_len),
    length,
    wordpiece,
  )


def null_document_inputs(wordpiece: WordPiece) -> TextInputs:
  """[CLS] [SEP] [SEP]: the null document for the embedder. [1, 3] each."""
  empty = Ragged(np.zeros((1, 0), np.int32), np.zeros(1, np.int32))
  return pair_inputs(empty, empty, PAIR_SPECIALS, wordpiece)


def joint_inputs(
  queries: Ragged,
  blocks: BlockTokens,
  wordpiece: WordPiece,
  multiple: int,
  longest: int,
) -> TextInputs:
  """Query and body as the reader reads them.

  Args:
    queries: token_ids [batch, query_len], lens [batch]; already cut.
    blocks: of [batch, num_candidates] documents.
    wordpiece: for the special tokens.
    multiple: joint_len is a multiple of this, where longest allows.
    longest: at most so many tokens; bodies are cut.

  Returns:
    [batch, num_candidates, joint_len] each.
  """
  num_candidates = blocks.body_len.shape[1]
  needed = int((queries.lens[:, None] + blocks.body_len).max(initial=0))
  length = bucket_len(needed + PAIR_SPECIALS, multiple, longest)
  repeated = Ragged(
    np.repeat(queries.token_ids[:, None], num_candidates, axis=1),
    np.repeat(queries.lens[:, None], num_candidates, axis=1),
  )
  bodies = Ragged(blocks.body_ids, blocks.body_len)
  return pair_inputs(repeated, bodies, length, wordpiece)
