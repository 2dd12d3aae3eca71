"""Articles cut into blocks of whole sentences.

Sentences are packed greedily while [CLS] title [SEP] body [SEP] is no longer
than block_len wordpieces (OFFICIAL REALM and ORQA: 288). Blocks do not overlap
and never span two articles. A block's text is the article's own, from its first
sentence's first character to its last sentence's last, so encoding it gives the
block's token ids again.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from realm_jax.data.lines import whole_characters
from realm_jax.data.sentences import split_sentences
from realm_jax.data.wordpiece import Encoding, WordPiece
from realm_jax.errors import UserError

NUM_SPECIAL = 3  # [CLS] title [SEP] body [SEP]
MIN_BLOCK_LEN = 16
# White space but for the space and the line end, and halves of surrogate pairs.
_ODD = re.compile(
  '[\t\r\x0b\x0c\x1c-\x1f\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000'
  '\ud800-\udfff]'
)
_UNEVEN = ('  ', ' \n', '\n ', '\n\n')
_MAX_TITLE_CHARS = 4096  # every block has the title; Wikipedia allows 255


class Block(NamedTuple):
  """A piece of an article.

  Attributes:
    title: the article's.
    text: the body.
    title_token_ids: [title_len] int32; at most a quarter of block_len.
    token_ids: [body_len] int32; WordPiece.encode(text).token_ids.
    position: 0, 1, ... in its article.
    sentences: half-open character ranges in text.
  """

  title: str
  text: str
  title_token_ids: np.ndarray
  token_ids: np.ndarray
  position: int
  sentences: tuple[tuple[int, int], ...]

  @property
  def block_len(self) -> int:
    """Wordpieces of [CLS] title [SEP] body [SEP]."""
    return NUM_SPECIAL + len(self.title_token_ids) + len(self.token_ids)


class Packed(NamedTuple):
  """The blocks of one article and what had to be cut for them.

  Attributes:
    blocks: in the article's order.
    num_cut_sentences: sentences longer than a block.
    title_was_cut: the title was longer than a quarter of block_len, or absurd.
  """

  blocks: list[Block]
  num_cut_sentences: int
  title_was_cut: bool


def clean_text(text: str) -> str:
  """Makes white space uniform.

  One space between words, one line end between paragraphs, none at the ends;
  halves of surrogate pairs replaced, which no file could hold.
  """
  if not _ODD.search(text) and not any(pair in text for pair in _UNEVEN):
    return text.strip()
  lines = re.split(r'[\r\n]+', whole_characters(text))
  lines = [' '.join(line.split()) for line in lines]
  return '\n'.join(line for line in lines if line)


def pack_blocks(
  title: str, text: str, wordpiece: WordPiece, block_len: int = 288
) -> Packed:
  """Cuts an article into blocks.

  A title longer than a quarter of block_len is cut to that many pieces in
  title_token_ids, so that the body always has most of the block, and to
  _MAX_TITLE_CHARS, so that an absurd one does not fill the memory. A sentence
  that alone is longer than a block is cut where a block is full, at the start
  of a word; the parts count as sentences.

  Args:
    title: the article's; may be empty.
    text: the article's, paragraphs separated by line ends.
    wordpiece: what counts the pieces.
    block_len: most wordpieces of [CLS] title [SEP] body [SEP].

  Raises:
    UserError: block_len is below MIN_BLOCK_LEN.
  """
  if block_len < MIN_BLOCK_LEN:
    raise UserError(
      f'block_len is {block_len}, expected at least {MIN_BLOCK_LEN}; the paper '
      'uses 288.'
    )
  whole_title, title = title, title[:_MAX_TITLE_CHARS]
  title_ids = np.array(wordpiece.token_ids(title), np.int32)
  max_title = (block_len - NUM_SPECIAL) // 4
  title_was_cut = len(title_ids) > max_title or title != whole_title
  title_ids = title_ids[:max_title]
  room = block_len - NUM_SPECIAL - len(title_ids)

  pieces, num_cut = _fit_sentences(text, wordpiece, room)
  blocks: list[Block] = []
  for group in _greedy_groups(pieces, room):
    start, stop = group[0].start, group[-1].stop
    blocks.append(
      Block(
        title=title,
        text=text[start:stop],
        title_token_ids=title_ids,
        token_ids=np.array(
          [i for piece in group for i in piece.token_ids], np.int32
        ),
        position=len(blocks),
        sentences=tuple((p.start - start, p.stop - start) for p in group),
      )
    )
  return Packed(blocks, num_cut, title_was_cut)


def whole_block(text: str, wordpiece: WordPiece) -> Block:
  """A text without a title as one block, just as it is.

  Args:
    text: of a block that another program has cut, of any length.
    wordpiece: what counts the pieces.
  """
  return Block(
    title='',
    text=text,
    title_token_ids=np.zeros(0, np.int32),
    token_ids=np.array(wordpiece.token_ids(text), np.int32),
    position=0,
    sentences=tuple(split_sentences(text)),
  )


class _Piece(NamedTuple):
  """A sentence or a part of one: its characters and its wordpieces."""

  start: int
  stop: int
  token_ids: list[int]


def _fit_sentences(
  text: str, wordpiece: WordPiece, room: int
) -> tuple[list[_Piece], int]:
  """Sentences with their wordpieces, in parts where longer than room."""
  pieces: list[_Piece] = []
  num_cut = 0
  for start, stop in split_sentences(text):
    # A sentence ends at white space, so its wordpieces are those of the text.
    token_ids = wordpiece.token_ids(text[start:stop])
    if len(token_ids) > room:
      num_cut += 1
      pieces.extend(_cut_sentence(text, start, stop, wordpiece, room))
    elif token_ids:  # else only characters that the tokenizer drops
      pieces.append(_Piece(start, stop, token_ids))
  return pieces, num_cut


def _cut_sentence(
  text: str, start: int, stop: int, wordpiece: WordPiece, room: int
) -> Iterator[_Piece]:
  """Parts of text[start:stop], each of at most room wordpieces."""
  encoding = wordpiece.encode(text[start:stop])
  ids = encoding.token_ids.tolist()
  words = np.array([not wordpiece.is_continuation(i) for i in ids]).nonzero()[0]
  word_starts = np.append(start + encoding.starts[words], stop)
  # Where whole words from each word on are more than fill a part.
  filled = word_starts[np.searchsorted(words, words + room + 1)]
  filled = np.append(filled, stop)
  while True:
    # Again, because the rest of a word that was cut has other wordpieces; but
    # only what fills a part, or the time would grow with the square.
    end = int(filled[np.searchsorted(word_starts[:-1], start)])
    encoding = wordpiece.encode(text[start:end])
    if len(encoding.token_ids) <= room:
      break
    cut = _cut_before(encoding, wordpiece, room)
    cut_char = start + int(encoding.starts[cut])
    part = text[start:cut_char].rstrip()
    token_ids = encoding.token_ids[:cut].tolist()
    yield _Piece(start, start + len(part), token_ids)
    start = cut_char
  yield _Piece(start, stop, encoding.token_ids.tolist())


def _cut_before(encoding: Encoding, wordpiece: WordPiece, room: int) -> int:
  """The last wordpiece up to number room that may begin a part.

  One that begins a word or, if a single word fills the room, a character.
  """
  inside_word = None
  for cut in range(room, 0, -1):
    if encoding.starts[cut] < encoding.stops[cut - 1]:
      continue  # two wordpieces of one character
    if not wordpiece.is_continuation(encoding.token_ids[cut]):
      return cut
    inside_word = inside_word or cut
  assert inside_word, 'a single character has more wordpieces than a block'
  return inside_word


def _greedy_groups(pieces: list[_Piece], room: int) -> Iterator[list[_Piece]]:
  group: list[_Piece] = []
  size = 0
  for piece in pieces:
    # Parts of a word stay apart: together they have other wordpieces.
    if group and (
      size + len(piece.token_ids) > room or piece.start == group[-1].stop
    ):
      yield group
      group, size = [], 0
    group.append(piece)
    size += len(piece.token_ids)
  if group:
    yield group
