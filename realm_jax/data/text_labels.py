"""Which blocks hold an answer letter by letter: ORQA's labels, in one pass.

ORQA's code looks for every answer in the text of every block retrieved, in
every step. Here an Aho-Corasick automaton of all answers reads the corpus once
(extra `qa`), and a step looks up what it found.
"""

import hashlib
import json
import os
import zipfile
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from realm_jax.data.corpus import Corpus
from realm_jax.optional import require
from realm_jax.types import NULL_BLOCK_ID

_PROGRESS_EVERY = 10_000  # blocks


class TextLabels:
  """For each question, the blocks whose text holds one of its answers.

  The rule is ORQA's: an answer is a substring exactly as it is written, so that
  case counts and '1821' is in '18210'.
  """

  def __init__(
    self,
    answers: Sequence[Sequence[str]],
    offsets: np.ndarray,
    block_ids: np.ndarray,
  ):
    """Takes over what `find_text_labels` has found.

    Args:
      answers: of each question.
      offsets: [num_distinct + 1] int64; where in block_ids the blocks of each
        distinct answer begin, those of `distinct_answers(answers)`.
      block_ids: [num_hits] int32; ascending for each answer.
    """
    numbers = {text: i for i, text in enumerate(distinct_answers(answers))}
    self._answers = [
      tuple(numbers[text] for text in dict.fromkeys(own) if text)
      for own in answers
    ]
    self._offsets = offsets
    self._block_ids = block_ids

  def blocks(self, question: int) -> np.ndarray:
    """Ids of the blocks that hold an answer to a question, ascending."""
    parts = [self._blocks_of(answer) for answer in self._answers[question]]
    return np.unique(np.concatenate(parts or [np.zeros(0, np.int32)]))

  def _blocks_of(self, answer: int) -> np.ndarray:
    return self._block_ids[self._offsets[answer] : self._offsets[answer + 1]]

  def has_answer(
    self, questions: np.ndarray, block_ids: np.ndarray
  ) -> np.ndarray:
    """Which blocks hold an answer: [batch, n] bool.

    Args:
      questions: [batch] int; numbers of questions.
      block_ids: [batch, n] int32, -1 for none.
    """
    found = np.zeros(block_ids.shape, bool)
    for row, question in enumerate(questions):
      for answer in self._answers[question]:
        own = self._blocks_of(answer)
        if len(own):
          places = np.searchsorted(own, block_ids[row])
          places = np.minimum(places, len(own) - 1)
          found[row] |= own[places] == block_ids[row]
    return found & (block_ids != NULL_BLOCK_ID)


def distinct_answers(answers: Sequence[Sequence[str]]) -> list[str]:
  """All answers that are not empty, each once, in the questions' order."""
  return list(dict.fromkeys(text for own in answers for text in own if text))


def find_text_labels(
  corpus: Corpus,
  answers: Sequence[Sequence[str]],
  on_progress: Callable[[int], None] = lambda num_done: None,
) -> TextLabels:
  """Looks for all answers in all blocks, in one pass over the corpus.

  Four bytes of memory for every answer that a block holds.

  Args:
    corpus: whose blocks' bodies are read.
    answers: of each question; empty ones are in no block.
    on_progress: called with the number of blocks read so far.

  Raises:
    ImportError: ahocorasick_rs is not installed.
  """
  distinct = distinct_answers(answers)
  hits = [array('i') for _ in distinct]
  if distinct:
    automaton = require('ahocorasick_rs', 'qa').AhoCorasick(distinct)
    for block_id in range(corpus.num_blocks):
      found = automaton.find_matches_as_indexes(
        corpus.text(block_id), overlapping=True
      )
      for answer in {match[0] for match in found}:
        hits[answer].append(block_id)
      if (block_id + 1) % _PROGRESS_EVERY == 0:
        on_progress(block_id + 1)
  on_progress(corpus.num_blocks)
  offsets = np.cumsum([0, *map(len, hits)], dtype=np.int64)
  block_ids = np.empty(offsets[-1], np.int32)
  for start, own in zip(offsets, hits, strict=False):
    block_ids[start : start + len(own)] = own
  return TextLabels(answers, offsets, block_ids)


def kept_text_labels(
  path: Path,
  corpus: Corpus,
  answers: Sequence[Sequence[str]],
  on_progress: Callable[[int], None] = lambda num_done: None,
) -> TextLabels:
  """The labels in a file, which is made if it is not there or of others.

  Args:
    path: the file, .npz.
    corpus: as find_text_labels has it.
    answers: as find_text_labels has it.
    on_progress: as find_text_labels has it.
  """
  wanted = json.dumps([corpus.fingerprint, distinct_answers(answers)])
  digest = hashlib.sha256(wanted.encode()).hexdigest()
  if (kept := _read(path, digest)) is not None:
    return TextLabels(answers, *kept)
  labels = find_text_labels(corpus, answers, on_progress)
  partial = path.with_name(f'{path.name}.partial')
  with open(partial, 'wb') as stream:
    np.savez(
      stream,
      digest=np.array(digest),
      offsets=labels._offsets,
      block_ids=labels._block_ids,
    )
  os.replace(partial, path)
  return labels


def _read(path: Path, digest: str) -> tuple[np.ndarray, np.ndarray] | None:
  """Offsets and block ids of a file, if it is whole and has this digest."""
  try:
    with np.load(path, allow_pickle=False) as kept:
      if str(kept['digest']) == digest:
        return kept['offsets'], kept['block_ids']
  except (OSError, KeyError, ValueError, zipfile.BadZipFile):
    pass  # not there, or cut off: made again
  return None
