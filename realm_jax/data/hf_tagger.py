"""Any Hugging Face token classifier of BERT's shape as an EntityTagger.

The paper's salient spans are of a tagger trained on CoNLL-2003, such as
dslim/bert-base-NER is. It runs in Flax on whatever JAX runs on; JAX is loaded
when a tagger is made, not before.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from realm_jax.data.spans import Span
from realm_jax.errors import UserError
from realm_jax.folders import file_checksum, read_json

_OUTSIDE = 'O'
_MULTIPLE = 64  # lengths are padded to a multiple, so that few are compiled


class HFTagger:
  """The entities of a token classifier.

  Attributes:
    name: the model and the beginning of its labels' checksum.
    kinds: its labels without 'B-' and 'I-'.
  """

  def __init__(self, model: str, batch_size: int = 16):
    """Loads a model.

    Args:
      model: its folder, or its name on the Hugging Face hub.
      batch_size: texts that it reads at once.

    Raises:
      FileNotFoundError: a file of it is missing.
      UserError: it is no token classifier of BERT's shape.
    """
    import jax

    from realm_jax.checkpoints.hub import local_path
    from realm_jax.checkpoints.token_classifier import load_token_classifier
    from realm_jax.models.token_classifier import TokenClassifier

    folder = local_path(model)
    loaded = load_token_classifier(folder)
    classifier = TokenClassifier(loaded.config, len(loaded.labels))
    self._params = loaded.params

    @jax.jit
    def best_labels(params: Any, inputs: Any) -> Any:
      scores: Any = classifier.apply({'params': params}, inputs)
      return scores.argmax(axis=-1)

    self._apply = best_labels
    self._labels = [_split_label(label) for label in loaded.labels]
    self._max_len = loaded.config.max_positions
    self._batch_size = batch_size
    self._tokenizer = _load_tokenizer(folder)
    kinds = {kind for _, kind in self._labels if kind != _OUTSIDE}
    self.kinds = tuple(sorted(kinds))
    checksum = file_checksum(folder / 'config.json')
    self.name = f'token classifier {folder.resolve().name} {checksum[:8]}'

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """Entities of each text, in order and without overlap."""
    encodings = self._tokenizer.encode_batch(
      list(texts), add_special_tokens=False
    )
    pieces = [list(_pieces(e, self._max_len - 2)) for e in encodings]
    flat = [part for parts in pieces for part in parts]
    labels = iter(self._label(flat))
    return [
      [
        span
        for part in parts
        for span in _spans(part, [self._labels[i] for i in next(labels)])
      ]
      for parts in pieces
    ]

  def _label(self, parts: list['_Part']) -> list[np.ndarray]:
    """The label of every word of each part."""
    found: list[np.ndarray] = [np.zeros(0, np.int64)] * len(parts)
    # Parts of a length together: padding is work.
    order = sorted(range(len(parts)), key=lambda i: len(parts[i].token_ids))
    for start in range(0, len(order), self._batch_size):
      chosen = order[start : start + self._batch_size]
      inputs = self._inputs([parts[i] for i in chosen])
      labels = np.asarray(self._apply(self._params, inputs))
      for row, i in enumerate(chosen):
        found[i] = labels[row, 1 + parts[i].first_pieces]
    return found

  def _inputs(self, parts: list['_Part']) -> Any:
    from realm_jax.types import TextInputs

    longest = max(len(part.token_ids) for part in parts) + 2
    length = min(self._max_len, -(-longest // _MULTIPLE) * _MULTIPLE)
    token_ids = np.zeros((self._batch_size, length), np.int32)
    mask = np.zeros_like(token_ids)
    mask[:, 0] = 1  # rows without a text, too, attend to something
    cls_id, sep_id = map(self._tokenizer.token_to_id, ('[CLS]', '[SEP]'))
    for row, part in enumerate(parts):
      ids = np.array([cls_id, *part.token_ids, sep_id], np.int32)
      token_ids[row, : len(ids)] = ids
      mask[row, : len(ids)] = 1
    return TextInputs(token_ids, mask, np.zeros_like(token_ids))


class _Part:
  """A stretch of a text that the model reads at once.

  Attributes:
    token_ids: its wordpieces.
    first_pieces: [num_words] places in token_ids; a word is labelled by its
      first piece, as in the training of such models.
    words: [num_words] (start, stop) in characters of the text.
  """

  def __init__(self, encoding: tokenizers.Encoding, start: int, stop: int):
    self.token_ids = encoding.ids[start:stop]
    numbers = encoding.word_ids[start:stop]
    first = [i for i, n in enumerate(numbers) if i == 0 or n != numbers[i - 1]]
    last = [*(i - 1 for i in first[1:]), len(numbers) - 1] if first else []
    offsets = encoding.offsets[start:stop]
    self.first_pieces = np.asarray(first, np.int64)
    self.words = [
      (offsets[i][0], offsets[j][1]) for i, j in zip(first, last, strict=True)
    ]


def _pieces(encoding: tokenizers.Encoding, room: int) -> Iterator[_Part]:
  """A text in parts of at most so many pieces, cut between words if it can."""
  numbers, start = encoding.word_ids, 0
  while start < len(numbers):
    stop = min(start + room, len(numbers))
    cut = stop
    while (
      stop < len(numbers) and cut > start and numbers[cut] == numbers[cut - 1]
    ):
      cut -= 1
    stop = cut if cut > start else stop
    yield _Part(encoding, start, stop)
    start = stop


def _split_label(label: str) -> tuple[str, str]:
  """'B-PER' -> ('B', 'PER'); 'PER' -> ('I', 'PER'); 'O' -> ('O', 'O')."""
  if label == _OUTSIDE:
    return _OUTSIDE, _OUTSIDE
  position, dash, kind = label.partition('-')
  if dash and position in ('B', 'I', 'E', 'S', 'L', 'U'):
    return position, kind
  return 'I', label


def _spans(part: _Part, labels: list[tuple[str, str]]) -> Iterator[Span]:
  """Words of one kind that follow each other; 'B' begins another entity."""
  begun: Span | None = None
  for (start, stop), (position, kind) in zip(part.words, labels, strict=True):
    joins = begun is not None and begun.kind == kind
    if begun is not None and joins and position not in ('B', 'S', 'U'):
      begun = Span(begun.start, stop, kind)
      continue
    if begun is not None:
      yield begun
    begun = None if kind == _OUTSIDE else Span(start, stop, kind)
  if begun is not None:
    yield begun


def _load_tokenizer(folder: Path) -> tokenizers.Tokenizer:
  if (folder / 'tokenizer.json').is_file():
    try:
      tokenizer = tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
    except Exception as error:  # the library raises nothing narrower
      raise UserError(
        f'{folder / "tokenizer.json"} is no tokenizer: {error}.'
      ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
  vocab, config = folder / 'vocab.txt', folder / 'tokenizer_config.json'
  if not vocab.is_file():
    raise FileNotFoundError(f'{folder} has neither tokenizer.json nor {vocab}.')
  settings = read_json(config) if config.is_file() else {}
  return tokenizers.BertWordPieceTokenizer(
    str(vocab), lowercase=settings.get('do_lower_case', True)
  )._tokenizer
