"""BERT's WordPiece over the tokenizers library: ids with character offsets.

Lower-cased and accent-stripped, as the uncased BERT vocabularies are. Special
tokens are never produced from text: a literal "[SEP]" in a page becomes three
ordinary pieces, so that no page can forge the structure of an input.
"""

# ruff: noqa: RUF001 (typographic marks are meant)
import hashlib
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers, trainers

from realm_jax.errors import UserError

SPECIAL_TOKENS = ('[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]')
_PREFIX = '##'
_MAX_WORD_CHARS = 100  # as in BERT: a longer word becomes one [UNK]
_MAX_KNOWN_WORDS = 1 << 18  # some 60 MB of them
_MAX_KNOWN_CHARS = 32  # a longer word is hardly met again
# What every trained vocabulary knows, whether the texts use it or not.
_LETTERS = 'abcdefghijklmnopqrstuvwxyz0123456789ßøæœłđıþð'
_PUNCTUATION = '!"#$%&\'()*+,-./:;<=>?@[\\]^_`{|}~–—‘’“”…°£€'


class Encoding(NamedTuple):
  """A text in wordpieces, without special tokens.

  Attributes:
    token_ids: [num_tokens] int32.
    starts: [num_tokens] int32; first character of each piece in the text.
    stops: [num_tokens] int32; one past its last character.
  """

  token_ids: np.ndarray
  starts: np.ndarray
  stops: np.ndarray


class WordPiece:
  """A vocabulary and the rule that cuts texts into its pieces."""

  def __init__(self, vocab: Sequence[str], source: str = 'the vocabulary'):
    """Makes a tokenizer.

    Args:
      vocab: every token, its id being its place.
      source: what to call it in messages.

    Raises:
      UserError: a special token is missing or a token comes twice.
    """
    ids = {token: i for i, token in enumerate(vocab)}
    missing = [token for token in SPECIAL_TOKENS if token not in ids]
    if missing:
      raise UserError(
        f'{source} lacks {", ".join(missing)}: expected a BERT vocabulary, '
        f'one token a line, with {", ".join(SPECIAL_TOKENS)} among them.'
      )
    if len(ids) != len(vocab):
      twice = next(t for t, count in Counter(vocab).items() if count > 1)
      raise UserError(
        f'{source} has {twice!r} twice: expected every token once, its id '
        'being its line.'
      )
    self.vocab = tuple(vocab)
    self._ids = ids
    self._tokenizer = _make_tokenizer(ids)
    self._words = _Words(self._tokenizer)
    self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
      ids[token] for token in SPECIAL_TOKENS
    )

  @classmethod
  def from_vocab_file(cls, path: str | Path) -> 'WordPiece':
    """Reads a vocab.txt: one token a line, with LF or CR LF line ends.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is not UTF-8, has an empty line, a token twice, or lacks a
        special token.
    """
    path = Path(path)
    if not path.is_file():
      raise FileNotFoundError(
        f'Vocabulary {path} does not exist: expected a vocab.txt, one token a '
        'line. Leave it out to train a vocabulary on the corpus.'
      )
    try:
      text = path.read_bytes().decode('utf-8')
    except UnicodeDecodeError as error:
      raise UserError(
        f'Vocabulary {path} is not UTF-8 at byte {error.start}: expected a '
        'vocab.txt, one token a line.'
      ) from error
    # Not splitlines: some vocabularies hold U+2028 and its like as tokens.
    lines = [line.removesuffix('\r') for line in text.split('\n')]
    while lines and not lines[-1]:
      lines.pop()
    if '' in lines:
      raise UserError(
        f'Vocabulary {path} has an empty line, line {lines.index("") + 1}: '
        'expected one token a line.'
      )
    return cls(lines, f'Vocabulary {path}')

  @classmethod
  def train(cls, texts: Iterable[str], vocab_size: int) -> 'WordPiece':
    """Trains a vocabulary; the same texts always give the same one.

    Special tokens come first ([PAD] 0, [UNK] 1, [CLS] 2, [SEP] 3, [MASK] 4),
    then single characters: ASCII and common punctuation always, others by
    frequency up to a quarter of the vocabulary; then longer pieces, most
    frequent first. Fewer than vocab_size where the texts have no more to give.

    Args:
      texts: held in memory, so a sample where the corpus is large.
      vocab_size: most tokens to have.

    Raises:
      UserError: vocab_size is too small to hold the characters.
    """
    texts = list(texts)
    starts, continuations = _alphabet(texts, vocab_size // 4)
    num_fixed = len(SPECIAL_TOKENS) + len(starts) + len(continuations)
    if vocab_size <= num_fixed:
      raise UserError(
        f'vocab_size is {vocab_size}, expected more than {num_fixed}: special '
        'tokens and single characters alone take as many.'
      )
    # The trainer numbers "##a" and its like in the order of a hash map, which
    # changes from run to run and decides ties. Fixed as special tokens they
    # are numbered beforehand, and so everything after them is too.
    fixed = [*SPECIAL_TOKENS, *continuations]
    trainer = trainers.WordPieceTrainer(
      vocab_size=vocab_size,
      min_frequency=2,
      show_progress=False,
      special_tokens=fixed,
      initial_alphabet=starts,
      limit_alphabet=len(starts),
      continuing_subword_prefix=_PREFIX,
    )
    tokenizer = _make_tokenizer({token: i for i, token in enumerate(fixed)})
    tokenizer.train_from_iterator(texts, trainer, length=len(texts))
    ids = tokenizer.get_vocab()
    return cls(sorted(ids, key=ids.__getitem__), 'the trained vocabulary')

  def save(self, path: str | Path) -> None:
    """Writes a vocab.txt."""
    text = ''.join(f'{token}\n' for token in self.vocab)
    Path(path).write_bytes(text.encode('utf-8'))

  @property
  def size(self) -> int:
    """Number of tokens."""
    return len(self.vocab)

  @cached_property
  def fingerprint(self) -> str:
    """SHA-256 of the tokens in order, in hexadecimal."""
    return hashlib.sha256('\n'.join(self.vocab).encode('utf-8')).hexdigest()

  def encode(self, text: str) -> Encoding:
    """Cuts a text into wordpieces."""
    return _to_encoding(self._tokenizer.encode(text, add_special_tokens=False))

  def token_ids(self, text: str) -> list[int]:
    """The ids of encode without its offsets, much quicker on long texts.

    No wordpiece and no rule of the tokenizer reaches over a space, so each word
    is cut once and remembered.
    """
    words = text.replace('\n', ' ').split(' ')
    return list(
      itertools.chain.from_iterable(map(self._words.__getitem__, words))
    )

  def encode_batch(self, texts: Sequence[str]) -> list[Encoding]:
    """Cuts many texts, on all cores."""
    return [
      _to_encoding(encoding)
      for encoding in self._tokenizer.encode_batch(
        list(texts), add_special_tokens=False
      )
    ]

  def tokens(self, ids: Iterable[int]) -> list[str]:
    """The tokens of some ids."""
    return [self.vocab[i] for i in ids]

  def is_continuation(self, token_id: int) -> bool:
    """Whether a token continues a word ("##ing")."""
    return self.vocab[token_id].startswith(_PREFIX)

  def decode(self, ids: Iterable[int]) -> str:
    """A readable text: pieces joined to words, words by spaces."""
    return ' '.join(self.tokens(ids)).replace(f' {_PREFIX}', '')


class _Words(dict[str, tuple[int, ...]]):
  """Words with their ids; those not met before are cut and remembered."""

  def __init__(self, tokenizer: tokenizers.Tokenizer):
    super().__init__()
    self._tokenizer = tokenizer

  def __reduce__(self) -> tuple:
    return _Words, (self._tokenizer,)  # without the words: they are soon known

  def __missing__(self, word: str) -> tuple[int, ...]:
    ids = tuple(self._tokenizer.encode(word, add_special_tokens=False).ids)
    if len(word) <= _MAX_KNOWN_CHARS:
      if len(self) >= _MAX_KNOWN_WORDS:
        self.clear()
      self[word] = ids
    return ids


def _make_tokenizer(ids: dict[str, int]) -> tokenizers.Tokenizer:
  tokenizer = tokenizers.Tokenizer(
    models.WordPiece(
      ids, unk_token='[UNK]', max_input_chars_per_word=_MAX_WORD_CHARS
    )
  )
  tokenizer.normalizer = normalizers.BertNormalizer(
    clean_text=True,
    handle_chinese_chars=True,
    strip_accents=True,
    lowercase=True,
  )
  tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  return tokenizer


def _to_encoding(encoding: tokenizers.Encoding) -> Encoding:
  offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)
  return Encoding(
    np.array(encoding.ids, np.int32), offsets[:, 0], offsets[:, 1]
  )


def _alphabet(
  texts: Sequence[str], max_others: int
) -> tuple[list[str], list[str]]:
  """Single-character tokens, at the start of a word and inside one."""
  normalizer = _make_tokenizer({'[UNK]': 0}).normalizer
  pre_tokenizer = pre_tokenizers.BertPreTokenizer()
  first: Counter[str] = Counter()
  inside: Counter[str] = Counter()
  for text in texts:
    for word, _ in pre_tokenizer.pre_tokenize_str(
      normalizer.normalize_str(text)
    ):
      first[word[0]] += 1
      inside.update(word[1:])
  counts = first + inside
  others = sorted(
    set(counts) - set(_LETTERS + _PUNCTUATION), key=lambda c: (-counts[c], c)
  )
  starts = sorted({*_LETTERS, *_PUNCTUATION, *others[: max_others // 2]})
  kept = set(starts)
  continuations = sorted({*_LETTERS, *(c for c in inside if c in kept)})
  return starts, [_PREFIX + c for c in continuations]
