"""Whether an answer is right, and whether a text holds one.

The headline rule is that of ORQA and REALM, for numbers comparable with theirs:
accuracy after normalisation, or a regular expression at the start of the
prediction where a data set gives expressions (CuratedTREC).
"""

import functools
import itertools
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from realm_jax.data.expressions import compile_expression

_PUNCTUATION = str.maketrans('', '', string.punctuation)
_ARTICLES = re.compile(r'\b(a|an|the)\b')


def normalize_answer(text: str) -> str:
  """Brings an answer to the form in which answers are compared.

  In this order: Unicode NFD, lower case, ASCII punctuation deleted (so
  'twenty-one' becomes 'twentyone'; curly quotes and dashes stay), the whole
  words a, an and the dropped, white space collapsed. Accents stay, decomposed:
  'Café' is not 'Cafe'. As the official evaluation of ORQA and REALM.
  """
  text = unicodedata.normalize('NFD', text).lower().translate(_PUNCTUATION)
  return ' '.join(_ARTICLES.sub(' ', text).split())


def exact_match(prediction: str, answers: Iterable[str]) -> bool:
  """Whether a prediction equals one of the answers, all normalised."""
  normalised = normalize_answer(prediction)
  return any(normalised == normalize_answer(answer) for answer in answers)


def f1(prediction: str, answers: Iterable[str]) -> float:
  """Overlap of the words of a prediction with the best of the answers.

  The harmonic mean of precision and recall over the bags of normalised words,
  as SQuAD's evaluation has it; two texts of no words agree entirely.

  Returns:
    Between 0 and 1; 0 where there is no answer to compare with.
  """
  words = normalize_answer(prediction).split()
  return max((_word_f1(words, answer) for answer in answers), default=0.0)


def _word_f1(words: list[str], answer: str) -> float:
  answer_words = normalize_answer(answer).split()
  if not words or not answer_words:
    return float(words == answer_words)
  num_common = (Counter(words) & Counter(answer_words)).total()
  return 2 * num_common / (len(words) + len(answer_words))


def regex_match(
  prediction: str, patterns: Iterable[str], anchored: bool = True
) -> bool:
  """Whether a prediction fits one of the regular expressions.

  Case is ignored and `^` and `$` stand at every line; an expression that does
  not compile fits nothing. The prediction is not normalised.

  Args:
    prediction: the predicted answer, as it is.
    patterns: Python regular expressions.
    anchored: the expression must fit at the start of the prediction, as in the
      official evaluation; otherwise anywhere in it.
  """
  for pattern in patterns:
    compiled = compile_expression(pattern)
    if compiled is None:
      continue
    if (compiled.match if anchored else compiled.search)(prediction):
      return True
  return False


def is_right(
  prediction: str, answers: Iterable[str], is_regex: bool = False
) -> bool:
  """The official verdict: exact_match, or regex_match for expressions."""
  if is_regex:
    return regex_match(prediction, answers)
  return exact_match(prediction, answers)


class Accuracy(NamedTuple):
  """What evaluate_predictions counts.

  Attributes:
    num_right: questions whose prediction is right.
    num_missing: questions without a prediction; they count as wrong.
    num_total: questions.
  """

  num_right: int
  num_missing: int
  num_total: int

  @property
  def accuracy(self) -> float:
    """Share of all questions that are answered right; 0 of no questions."""
    return self.num_right / self.num_total if self.num_total else 0.0


def evaluate_predictions(
  predictions: Mapping[str, str],
  answers: Mapping[str, Sequence[str]],
  is_regex: bool = False,
) -> Accuracy:
  """Counts right predictions over all questions that have answers.

  Args:
    predictions: question (or its id) -> predicted answer.
    answers: question (or its id) -> its answers, or expressions.
    is_regex: whether the answers are regular expressions.
  """
  num_right = sum(
    question in predictions
    and is_right(predictions[question], references, is_regex)
    for question, references in answers.items()
  )
  num_missing = sum(question not in predictions for question in answers)
  return Accuracy(num_right, num_missing, len(answers))


def has_answer(
  text: str,
  answers: Iterable[str],
  rule: Literal['words', 'official'] = 'words',
  is_regex: bool = False,
) -> bool:
  """Whether a text holds one of the answers.

  Two rules, since the literature has two:
  - 'words', DPR's: an answer's words and punctuation marks stand in the text
    one after another, whatever the case and the spaces; accents count. The
    default: recall@k in the literature means this one, and it neither finds
    'art' in 'party' nor misses 'the Beatles' for 'The Beatles'.
  - 'official', ORQA's training labels: the answer is a substring, exactly as it
    is written, inside a word or not ('1821' is in '18210').

  An answer with nothing in it is in no text.

  Args:
    text: the text of a document.
    answers: its possible answers.
    rule: 'words' or 'official'.
    is_regex: the answers are regular expressions, found anywhere in the text,
      case ignored; the rule then has no say.

  Raises:
    ValueError: the rule is neither.
  """
  if rule not in ('words', 'official'):
    raise ValueError(f"rule is {rule!r}, expected 'words' or 'official'.")
  if is_regex:
    return regex_match(text, answers, anchored=False)
  if rule == 'official':
    return any(answer != '' and answer in text for answer in answers)
  text = _fold(text)
  return any(_stands_in(answer, text) for answer in answers)


def _fold(text: str) -> str:
  return unicodedata.normalize('NFD', text).lower()


def _in_word(character: str) -> bool:
  # Letters, digits and the marks that NFD splits off letters.
  return unicodedata.category(character)[0] in 'LNM'


class _Needle(NamedTuple):
  longest: str  # its longest piece: most texts lack that already
  pattern: re.Pattern  # its pieces in order, spaces between them as they like
  starts_in_word: bool
  stops_in_word: bool


@functools.lru_cache(maxsize=65536)
def _needle(answer: str) -> _Needle | None:
  pieces: list[str] = []  # a piece is a word or one other visible character
  grows = False
  for character in _fold(answer):
    if _in_word(character) and grows:
      pieces[-1] += character
    elif not character.isspace():
      pieces.append(character)
    grows = _in_word(character)
  if not pieces:
    return None
  pattern = re.escape(pieces[0])
  for left, right in itertools.pairwise(pieces):
    # Two words that touch would be one word.
    touching = not (_in_word(left[-1]) and _in_word(right[0]))
    pattern += (r'\s*' if touching else r'\s+') + re.escape(right)
  return _Needle(
    max(pieces, key=len),
    re.compile(pattern),
    _in_word(pieces[0][0]),
    _in_word(pieces[-1][-1]),
  )


def _occurrence(needle: _Needle, folded: str, start: int) -> range | None:
  found = needle.pattern.search(folded, start)
  while found:
    start, stop = found.span()
    cut_start = (
      needle.starts_in_word and start > 0 and _in_word(folded[start - 1])
    )
    cut_stop = (
      needle.stops_in_word and stop < len(folded) and _in_word(folded[stop])
    )
    if not cut_start and not cut_stop:
      return range(start, stop)
    # Not after its end: the next occurrence may overlap this one.
    found = needle.pattern.search(folded, start + 1)
  return None


def _stands_in(answer: str, folded: str) -> bool:
  needle = _needle(answer)
  if needle is None or needle.longest not in folded:
    return False
  return _occurrence(needle, folded, 0) is not None


def answer_spans(text: str, answers: Iterable[str]) -> list[tuple[int, int]]:
  """Where a text holds the answers, by the rule 'words' of has_answer.

  Returns:
    (start, stop) character ranges of the text, half-open, in order; of
    occurrences that overlap, the one that starts first, the longer of two.
  """
  # Folding may change the length of a text: the origin of each character.
  pieces = [_fold(character) for character in text]
  origins = [i for i, piece in enumerate(pieces) for _ in piece]
  folded = ''.join(pieces)
  found = []
  for answer in answers:
    needle = _needle(answer)
    start = 0
    while needle and (span := _occurrence(needle, folded, start)):
      start = span.stop
      found.append((origins[span[0]], origins[span[-1]] + 1))
  spans: list[tuple[int, int]] = []
  for first, last in sorted(found, key=lambda ends: (ends[0], -ends[1])):
    if not spans or first >= spans[-1][1]:
      spans.append((first, last))
  return spans
