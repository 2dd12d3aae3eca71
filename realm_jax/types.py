"""Tuples of arrays that cross layers. No JAX here: the data side uses them too.

Dimension names are those of the shape comments throughout the library: batch,
num_candidates, query_len, document_len, joint_len, max_masks, embed_dim.
"""

from typing import Any, NamedTuple

Array = Any  # numpy.ndarray or jax.Array

NULL_BLOCK_ID = -1  # the null document: an empty one, in no corpus


class TextInputs(NamedTuple):
  """Token sequences as a BERT encoder reads them, padded with zeros.

  Attributes:
    token_ids: [..., length] int32.
    mask: [..., length] int32; 1 at real tokens, all of which come before the
      padding.
    segment_ids: [..., length] int32; 0 or 1.
  """

  token_ids: Array
  mask: Array
  segment_ids: Array


class PretrainBatch(NamedTuple):
  """What one pre-training step reads. Candidate 0 is the null document.

  Attributes:
    query: [batch, query_len] TextInputs; the masked sentences.
    documents: [batch, num_candidates - 1, document_len] TextInputs; candidates
      1.. as the embedder reads them, title and body.
    null_document: [1, 3] TextInputs; embedded once for the whole batch.
    joint: [batch, num_candidates, joint_len] TextInputs; query and body as the
      reader reads them, the null document in slot 0.
    candidate_mask: [batch, num_candidates] int32; 0 at slots with no document.
    mlm_positions: [batch, max_masks] int32; positions in the joint sequence.
    mlm_targets: [batch, max_masks] int32; token ids to predict.
    mlm_mask: [batch, max_masks] int32; 1 at real targets.
    null_bias: scalar float32; added to the null document's relevance score.
  """

  query: TextInputs
  documents: TextInputs
  null_document: TextInputs
  joint: TextInputs
  candidate_mask: Array
  mlm_positions: Array
  mlm_targets: Array
  mlm_mask: Array
  null_bias: Array


class ReaderBatch(NamedTuple):
  """Sentences read beside one document, with blanks in both.

  Attributes:
    joint: [batch, 1, joint_len] TextInputs.
    mlm_positions: [batch, max_masks] int32; positions in the joint sequence.
    mlm_targets: [batch, max_masks] int32; token ids to predict.
    mlm_mask: [batch, max_masks] int32; 1 at real targets.
  """

  joint: TextInputs
  mlm_positions: Array
  mlm_targets: Array
  mlm_mask: Array


class IctBatch(NamedTuple):
  """Sentences and the blocks they come from: row i belongs to row i.

  Attributes:
    query: [batch, query_len] TextInputs.
    documents: [batch, document_len] TextInputs.
    block_ids: [batch] int32; rows with one id are not each other's negatives.
    reader: what the reader is warmed up with; None if it is not.
  """

  query: TextInputs
  documents: TextInputs
  block_ids: Array
  reader: ReaderBatch | None


class QABatch(NamedTuple):
  """What one fine-tuning step reads.

  Attributes:
    question: [batch, query_len] TextInputs.
    beam_embeds: [batch, beam, embed_dim] float; of the retrieved blocks, best
      first, as the index has them.
    beam_mask: [batch, beam] int32; 0 at slots with no block.
    beam_has_answer: [batch, beam] bool.
    joint: [batch, num_read, joint_len] TextInputs; question, then block, for
      the first num_read blocks of the beam.
    block_mask: [batch, num_read, joint_len] int32; 1 where an answer may lie.
    answer_ids: [batch, num_answers, answer_len] int32; zero-padded.
    answer_lens: [batch, num_answers] int32; 0 for a slot without an answer.
    documents: [batch, num_embedded, document_len] TextInputs; the first blocks
      of the beam as the embedder reads them, where it is trained; else None.
  """

  question: TextInputs
  beam_embeds: Array
  beam_mask: Array
  beam_has_answer: Array
  joint: TextInputs
  block_mask: Array
  answer_ids: Array
  answer_lens: Array
  documents: TextInputs | None = None


class SearchResult(NamedTuple):
  """The k best blocks of each query, best first, ties to the lower block id.

  Attributes:
    scores: [batch, k] float32 inner products; -inf where there is no block.
    block_ids: [batch, k] int32; -1 where there is no block.
  """

  scores: Array
  block_ids: Array
