# ruff: noqa: RUF001 (typographic marks are meant)
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.wikitext import plain_text


@pytest.mark.parametrize(
  'wikitext, text',
  [
    ("'''Ada''' is a ''very'' good name.", 'Ada is a very good name.'),
    ('She met [[Bob]] in [[Paris, Texas|Paris]].', 'She met Bob in Paris.'),
    ('Many [[dog]]s run and [[:Category:Cat|cats]] do.',
     'Many dogs run and cats do.'),
    ('It is big.<ref name="a">See [[x]] {{cite|y}}.</ref> Very big<ref/> too.',
     'It is big. Very big too.'),
    ('It is <!-- not\nreally --> very big.', 'It is very big.'),
    ('It has<br />two lines of text.\n', 'two lines of text.'),
    ('A [http://x.org good page] and http://y.org here.',
     'A good page and here.'),
    ('Five&nbsp;km &ndash; or so &amp; more.', 'Five km – or so & more.'),
    ('Water is H<sub>2</sub>O to most people.', 'Water is H2O to most people.'),
    ('Where <math>x = \\frac{1}{2}</math> holds, it ends.',
     'Where holds, it ends.'),
    ('[[File:A.jpg|thumb|A [[nice]] view.]]It is a nice view.',
     'It is a nice view.'),
    ('It is an end.\n[[Category:Ends]]\n[[de:Ende]]', 'It is an end.'),
    ("It's called ''L'Étoile'' by them.", "It's called L'Étoile by them."),
    ('__NOTOC__It has no table of contents.', 'It has no table of contents.'),
    ('Go <nowiki>[[there]]</nowiki> and come back.', 'Go there and come back.'),
    ("The '''mean''' (or '''average''') is here.",
     'The mean (or average) is here.'),
    ('He came (; or ) and saw (born 1900, ) it all.',
     'He came and saw (born 1900) it all.'),
  ],
)  # fmt: skip
def test_markup_leaves_its_words_alone(wikitext, text):
  assert plain_text(wikitext) == text


@pytest.mark.parametrize(
  'wikitext, text',
  [
    ('{{Infobox|a={{b|c}}|d=[[e]]}}\nIt is here, at last.',
     'It is here, at last.'),
    ('It is {{convert|5|km|mi}} long in all.', 'It is 5 km long in all.'),
    ('It is {{convert|2|to|3|m|ft}} wide at most.',
     'It is 2 to 3 m wide at most.'),
    ('Called {{lang|fr|la tour}} by {{nowrap|all of us}}.',
     'Called la tour by all of us.'),
    ('{{As of|2016|4}} it was open.', 'As of April 2016 it was open.'),
    ('It was open {{as of|2016|lc=y}}.', 'It was open as of 2016.'),
    ('Born {{circa|1400}}{{snd}}died later.', 'Born c. 1400 – died later.'),
    ('Ada ({{IPAc-en|x}}; born 1815) wrote it.',
     'Ada (born 1815) wrote it.'),
    ('Ada ({{lang-ru|Ада}} or {{IPA-x|y}}) did so.', 'Ada (Ада) did so.'),
    ('Ada ({{audio|x.ogg}}) wrote it all.', 'Ada wrote it all.'),
    ('Ada wrote {{unknown}}, and more {{too}}.', 'Ada wrote, and more.'),
  ],
)  # fmt: skip
def test_templates_go_but_for_those_that_stand_for_words(wikitext, text):
  assert plain_text(wikitext) == text


def test_tables_lists_of_names_and_captions_go():
  wikitext = (
    'The first line is a sentence.\n'
    '{| class="wikitable"\n! head\n|-\n| cell one || cell two.\n|}\n'
    '* Ada\n* Bob Smith (1999).\n'
    '* This item is a sentence of more than eight words.\n'
    ': Only a caption\n'
    '|stray = cell of a table that was not closed.\n'
    'The last line is another.'
  )
  assert plain_text(wikitext).split('\n') == [
    'The first line is a sentence.',
    'This item is a sentence of more than eight words.',
    'The last line is another.',
  ]


def test_headings_end_paragraphs_and_listing_sections_go_whole():
  wikitext = (
    'The lead is a sentence.\n== History ==\nIt has a long history.\n'
    "== ''See also'' ==\nIt sees many others.\n"
    '=== Deeper ===\nNor is this kept.\n'
    '== Legacy ==\nIts legacy is kept here.\n== References ==\nNot this one.'
  )
  assert plain_text(wikitext).split('\n') == [
    'The lead is a sentence.',
    'It has a long history.',
    'Its legacy is kept here.',
  ]


def test_a_sentence_that_ended_in_a_formula_goes_alone():
  wikitext = 'It is whole and stays. It is then defined as <math>x</math>'
  assert plain_text(wikitext) == 'It is whole and stays.'


@given(st.text(alphabet="[]{}|'=*#:;<ref>/ab .\n!-&", max_size=80))
def test_broken_markup_neither_fails_nor_leaves_brackets(wikitext):
  text = plain_text(wikitext)
  for debris in ('[[', ']]', '{{', '}}', "''"):
    assert debris not in text
  assert all(line == line.strip() != '' for line in text.split('\n') if text)
