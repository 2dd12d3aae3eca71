"""Wikitext -> plain text: what a reader of the page would read as prose.

mwparserfromhell gives the tree; this module decides what of it is text. Left
out: tables, references, files, categories, comments, formulas, headings,
templates but for the few that stand for words inside a sentence, the sections
that only list things (_LISTING_SECTIONS), and lines that are no sentences.
"""

# ruff: noqa: RUF001 (typographic dashes and quotes are meant)
import html
import re
from collections.abc import Iterable, Iterator
from typing import Any

import mwparserfromhell
from mwparserfromhell import nodes

from realm_jax.data.sentences import split_sentences
from realm_jax.data.wiki_nesting import without_runaways
from realm_jax.data.wiki_strip import link_text, strip_markup
from realm_jax.data.wiki_templates import template_text

_HEADING = re.compile(r'(={1,6})(.+?)(={1,6})\s*$')
# What a parser has to look at: brackets, entities, headings, rules, addresses.
_MARKUP = re.compile(r'[{}\[\]<&]|^=|^-{4}|:\S')
# What opens and what closes; tags that are never closed do neither.
_BRACKETS = re.compile(
  r"""(?P<neither><(?:br|hr|wbr|p|li)\b[^<>]*>)
  |(?P<closing>\}\}|\|\}|\]|-->|</|/>)
  |(?P<opening>\{\{|\{\||\[|<!--|<(?=[a-z]))""",
  re.IGNORECASE | re.VERBOSE,
)
_BALANCE = {'neither': 0, 'closing': -1, 'opening': 1}
_LISTING_SECTIONS = frozenset(
  (
    'see also', 'references', 'external links', 'further reading', 'notes',
    'bibliography', 'sources', 'footnotes', 'citations', 'works cited',
    'notes and references', 'references and notes', 'literature', 'gallery',
    'external sources', 'general references', 'primary sources',
    'secondary sources', 'filmography', 'discography', 'publications',
    'selected publications', 'selected bibliography', 'selected works',
    'list of works', 'awards and nominations', 'explanatory notes',
  )
)  # fmt: skip
_DROPPED_TAGS = frozenset(
  (
    'ref', 'references', 'table', 'math', 'ce', 'chem', 'gallery', 'timeline',
    'source', 'syntaxhighlight', 'pre', 'score', 'imagemap', 'hiero', 'graph',
    'mapframe', 'maplink', 'templatedata', 'indicator', 'inputbox', 'section',
    'categorytree', 'style', 'script', 'noinclude', 'onlyinclude', 'tr', 'td',
    'th', 'caption',
  )
)  # fmt: skip
_BREAKING_TAGS = frozenset(('br', 'p', 'div', 'blockquote', 'hr', 'center'))


def plain_text(wikitext: str) -> str:
  """The prose of a page.

  Args:
    wikitext: its source.

  Returns:
    Paragraphs separated by single line ends; empty if it has no prose.
  """
  wikitext = wikitext.replace('\0', '')  # to the parser the end of a page
  lines = _without_listings(strip_markup(wikitext).split('\n'))
  text = '\n'.join(
    part if is_plain else _parsed(part) for is_plain, part in _parts(lines)
  )
  return '\n'.join(filter(None, map(_clean_line, text.split('\n'))))


def _parsed(wikitext: str) -> str:
  tree = mwparserfromhell.parse(
    without_runaways(wikitext), skip_style_tags=True
  )
  return ''.join(map(_render, tree.nodes))


def _parts(lines: Iterable[str]) -> Iterator[tuple[bool, str]]:
  """Lines together that are plain, or that a parser must see together.

  Markup that a line opens is followed to the line that closes it.
  """
  waiting: list[str] = []
  balance = 0
  for line in lines:
    if not waiting and not _MARKUP.search(line):
      yield True, line
      continue
    waiting.append(line)
    for mark in _BRACKETS.finditer(line):
      balance += _BALANCE[mark.lastgroup or 'neither']
    if balance <= 0:  # less where something is closed that was never opened
      yield False, '\n'.join(waiting)
      waiting, balance = [], 0
  if waiting:
    yield False, '\n'.join(waiting)


def _render(node: Any) -> str:
  """The text of one node of the tree."""
  if isinstance(node, nodes.Text):
    return node.value
  if isinstance(node, nodes.Wikilink):
    return _render_link(node)
  if isinstance(node, nodes.Template):
    return _render_template(node)
  if isinstance(node, nodes.Tag):
    return _render_tag(node)
  if isinstance(node, nodes.HTMLEntity):
    return html.unescape(str(node))
  if isinstance(node, nodes.ExternalLink):
    return _render_all(node.title) if node.brackets else ''
  return ''  # headings, comments, template arguments


def _render_all(code: Any) -> str:
  return ''.join(map(_render, code.nodes)) if code is not None else ''


def _render_link(link: nodes.Wikilink) -> str:
  text = None if link.text is None else _render_all(link.text)
  return link_text(_render_all(link.title), text)


def _render_tag(tag: nodes.Tag) -> str:
  name = str(tag.tag).strip().lower()
  if name in _DROPPED_TAGS:
    return ''
  if tag.wiki_markup in ('*', '#', ':', ';'):
    return tag.wiki_markup  # of a list item; its text follows
  text = _render_all(tag.contents)
  return f'\n{text}\n' if name in _BREAKING_TAGS else text


def _render_template(template: nodes.Template) -> str:
  values = [
    ' '.join(_render_all(parameter.value).split())
    for parameter in template.params
    if not parameter.showkey
  ]
  name = str(template.name).strip().lower().replace('_', ' ')
  return template_text(name, values, lower_case=template.has('lc'))


# Lines ----------------------------------------------------------------------


def _without_listings(lines: Iterable[str]) -> Iterable[str]:
  """Lines of wikitext but for the sections that only list things."""
  dropped_level = 0  # of the listing section that the line is in, 0 for none
  for line in lines:
    heading = _HEADING.match(line) if line.startswith('=') else None
    if heading:
      level = min(len(heading[1]), len(heading[3]))
      if not dropped_level or level <= dropped_level:
        title = heading[2].strip(" '").lower()
        dropped_level = level if title in _LISTING_SECTIONS else 0
    if not dropped_level:
      yield line


# What must be in a line for a pattern to fit (most lines have none of it, and
# looking is much cheaper than matching), the pattern, what takes its place.
_REPLACEMENTS = tuple(
  (triggers, re.compile(pattern), replacement)
  for triggers, pattern, replacement in (
    (('[[',), r'\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]', r'\1'),
    (("''",), r"'{2,}", ''),
    (('<',), r'</?[A-Za-z][^<>]*>|<!--(?:(?!<!--).)*?-->', ''),
    (('__',), r'__[A-Z]+__', ''),
    (
      ('{{', '}}', '[[', ']]'),
      r'\{\{[^{}]*\}\}|\[\[|\]\]|\{\{|\}\}',
      '',
    ),
    (
      ('&',),
      r'&(?:nbsp|ndash|mdash|amp|quot|minus|thinsp|#160);',
      ' ',
    ),
    (('',), r'\s+', ' '),
    # What a template left behind: "(; born 1900)", "(born 1900, )", "( )".
    (
      ('(', '['),
      r'([(\[])[\s,;:/–—-]*'
      r'(?:\b(?:or|and)\b[\s,;:]*(?=[)\]])|(?=[\s,;:)\]]))',
      r'\1',
    ),
    (('(',), r'\(\s*[,;:]+\s*', '('),
    ((')',), r'(?<![\s,;:])[\s,;:]+(?:(?:or|and)[\s,;:]*)?\)', ')'),
    (('( ',), r'\(\s+', '('),
    (('()', '[]'), r'\s*\(\)|\s*\[\]', ''),
    ((',', ';', ':'), r'([,;:])(?:\s*[,;:])+', r'\1'),
    (
      (' ,', ' ;', ' :', ' !', ' ?', ' )', ' .'),
      r'(?<=\S)\s+([,;:!?)]|\.(?!\.|\d))',
      r'\1',
    ),
    (('""', '“”'), r'""|“”', ''),
    ((' |',), r'\s\|\s?(?=\w)', ' '),
  )
)
_ENDS = re.compile(r'[.!?…]["”’\')\]]*$')
_LIST_MARK = re.compile(r'[*#:;]+\s*')
_TABLE_DEBRIS = re.compile(
  r'[|!{}]|\|\}|(?:align|style|class|width|colspan)\s*='
)
_MIN_LIST_WORDS = 8
_MIN_WORDS = 4


def _clean_line(line: str) -> str:
  """A line without what markup left behind; empty if it is no sentence."""
  line = line.strip()
  mark = _LIST_MARK.match(line)
  if mark:
    line = line[mark.end() :]
  if not line or _TABLE_DEBRIS.match(line):
    return ''
  for triggers, pattern, replacement in _REPLACEMENTS:
    if any(trigger in line for trigger in triggers):
      line = pattern.sub(replacement, line)
  line = line.strip()
  if not line.endswith(':') and not _ENDS.search(line):
    # A caption or a name; or a sentence that ended in a formula or a table.
    line = line[: _last_end(line)]
  num_words = len(line.split())
  return line if num_words >= (_MIN_LIST_WORDS if mark else _MIN_WORDS) else ''


def _last_end(line: str) -> int:
  """Where the last whole sentence ends; 0 if there is none."""
  ranges = split_sentences(line)
  return ranges[-2][1] if len(ranges) > 1 else 0
