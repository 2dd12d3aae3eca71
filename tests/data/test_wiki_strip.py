import pytest

from realm_jax.data import wikitext
from realm_jax.data.wiki_strip import link_text, strip_markup


@pytest.mark.parametrize(
  ('source', 'expected'),
  [
    ('A<ref>b {{c}}</ref> d<ref name=x/> e.', 'A d e.'),
    ('A<!-- b\n{{ --> c.', 'A c.'),
    ('{{Infobox|a={{b|c}}|d=[[e]]}}\nF.', '\nF.'),
    ('{{Cite_web|x}} {{lang|fr|mot}}.', ' mot.'),
    ('{{nowrap|{{convert|5|km}} {{fact}}by}} air', '5 km by air'),
    ('{{quote|a<ref>b</ref>}}', '\n\na\n\n'),
    ('[[File:a.png|thumb|b [[c]]<br>d=e]] f', ' f'),
    ('a<br />b <sub>c</sub><nowiki />', 'a\n\nb c'),
    ('a <nowiki>[[b]]</nowiki>', 'a <nowiki>b</nowiki>'),
    ('{|\n| a\n{|\n|b\n|}\n|}\nC.', '\nC.'),
    ('{{x|\n{| \n|a\n|}\n}}B', 'B'),
    ('[[A|b]] [[C]] [[File:d.png|e]] [[fr:F]] [[:Category:g|h]]', 'b C   h'),
    # what is not closed, or not by its like, is the parser's
    ('A<ref>b c', 'A<ref>b c'),
    ('A<ref>b <ref>c</ref> d', 'A<ref>b  d'),
    ('{{a|b', '{{a|b'),
    ('{{a|}', '{{a|}'),
    ('{{a {| b }} c |}', '{{a {| b }} c |}'),
    ('{{{1|a}}} {{{{{b}}}}}', '{{{1|a}}} {{{{{b}}}}}'),
    ('<nowiki>{{a|b</nowiki> }}', '<nowiki>{{a|b</nowiki> }}'),
    ('a <math>\\frac{{a}}{b}</math> {{c}}', 'a  '),
    ('a {| b\n| c |}', 'a {| b\n| c |}'),
    ('[[a|b=c]] [[d|e [[f]] g]]', '[[a|b=c]] [[d|e f g]]'),
  ],
)
def test_only_what_is_closed_goes(source, expected):
  assert strip_markup(source) == expected


@pytest.mark.parametrize(
  ('title', 'text', 'expected'),
  [
    ('A', None, 'A'),
    ('A', 'b', 'b'),
    ('A', '', ''),
    (' file:a.png', 'b', ''),
    (':Category:A', None, 'Category:A'),
    ('de:A', None, ''),
    ('de:A', 'b', 'b'),
    ('To: A', None, 'To: A'),
  ],
)
def test_links_read_as_their_text(title, text, expected):
  assert link_text(title, text) == expected


PAGES = [
  "'''A''' (born <!-- x --> 1900) is {{nowrap|a [[b|c]]}}<ref>{{cite}}</ref>.",
  '{{Infobox\n| a = {{b|[[c]]}}\n}}\nA [[town]] of {{convert|5|km|mi}}.',
  '{|\n! a\n|-\n| b\n|}\nThere is nobody here at all, said he. {{unclosed',
  '* A list of [[many|some]] words that goes on and on for ever.\n<ref>open',
]


@pytest.mark.parametrize('source', PAGES)
def test_the_text_is_what_the_parser_alone_makes(source, monkeypatch):
  found = wikitext.plain_text(source)
  monkeypatch.setattr(wikitext, 'strip_markup', lambda text: text)
  assert found == wikitext.plain_text(source)


@pytest.mark.parametrize(
  'part', ['{{', '{|\n', '<!--', '<ref>', '[[a|', '<nowiki>', '}}', '<ref x']
)
def test_many_unclosed_marks_take_one_pass(part):
  text = part * (300_000 // len(part))
  assert strip_markup(text) == text
