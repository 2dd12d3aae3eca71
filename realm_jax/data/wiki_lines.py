"""Lines of a page -> its paragraphs, once a renderer has dealt with the markup.

Lines that follow each other are one paragraph, as MediaWiki has it; what markup
has left behind is mended; what is no sentence goes.
"""

# ruff: noqa: RUF001 (typographic dashes and quotes are meant)
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from realm_jax.data.sentences import split_sentences

TITLE_MARK = '\1'  # begins a line that is a section's title; no XML can hold it
LIST_MARKS = tuple('*#:;')
_NO_TEXT = frozenset((TITLE_MARK, *LIST_MARKS, *'|!{}'))  # begin other lines
_LIST_MARK = re.compile(r'[*#:;]+\s*')
_TABLE_DEBRIS = re.compile(
  r'[|!{}]|\|\}|(?:align|style|class|width|colspan)\s*='
)
_QUOTES = re.compile("'{2,}")  # of bold and italic text
# Where anything is to mend: one quick look. Each part begins with one known
# character, or it would not be quick.
_LEFT_BEHIND = re.compile(
  r' (?:[ ,;:!?).|]|or\)|and\))|\((?:[ ,;:/–—)\]-]|or\b|and\b)'
  r'|\[(?:[ ,;:/–—)\[\]-]|or\b|and\b)|,[,;:)]|;[,;:)]|:[,;:)]'
  r'|<[/!A-Za-z]|__|\{\{|\}\}|\]\]|&[a-z#]|""|“”'
)
# All white space is single spaces.
_REPLACEMENTS = tuple(
  (re.compile(pattern), replacement)
  for pattern, replacement in (
    (r'\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]', r'\1'),
    (r'</?[A-Za-z][^<>]*>|<!--(?:(?!<!--).)*?-->', ''),
    (r'__[A-Z]+__', ''),
    (r'\{\{[^{}]*\}\}|\[\[|\]\]|\{\{|\}\}', ''),
    (r'&(?:nbsp|ndash|mdash|amp|quot|minus|thinsp|#160);', ' '),
    (r' {2,}', ' '),
    # What a template left behind: "(; born 1900)", "(born 1900, )", "( )".
    (
      r'([(\[])[ ,;:/–—-]*'
      r'(?:\b(?:or|and)\b[ ,;:]*(?=[)\]])|(?=[ ,;:)\]]))',
      r'\1',
    ),
    (r'\( *[,;:]+ *', '('),
    (r'(?<![ ,;:])[ ,;:]+(?:(?:or|and)[ ,;:]*)?\)', ')'),
    (r'\( +', '('),
    (r' *\(\)| *\[\]', ''),
    (r'([,;:])(?: *[,;:])+', r'\1'),
    (r'(?<=[^ ]) +([,;:!?)]|\.(?!\.|\d))', r'\1'),
    (r'""|“”', ''),
    (r' \| ?(?=\w)', ' '),
  )
)
_END_MARKS = tuple('.!?…')
_CLOSING = '"”’\')]'
_MIN_WORDS = 4
_MIN_LIST_WORDS = 8  # of an item that says nothing with a verb, or ends nowhere
_VERB = re.compile(
  r'\b(?:is|are|was|were|be|been|has|have|had|do|does|did|can|cannot|could|may'
  r'|might|must|will|would|shall|should|became|becomes?)\b'
)


class _Line(NamedTuple):
  """A paragraph, an item of a list, or a section's title."""

  text: str
  is_item: bool = False
  title_level: int = 0


def paragraphs(text: str, section_titles: bool) -> Iterator[str]:
  """The paragraphs of a page that are prose.

  Args:
    text: lines; those of lists begin with LIST_MARKS, titles of sections with
      TITLE_MARK and their level, one digit; all others are text.
    section_titles: whether a section with prose gives its title, too.
  """
  titles: list[tuple[int, str]] = []  # of sections without prose so far
  for line, is_item, level in _joined(text.split('\n')):
    mended = _mended(line)
    if level:
      titles = [*(t for t in titles if t[0] < level), (level, mended)]
    elif prose := _prose(mended, is_item):
      if section_titles:
        yield from (title for _, title in titles)
      titles = []
      yield prose


def _joined(lines: Iterable[str]) -> Iterator[_Line]:
  """Lines with uniform white space, those of a paragraph together."""
  waiting: list[str] = []  # words of a paragraph
  for line in lines:
    words = line.split()
    if words and _continues(line, words[0][0]):
      waiting += words
      continue
    if waiting:
      yield _Line(' '.join(waiting))
      waiting = []
    if words:
      yield from _alone(' '.join(words))
  if waiting:
    yield _Line(' '.join(waiting))


def _continues(line: str, first: str) -> bool:
  """Whether a line begins or continues a paragraph."""
  # A space at its start sets it apart, as code is.
  is_text = first not in _NO_TEXT and line[0] != ' '
  return is_text and not _TABLE_DEBRIS.match(line)


def _alone(line: str) -> Iterator[_Line]:
  """A line that is no part of a paragraph: a title, an item, or nothing."""
  if line[0] == TITLE_MARK:
    yield _Line(line[2:].strip(), title_level=int(line[1]))
  elif mark := _LIST_MARK.match(line):
    yield _Line(line[mark.end() :], is_item=True)
  elif not _TABLE_DEBRIS.match(line):
    yield _Line(line)


def _mended(text: str) -> str:
  """A line without what markup leaves behind when its content has gone."""
  if "''" in text:
    text = _QUOTES.sub('', text)
  if not _LEFT_BEHIND.search(text):
    return text
  for pattern, replacement in _REPLACEMENTS:
    text = pattern.sub(replacement, text)
  return text.strip()


def _prose(text: str, is_item: bool) -> str:
  """What of a paragraph or an item is sentences, if anything."""
  num_words = text.count(' ') + 1
  has_verb = is_item and _VERB.search(text) is not None
  if not text.endswith(':') and text.rstrip(_CLOSING)[-1:] not in _END_MARKS:
    if has_verb and num_words >= _MIN_LIST_WORDS and not text[0].islower():
      return text  # many items are sentences without a full stop
    # A caption or a name; or a sentence that ended in a formula or a table.
    text = text[: _last_end(text)]
    num_words = text.count(' ') + 1
  is_short_item = is_item and not has_verb
  enough = _MIN_LIST_WORDS if is_short_item else _MIN_WORDS
  return text if num_words >= enough else ''


def _last_end(line: str) -> int:
  """Where the last whole sentence ends; 0 if there is none."""
  ranges = split_sentences(line)
  return ranges[-2][1] if len(ranges) > 1 else 0
