"""Takes the easy part of wikitext off the parser's hands.

A parser spends most of its time on references, infoboxes and tables, which are
then thrown away, and on links between words. What is plainly closed and plainly
one of them is dealt with here, in one pass each; all else is left to the
parser.
"""

import re

from realm_jax.data.wiki_templates import stands_for_words

# What has an end goes no further than the next of its own kind, and gives back
# nothing (`*+`), so that unclosed ones cost no more than one pass.
_MARK = re.compile(
  r"""(?P<dropped>
      <!--[^<-]*+(?:(?:<(?!!--)|-(?!->))[^<-]*+)*+-->
    | <ref\b[^<>]*+(?<=/)>
    | <ref\b[^<>]*+(?<!/)>[^<]*+(?:<(?!/?ref\b)[^<]*+)*+</ref\s*>
  )
  | <(?P<opaque>nowiki|math|chem|ce|pre|source|syntaxhighlight|score|timeline)
    \b[^<>]*+(?<!/)>[^<]*+(?:<(?!/?(?P=opaque)\b)[^<]*+)*+</(?P=opaque)\s*>
  | (?P<templates>\{\{+)
  | (?P<ends>\}\}+)
  | (?P<table>^[ \t:]*\{\|)
  | (?P<table_end>^[ \t]*\|\}(?!\}))
  """,
  re.VERBOSE | re.DOTALL | re.IGNORECASE | re.MULTILINE,
)
# A link to an article; a "=" could make a template's parameter of its text.
_LINK = re.compile(r'\[\[([^\[\]{}<>|\n=]+)(?:\|([^\[\]{}<>|\n=]*))?\]\]')
_DROPPED_LINKS = re.compile(
  r'\s*(?:file|image|media|category|datei|bild)\s*:', re.IGNORECASE
)
_LANGUAGE_LINK = re.compile(r'\s*[a-z]{2,3}(?:-[a-z-]+)?\s*:(?!\s)')
_NAME = re.compile(r'\{\{\s*+([^|{}<>\[\]\n]++)(?=[|\n}])')


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
  """Wikitext without what is no prose, and with the text of plain links.

  Without comments, references, tables and mute templates, those that stand for
  no words. Whatever is not closed, or not closed by its like, stays as it is.
  """
  stripped = _without_closed(wikitext)
  return _LINK.sub(lambda link: link_text(link[1], link[2]), stripped)


def _without_closed(wikitext: str) -> str:
  kept: list[str] = []
  done = 0  # wikitext before this is kept or dropped
  opened: list[tuple[int, bool]] = []  # where, and whether it is a table
  for mark in _MARK.finditer(wikitext):
    kind, start, stop = mark.lastgroup, mark.start(), mark.end()
    if kind == 'dropped':
      if not opened:
        kept.append(wikitext[done:start])
        done = stop
    elif kind in ('templates', 'ends') and (stop - start) % 2:
      opened.clear()  # a template's parameter: not to be told apart here
    elif kind == 'templates':
      opened += [(place, False) for place in range(start, stop, 2)]
    elif kind == 'table':
      opened.append((start, True))
    elif kind != 'opaque':
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


def _is_mute(wikitext: str, start: int) -> bool:
  """Whether the template that begins there stands for no words."""
  name = _NAME.match(wikitext, start)
  return name is not None and not stands_for_words(
    name[1].strip().lower().replace('_', ' ')
  )
