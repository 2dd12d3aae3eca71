"""Wikitext that no parser would get through, made readable.

mwparserfromhell reads the rest of a page again for each mark that is never
closed, or is nested deeper than it goes: ten thousand of them take minutes.
And it calls itself at each "=" of a heading until the stack overflows, which
kills the process. Pages that would cost as much lose those marks; all others,
and so all that people wrote, are left as they are.
"""

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

_MAX_WORK = 20_000_000  # characters to read again: about a second
_MAX_DEPTH = 40
_MAX_EQUALS = 5000  # of one heading; the stack overflows at some 50,000
_MARK = re.compile(
  r"""(?P<comment><!--)
  |(?P<open>\{\{|\[\[|^[ \t:]*\{\|)
  |(?P<close>\}\}|\]\]|^[ \t]*\|\}(?!\}))
  |(?P<link>\[(?=[a-z]+:|//)(?![^\[\]\n]*\]))  # not closed on its line
  |<(?P<slash>/?)(?P<tag>[A-Za-z]\w*)(?P<attributes>[^<>]*)(?P<tag_end>>?)""",
  re.VERBOSE | re.MULTILINE,
)
_OPENERS = {'}}': '{{', ']]': '[[', '|}': '{|'}  # by what closes them
_NEVER_CLOSED = frozenset(
  ('br', 'wbr', 'hr', 'meta', 'link', 'img', 'li', 'dt', 'dd', 'th', 'td', 'tr')
)
_HEADING_LINE = re.compile(r'^=[^\n]*', re.MULTILINE)
# It ends on its line, whatever the parser makes of the rest.
_PLAIN_HEADING = re.compile(r'=+[^=\n{<\[]*=+[ \t]*')
_Range = tuple[int, int]


def without_runaways(wikitext: str) -> str:
  """The same wikitext, unless a parser would not get through it.

  Args:
    wikitext: a page.

  Returns:
    It, with a space for each mark that would cost too much.
  """
  # No more marks than characters: most of what is asked about is short.
  if len(wikitext) ** 2 <= _MAX_WORK and len(wikitext) <= _MAX_EQUALS:
    return wikitext
  bad = list(_runaway_headings(wikitext))
  unclosed = _unclosed(wikitext)
  if len(unclosed) * len(wikitext) > _MAX_WORK:
    bad += unclosed
  if not bad:
    return wikitext
  parts = []
  position = 0
  for start, stop in sorted(bad):
    parts += [wikitext[position:start], ' ']
    position = max(position, stop)
  return ''.join([*parts, wikitext[position:]])


def _unclosed(wikitext: str) -> list[_Range]:
  """Marks that nothing closes, and pairs that are nested too deep."""
  bad: list[_Range] = []
  stack: list[tuple[str, _Range]] = []
  is_open: Counter[str] = Counter()
  last_comment_end = wikitext.rfind('-->')
  position = 0
  while match := _MARK.search(wikitext, position):
    position = match.end()
    if match['comment']:
      if match.start() < last_comment_end:
        position = wikitext.find('-->', match.end() - 2) + 3
      else:
        bad.append(match.span())
    elif match['link']:
      bad.append(match.span())
    elif opened := _opened(match):
      if opened == '<':  # the tag itself is not whole
        bad.append((match.start(), match.start() + 1))
        position = match.end('tag')  # what looks like attributes is text
      else:
        is_open[opened] += 1
        stack.append((opened, match.span()))
    elif is_open[closed := _closed(match)]:
      while True:
        kind, span = stack.pop()
        is_open[kind] -= 1
        if kind == closed:
          break
        bad.append(span)
      if len(stack) >= _MAX_DEPTH:
        bad += [span, match.span()]
  return bad + [span for _, span in stack]


def _opened(match: re.Match[str]) -> str:
  """What a mark opens: a kind, '<' for half a tag, '' for nothing."""
  if match['open']:
    return match['open'].strip(' \t:')
  if not match['tag'] or match['slash']:
    return ''
  attributes = match['attributes']
  if not match['tag_end'] or any(attributes.count(q) % 2 for q in '"\''):
    return '<'
  name = match['tag'].lower()
  return '' if attributes.endswith('/') or name in _NEVER_CLOSED else name


def _closed(match: re.Match[str]) -> str:
  """The kind that a mark closes, '' for none."""
  if match['close']:
    return _OPENERS[match['close'].strip()]
  return match['tag'].lower() if match['slash'] else ''


def _runaway_headings(wikitext: str) -> Iterator[_Range]:
  """The "=" that open headings which may have too many of them."""
  equals = [match.start() for match in re.finditer('=+', wikitext)]
  if len(equals) <= _MAX_EQUALS:
    return
  lines = list(_HEADING_LINE.finditer(wikitext))
  plain = [m.start() for m in lines if _PLAIN_HEADING.fullmatch(m[0])]
  ends = [*plain, len(wikitext)]
  for match in lines:
    start = match.start()
    end = ends[bisect_left(ends, start)]
    num_equals = bisect_left(equals, end) - bisect_left(equals, start)
    if num_equals > _MAX_EQUALS:
      yield start, start + len(match[0]) - len(match[0].lstrip('='))
