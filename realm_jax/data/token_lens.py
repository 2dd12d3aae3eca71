"""How long the sequences of a batch are, told before they are made.

A batch is padded to what its longest sequence needs. Several processes each
make a part of it, and have to pad alike.
"""

from typing import NamedTuple

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import PAIR_SPECIALS, bucket_len


class TokenLens(NamedTuple):
  """Real tokens of what a batch holds, special ones included.

  Attributes:
    documents: [batch, num_candidates] int; as the embedder reads them.
    joint: [batch, num_candidates] int; queries with documents.
  """

  documents: np.ndarray
  joint: np.ndarray

  def padded(self, lengths: Lengths) -> tuple[int, int]:
    """Lengths to pad documents and joint sequences to."""
    return (
      bucket_len(
        int(self.documents.max(initial=0)),
        lengths.multiple,
        lengths.document_len,
      ),
      bucket_len(
        int(self.joint.max(initial=0)), lengths.multiple, lengths.joint_len
      ),
    )


def token_lens(
  query_lens: np.ndarray,
  block_ids: np.ndarray,
  corpus: Corpus,
  lengths: Lengths,
) -> TokenLens:
  """The lengths of a batch, without its tokens.

  Args:
    query_lens: [batch] int; without special tokens.
    block_ids: [batch, num_candidates] int; -1 is the null document.
    corpus: the blocks.
    lengths: document_len and joint_len are used.
  """
  is_block = block_ids >= 0
  documents = np.where(is_block, corpus.block_lens[block_ids], PAIR_SPECIALS)
  bodies = np.where(is_block, corpus.body_lens[block_ids], 0)
  return TokenLens(
    np.minimum(documents, lengths.document_len),
    np.minimum(query_lens[:, None] + bodies + PAIR_SPECIALS, lengths.joint_len),
  )
