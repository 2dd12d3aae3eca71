"""Blocks and sentences on disk: Arrow shards, memory-mapped, a row a block.

Written by corpus_writer.CorpusWriter. Nothing is read before it is asked for.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from realm_jax.data.shards import Shards
from realm_jax.data.spans import Span
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import read_manifest
from realm_jax.types import NULL_BLOCK_ID

KIND = 'corpus'
VOCAB = 'vocab.txt'
MADE_BY = 'realm-jax prepare'
BLOCK_SCHEMA = pa.schema(
  [
    ('title', pa.string()),
    ('text', pa.string()),
    ('title_token_ids', pa.list_(pa.uint16())),
    ('token_ids', pa.list_(pa.uint16())),
    ('article_id', pa.int32()),
    ('position', pa.int32()),
  ]
)
SENTENCE_SCHEMA = pa.schema(
  [
    ('block_id', pa.int32()),
    ('start', pa.int32()),
    ('stop', pa.int32()),
    ('span_starts', pa.list_(pa.int32())),
    ('span_stops', pa.list_(pa.int32())),
    ('span_kinds', pa.list_(pa.uint8())),  # places in the manifest's list
  ]
)


class BlockTokens(NamedTuple):
  """Wordpieces of blocks, padded with zeros to the corpus's longest.

  Attributes:
    title_ids: [..., max_title] int32.
    title_len: [...] int32.
    body_ids: [..., max_body] int32.
    body_len: [...] int32.
  """

  title_ids: np.ndarray
  title_len: np.ndarray
  body_ids: np.ndarray
  body_len: np.ndarray

  def first(self, n: int) -> 'BlockTokens':
    """Of rows of blocks, [batch, num_blocks] each, the first n blocks."""
    return BlockTokens(*(array[:, :n] for array in self))


class Sentence(NamedTuple):
  """A sentence of a block.

  Attributes:
    block_id: its block.
    start: first character of the sentence in the block's text.
    stop: one past its last character.
    spans: its salient spans, in characters of the block's text, in order.
  """

  block_id: int
  start: int
  stop: int
  spans: tuple[Span, ...]


class Corpus:
  """A prepared corpus. Open one with Corpus.open.

  Attributes:
    folder: where it lies.
    manifest: its manifest.
    num_blocks: how many blocks it has; ids run from 0.
    fingerprint: SHA-256 over the blocks and the vocabulary.
    sentences: its sentences.
  """

  def __init__(self, folder: Path, manifest: dict[str, Any]):
    self.folder = folder
    self.manifest = manifest
    self.num_blocks: int = manifest['num_blocks']
    self.fingerprint: str = manifest['fingerprint']
    self._shards = Shards(folder, manifest['block_files'], BLOCK_SCHEMA)
    self.sentences = Sentences(folder, manifest)

  @classmethod
  def open(cls, folder: str | Path, verify: bool = False) -> 'Corpus':
    """Opens a corpus without reading it: its files are mapped.

    Args:
      folder: what `realm-jax prepare` made.
      verify: compare the checksum of every file first, which reads them all.

    Raises:
      FileNotFoundError: the folder is missing or was never finished.
      UserError: it is no corpus, or damaged.
    """
    folder = Path(folder)
    return cls(folder, read_manifest(folder, KIND, MADE_BY, verify))

  def __reduce__(self) -> tuple:
    # Worker processes map the files themselves.
    return Corpus.open, (str(self.folder),)

  @cached_property
  def wordpiece(self) -> WordPiece:
    """The vocabulary that the blocks were encoded with."""
    wordpiece = WordPiece.from_vocab_file(self.folder / VOCAB)
    self.check_vocabulary(wordpiece, str(self.folder / VOCAB))
    return wordpiece

  def check_vocabulary(self, wordpiece: WordPiece, source: str) -> None:
    """Refuses a vocabulary that is not the corpus's.

    Args:
      wordpiece: the vocabulary.
      source: what to call it in the message.

    Raises:
      UserError: it is another one.
    """
    expected = self.manifest['vocab_fingerprint']
    if wordpiece.fingerprint != expected:
      raise UserError(
        f'{source} ({wordpiece.size} tokens, fingerprint '
        f'{wordpiece.fingerprint[:12]}) is not the vocabulary of corpus '
        f'{self.folder} ({self.manifest["vocab_size"]} tokens, fingerprint '
        f'{expected[:12]}). Use {self.folder / VOCAB}, or prepare the corpus '
        'with this one.'
      )

  def title(self, block_id: int) -> str:
    """The title of a block's article."""
    return self._shards.value('title', self._check_one(block_id))

  def text(self, block_id: int) -> str:
    """The body of a block."""
    return self._shards.value('text', self._check_one(block_id))

  @cached_property
  def article_ids(self) -> np.ndarray:
    """[num_blocks] int32; blocks of one article have one id."""
    return self._shards.column('article_id')

  @cached_property
  def block_lens(self) -> np.ndarray:
    """[num_blocks] int32; [CLS] title [SEP] body [SEP], in wordpieces."""
    titles = self._shards.lengths('title_token_ids')
    return 3 + titles + self.body_lens

  @cached_property
  def body_lens(self) -> np.ndarray:
    """[num_blocks] int32; of the body alone, in wordpieces."""
    return self._shards.lengths('token_ids')

  def gather(self, block_ids: np.ndarray) -> BlockTokens:
    """Wordpieces of any blocks, straight from the mapped files.

    Args:
      block_ids: [...] integers; NULL_BLOCK_ID (-1), the null document, has
        title and body of length 0.

    Raises:
      ValueError: an id is no integer or no block's.
    """
    ids = np.asarray(block_ids)
    if ids.dtype.kind not in 'iu':
      raise ValueError(f'block_ids are {ids.dtype}, expected integers.')
    if ids.size and not (
      ids.min() >= NULL_BLOCK_ID and ids.max() < self.num_blocks
    ):
      raise ValueError(
        f'block_ids lie in [{ids.min()}, {ids.max()}], expected '
        f'{NULL_BLOCK_ID} (null document) to {self.num_blocks - 1}.'
      )
    tokens = []
    for name, longest in (
      ('title_token_ids', self.manifest['max_title_len']),
      ('token_ids', self.manifest['max_body_len']),
    ):
      # [num_ids, longest], [num_ids]
      padded, lens = self._shards.rows(name, ids.reshape(-1), longest)
      tokens += [padded.reshape(*ids.shape, longest), lens.reshape(ids.shape)]
    return BlockTokens(*tokens)

  def _check_one(self, block_id: int) -> int:
    if not 0 <= block_id < self.num_blocks:
      raise ValueError(
        f'block_id is {block_id}, expected 0 to {self.num_blocks - 1}.'
      )
    return int(block_id)


class Sentences(Sequence):
  """The sentences of a corpus, in the order of its blocks."""

  def __init__(self, folder: Path, manifest: dict[str, Any]):
    self._shards = Shards(folder, manifest['sentence_files'], SENTENCE_SCHEMA)
    self._kinds: list[str] = manifest['span_kinds']
    self._num_sentences: int = manifest['num_sentences']

  def __len__(self) -> int:
    return self._num_sentences

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return [self[i] for i in range(*index.indices(len(self)))]
    row = int(index) + (len(self) if index < 0 else 0)
    if not 0 <= row < len(self):
      raise IndexError(f'sentence {index} of {len(self)}')
    shard, row = self._shards.locate(row)
    block_id, start, stop = (
      int(shard.flat[name][row]) for name in ('block_id', 'start', 'stop')
    )
    bounds = shard.offsets['span_starts'][row : row + 2]
    columns = (
      shard.flat[name][bounds[0] : bounds[1]].tolist()
      for name in ('span_starts', 'span_stops', 'span_kinds')
    )
    spans = tuple(
      Span(first, last, self._kinds[kind])
      for first, last, kind in zip(*columns, strict=True)
    )
    return Sentence(block_id, start, stop, spans)

  @cached_property
  def block_ids(self) -> np.ndarray:
    """[num_sentences] int32; the block of each sentence, ascending."""
    return self._shards.column('block_id')

  @cached_property
  def starts(self) -> np.ndarray:
    """[num_sentences] int32; first character in the block's text."""
    return self._shards.column('start')

  @cached_property
  def stops(self) -> np.ndarray:
    """[num_sentences] int32; one past the last character."""
    return self._shards.column('stop')

  @cached_property
  def num_spans(self) -> np.ndarray:
    """[num_sentences] int32; salient spans of each sentence."""
    return self._shards.lengths('span_starts')
