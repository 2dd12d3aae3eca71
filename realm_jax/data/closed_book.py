"""Questions as blanks to fill in, without any document.

The closed-book baseline: the reader sees [CLS] question [MASK] ... [MASK] [SEP]
[SEP] and predicts the answer's pieces, then [SEP] where it ends. All pieces are
predicted at once, so this is a weak generator; what it measures is how much is
known without documents.
"""

import numpy as np

from realm_jax.data.corpus import BlockTokens
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.featurize import (
  PAIR_SPECIALS,
  QUERY_SPECIALS,
  Ragged,
  joint_inputs,
  null_document_inputs,
  query_inputs,
)
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.types import PretrainBatch, TextInputs


def closed_book_lens(question_lens: np.ndarray, lengths: Lengths) -> np.ndarray:
  """Real tokens that the reader sees of each question: [batch] int32.

  Args:
    question_lens: [batch] int32; without special tokens.
    lengths: query_len and max_masks are used.
  """
  num_masks = lengths.max_masks
  room = lengths.query_len - QUERY_SPECIALS - num_masks
  return np.minimum(question_lens, room) + num_masks + PAIR_SPECIALS


def closed_book_batch(
  examples: Example,
  wordpiece: WordPiece,
  lengths: Lengths,
  joint_len: int | None = None,
) -> PretrainBatch:
  """A pre-training batch whose only candidate is the null document.

  Args:
    examples: rows of QAExamples; the first answer is the target.
    wordpiece: for the special tokens.
    lengths: query_len and max_masks are used.
    joint_len: to pad to; None for what these rows need.

  Raises:
    UserError: beside the blanks no piece of a question has room.
  """
  batch = len(examples['question_lens'])
  num_masks = lengths.max_masks
  # Questions are cut so that the blanks fit.
  room = lengths.query_len - QUERY_SPECIALS - num_masks
  if room < 1:
    raise UserError(
      f'Lengths.max_masks is {num_masks}, expected at most '
      f'{room + num_masks - 1} with a query_len of {lengths.query_len}: '
      'questions need room too.'
    )
  lens = np.minimum(examples['question_lens'], room)
  token_ids = np.zeros((batch, room + num_masks), np.int32)
  token_ids[:, :room] = examples['question_ids'][:, :room]
  # [batch, max_masks]; columns of the blanks in the query
  blanks = lens[:, None] + np.arange(num_masks)
  np.put_along_axis(token_ids, blanks, wordpiece.mask_id, axis=1)
  targets, target_lens = _targets(examples, wordpiece, num_masks)
  queries = Ragged(token_ids, lens + num_masks)
  empty = BlockTokens(
    title_ids=np.zeros((batch, 1, 0), np.int32),
    title_len=np.zeros((batch, 1), np.int32),
    body_ids=np.zeros((batch, 1, 0), np.int32),
    body_len=np.zeros((batch, 1), np.int32),
  )
  no_documents = np.zeros((batch, 0, 1), np.int32)
  return PretrainBatch(
    query=query_inputs(queries, lengths.query_len, wordpiece),
    documents=TextInputs(no_documents, no_documents, no_documents),
    null_document=null_document_inputs(wordpiece),
    joint=joint_inputs(
      queries,
      empty,
      wordpiece,
      joint_len or lengths.multiple,
      joint_len or lengths.joint_len,
    ),
    candidate_mask=np.ones((batch, 1), np.int32),
    mlm_positions=blanks.astype(np.int32) + 1,
    mlm_targets=targets,
    mlm_mask=(np.arange(num_masks) < target_lens[:, None]).astype(np.int32),
    null_bias=np.float32(0),
  )


def _targets(
  examples: Example, wordpiece: WordPiece, num_masks: int
) -> tuple[np.ndarray, np.ndarray]:
  """The first usable answer and [SEP]: [batch, max_masks], lengths [batch]."""
  rows = np.arange(len(examples['question_lens']))
  first = (examples['answer_lens'] > 0).argmax(axis=1)
  answers = examples['answer_ids'][rows, first]
  lens = np.minimum(examples['answer_lens'][rows, first], num_masks - 1)
  targets = np.zeros((len(rows), num_masks), np.int32)
  width = min(answers.shape[1], num_masks)
  targets[:, :width] = answers[:, :width]
  targets[rows, lens] = wordpiece.sep_id
  return targets, lens + 1


def closed_book_answer(token_ids: np.ndarray, wordpiece: WordPiece) -> str:
  """The text of predicted pieces, up to the first [SEP]."""
  ends = np.flatnonzero(token_ids == wordpiece.sep_id)
  stop = int(ends[0]) if ends.size else len(token_ids)
  return wordpiece.decode(token_ids[:stop])
