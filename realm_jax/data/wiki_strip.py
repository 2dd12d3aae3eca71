"""Takes the easy part of wikitext off the parser's hands.

A parser spends most of its time on references, infoboxes and tables, which are
then thrown away, and on links between words. What is plainly closed and plainly
one of them is dealt with here, in one pass each; all else is left to the
parser.
"""

# ruff: noqa: RUF001 (typographic dashes are meant)
import html
import re
from html.entities import html5

from realm_jax.data.wiki_templates import (
  stands_for_words,
  template_name,
  template_text,
)

# What becomes a break between paragraphs: a line without anything.
PARAGRAPH_BREAK = '\n\n'
# One set of characters leads, which makes the search six times as quick. What
# has an end goes no further than the next of its own kind, and gives back
# nothing (`*+`), so that unclosed ones cost no more than one pass.
_MARK = re.compile(
  r"""[<{}|](?:
    (?<=<)(?:
      (?P<dropped>
          !--[^<-]*+(?:(?:<(?!!--)|-(?!->))[^<-]*+)*+-->
        | ref\b[^<>]*+(?<=/)>
        | ref\b[^<>]*+(?<!/)>[^<]*+(?:<(?!/?ref\b)[^<]*+)*+</ref\s*>
      )
      | (?P<opaque>nowiki|math|chem|ce|pre|source|syntaxhighlight|score|timeline
          |gallery|hiero|graph|mapframe|imagemap|templatedata)
        \b[^<>]*+(?<!/)>[^<]*+(?:<(?!/?(?P=opaque)\b)[^<]*+)*+</(?P=opaque)\s*>
    )
    | (?P<templates>(?<=\{)\{+)
    | (?P<ends>(?<=\})\}+)
    | (?P<table>(?<=\{)\|)
    | (?P<table_end>(?<=\|)\}(?!\}))
  )""",
  re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_REFERENCE = re.compile(
  r'<ref\b[^<>]*+(?:(?<=/)>|(?<!/)>[^<]*+(?:<(?!/?ref\b)[^<]*+)*+</ref\s*>)',
  re.IGNORECASE,
)
# A link to an article; a "=" could make a template's parameter of its text.
_LINK = re.compile(r'\[\[([^\[\]{}<>|\n=]+)(?:\|([^\[\]{}<>|\n=]*))?\]\]')
_DROPPED_LINKS = re.compile(
  r'\s*(?:file|image|media|category|datei|bild)\s*:', re.IGNORECASE
)
# With a caption whose own links are text by now.
_FILE = re.compile(r'\[\[\s*(?:file|image)\s*:[^\[\]{}]*+\]\]', re.IGNORECASE)
_MAX_INDENT = 64
_LANGUAGE_LINK = re.compile(r'\s*[a-z]{2,3}(?:-[a-z-]+)?\s*:(?!\s)')
_NAME = re.compile(r'\{\{\s*+([^|{}<>\[\]\n]++)(?=[|\n}])')
_ENTITY = re.compile(r'&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,31});')
# Without anything inside that may be more than text.
_TEMPLATE = re.compile(
  r'(?<!\{)\{\{([^{}<>\[\]|]+)(\|[^{}<>\[\]]*+)?\}\}(?!\})'
)
_MAX_NESTED = 4  # templates inside each other to spell out
# Tags that end a paragraph, and tags around what is simply text.
_BREAK = re.compile(
  r'<(?:br|hr)\b[^<>]*>'
  r'|</?(?:p|div|blockquote|center|li|[ou]l|d[ltd]|poem)\b[^<>]*>',
  re.IGNORECASE,
)
_TRANSPARENT = re.compile(
  r'</?(?:su[bp]|small|big|span|s|u|i|b|em|strong|tt|code|var|font|abbr|cite)'
  r'(?:\s[^<>]*)?>|<nowiki\s*/>',
  re.IGNORECASE,
)
_POWER = re.compile(r'<sup>([+−–-]?\d+)</sup>', re.IGNORECASE)
_POWER_OF = tuple(")]}>';°")  # besides letters and digits
_POWERS = {'1': '¹', '2': '²', '3': '³'}


def link_text(title: str, text: str | None) -> str:
  """What a link reads as.

  Args:
    title: what it leads to.
    text: what it shows in place of that, if anything.
  """
  if _DROPPED_LINKS.match(title):  # [[:Category:...]] only points there
    return ''
  if text is not None:
    return text
  return '' if _LANGUAGE_LINK.match(title) else title.lstrip(':')


def strip_markup(wikitext: str) -> str:
  """Wikitext without what is no prose, and with the text of plain markup.

  Without comments, references, formulas, tables, files and mute templates,
  those that stand for no words; with the words of links, of the other templates
  and inside plain tags. Whatever is not closed, or not closed by its like,
  stays as it is.
  """
  text = _without_closed(wikitext)
  text = _LINK.sub(lambda link: link_text(link[1], link[2]), text)
  text = _without_tags(_FILE.sub('', text))
  for _ in range(_MAX_NESTED):
    text, count = _TEMPLATE.subn(_spelled_out, text)
    if not count:
      break
  return text


def unescape_entities(text: str) -> str:
  """A text with the characters that "&ndash;" and its like stand for."""
  return _ENTITY.sub(_character, text) if '&' in text else text


def _character(entity: re.Match[str]) -> str:
  name = entity[0][1:]  # one that begins another, "&notit;", is no entity
  known = name[0] == '#' or name in html5
  return html.unescape(entity[0]) if known else entity[0]


def _without_closed(wikitext: str) -> str:
  kept: list[str] = []
  done = 0  # wikitext before this is kept or dropped
  opened: list[tuple[int, bool]] = []  # where, and whether it is a table
  for mark in _MARK.finditer(wikitext):
    kind, start, stop = mark.lastgroup, mark.start(), mark.end()
    if kind == 'dropped' or kind == 'opaque':
      is_text = kind == 'opaque' and mark['opaque'].lower() == 'nowiki'
      if not opened and not is_text:
        kept.append(wikitext[done:start])
        done = stop
    elif kind in ('templates', 'ends') and (stop - start) % 2:
      opened.clear()  # a template's parameter: not to be told apart here
    elif kind == 'templates':
      opened += [(place, False) for place in range(start, stop, 2)]
    elif kind == 'table':
      if _begins_line(wikitext, start, ' \t:'):
        opened.append((start, True))
    elif kind == 'ends' or _begins_line(wikitext, start, ' \t'):
      is_table = kind == 'table_end'
      for end in [stop] if is_table else range(start + 2, stop + 1, 2):
        first, was_table = opened.pop() if opened else (0, not is_table)
        if was_table != is_table:
          opened.clear()
        elif not opened and (is_table or _is_mute(wikitext, first)):
          kept.append(wikitext[done:first])
          done = end
  kept.append(wikitext[done:])
  return ''.join(kept)


def _begins_line(wikitext: str, place: int, indent: str) -> bool:
  """Whether nothing stands before a place but an indent, not a long one."""
  before = wikitext[max(0, place - _MAX_INDENT) : place].rstrip(indent)
  return before.endswith('\n') or (not before and place <= _MAX_INDENT)


def _is_mute(wikitext: str, start: int) -> bool:
  """Whether the template that begins there stands for no words."""
  name = _NAME.match(wikitext, start)
  return name is not None and not stands_for_words(template_name(name[1]))


def _spelled_out(template: re.Match[str]) -> str:
  name = template_name(template[1])
  if not stands_for_words(name):
    return ''
  values, named = [], {}
  for part in (template[2] or '').split('|')[1:]:
    key, equals, value = part.partition('=')
    text = ' '.join(unescape_entities(value if equals else key).split())
    if equals:
      named[key.strip()] = text
    else:
      values.append(text)
  return template_text(name, values, named)


def _without_tags(text: str) -> str:
  """Text with breaks for the tags that make them, and without plain tags."""
  if '<' not in text:
    return text
  text = _REFERENCE.sub('', text)  # in the templates that are left
  text = _POWER.sub(_power, text)
  return _BREAK.sub(PARAGRAPH_BREAK, _TRANSPARENT.sub('', text))


def _power(found: re.Match[str]) -> str:
  """A number set high behind something: "10^-7", "km²"; not of an isotope."""
  number, start = found[1], found.start()
  before = found.string[max(0, start - 6) : start]
  is_power = before[-1:].isalnum() or before.endswith(_POWER_OF)
  if not is_power or before == '&nbsp;':
    return number
  return _POWERS.get(number, f'^{number}')
