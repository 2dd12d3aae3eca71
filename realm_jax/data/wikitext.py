"""Wikitext -> plain text: what a reader of the page would read as prose.

mwparserfromhell gives the tree where wiki_strip has left something for it; this
module decides what of it is text. Left out: tables, references, files,
categories, comments, formulas, templates but for the few that stand for words
inside a sentence, the sections that only list things (_LISTING_SECTIONS), the
lists of those that list works (_LISTING_WORKS), and lines that are no
sentences. Section titles are left out, or lines of their own.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

import mwparserfromhell
from mwparserfromhell import nodes

from realm_jax.data.wiki_lines import LIST_MARKS, TITLE_MARK, paragraphs
from realm_jax.data.wiki_nesting import without_runaways
from realm_jax.data.wiki_strip import (
  PARAGRAPH_BREAK,
  link_text,
  strip_markup,
  unescape_entities,
)
from realm_jax.data.wiki_templates import template_name, template_text

_HEADING = re.compile(r'(={1,6})(.+?)(={1,6})\s*$')
# What a parser has to look at: brackets, tags, addresses, rules. Each part
# begins with one known character, which makes the search quick.
_MARKUP = re.compile(
  r'\{[{|]|\}\}|\|\}|\[[\[/]|\[[a-z]+:|\]\]|<[a-zA-Z/!]|:(?<=[a-z]:)(?=\S)|----'
)
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
    'notes and references', 'references and notes', 'gallery',
    'external sources', 'general references', 'primary sources',
    'secondary sources', 'selected bibliography', 'explanatory notes',
  )
)  # fmt: skip
_LISTING_WORKS = frozenset(
  (
    'literature', 'filmography', 'discography', 'publications',
    'selected publications', 'selected works', 'list of works',
    'awards and nominations',
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


def plain_text(wikitext: str, section_titles: bool = False) -> str:
  """The prose of a page.

  Args:
    wikitext: its source.
    section_titles: give each section that has prose its title as a line.

  Returns:
    Paragraphs separated by single line ends; empty if it has no prose.
  """
  # To the parser the end of a page, and what marks titles here.
  wikitext = wikitext.replace('\0', '').replace(TITLE_MARK, '')
  lines = _without_listings(strip_markup(wikitext).split('\n'))
  text = '\n'.join(
    unescape_entities(part) if is_plain else _parsed(part)
    for is_plain, part in _parts(lines)
  )
  return '\n'.join(paragraphs(text, section_titles))


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
    return unescape_entities(str(node))
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
  if name in _BREAKING_TAGS:
    return PARAGRAPH_BREAK + text + PARAGRAPH_BREAK
  return text


def _render_template(template: nodes.Template) -> str:
  values, named = [], {}
  for parameter in template.params:
    value = ' '.join(_render_all(parameter.value).split())
    if parameter.showkey:
      named[str(parameter.name).strip()] = value
    else:
      values.append(value)
  return template_text(template_name(str(template.name)), values, named)


def _without_listings(lines: Iterable[str]) -> Iterator[str]:
  """Lines of wikitext but for what only lists things.

  A heading becomes a line that TITLE_MARK begins.
  """
  dropped_level = 0  # of the listing section that the line is in, 0 for none
  works_level = 0  # of the section of works, whose lists alone go
  for line in lines:
    heading = _HEADING.match(line) if line.startswith('=') else None
    if heading:
      level = min(len(heading[1]), len(heading[3]))
      title = heading[2].strip(" ='")
      if not dropped_level or level <= dropped_level:
        dropped_level = level if title.lower() in _LISTING_SECTIONS else 0
      if not works_level or level <= works_level:
        works_level = level if title.lower() in _LISTING_WORKS else 0
      line = f'{TITLE_MARK}{level}{title}'
    if not dropped_level and not (works_level and line.startswith(LIST_MARKS)):
      yield line
