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
    ('Ada ({{langx|ru|Ада|Ada}}) did so too.', 'Ada (Ада) did so too.'),
    ('Ada was ({{OldStyleDate|May 2|1905|April 19}} – 1982) here.',
     'Ada was (May 2 [O.S. April 19] 1905 – 1982) here.'),
    ('It is known{{mdashb}}to all of us.', 'It is known – to all of us.'),
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


def test_lines_that_follow_each_other_are_one_paragraph():
  wikitext = (
    'It was built\nin three\nyears.<ref>a</ref>\nIt stands.\n\nThe second '
    'paragraph\n* is not this item, which is a whole sentence.\nThe third has '
    'one<br>break in\nit, after four words.\n indented code.\n'
    '[[File:a.png|thumb|Its [[caption]]]]\nThe last one is here.'
  )
  assert plain_text(wikitext).split('\n') == [
    'It was built in three years. It stands.',
    'is not this item, which is a whole sentence.',
    'break in it, after four words.',
    'The last one is here.',
  ]


@pytest.mark.parametrize(
  ('item', 'is_kept'),
  [
    ('The river has no bridge between the two towns', True),
    ('It was sold.', False),
    ('It was sold again.', True),
    ('Red and blue stones, sold together.', False),
    ('A box of red and blue stones, sold together.', True),
    ('A box of red and blue stones that they sold', False),
    ('stones that were red or blue and sold together', False),
  ],
)
def test_items_of_lists_stay_if_they_are_sentences(item, is_kept):
  assert plain_text(f'* {item}') == (item if is_kept else '')


def test_sections_that_list_works_keep_their_prose():
  wikitext = (
    '== Filmography ==\nShe made nine films in all.\n'
    '* The first of them was made in nine days.\n'
    '=== Shorts ===\nFour of them are short.\n* The Fourth of them is it.\n'
    '== Reception ==\n* The first of them was liked by most.'
  )
  assert plain_text(wikitext).split('\n') == [
    'She made nine films in all.',
    'Four of them are short.',
    'The first of them was liked by most.',
  ]


@pytest.mark.parametrize(
  ('wikitext', 'text'),
  [
    ('It is {{convert|22|e6acre|km2}} large.', 'It is 22 million acres large.'),
    ('It is {{convert|1500|to|22000|m}} high.',
     'It is 1,500 to 22,000 m high.'),
    ('He is {{cvt|6|ft|2|in|cm}} tall.', 'He is 6 ft 2 in tall.'),
    ('It is {{convert|15|–|17|in|disp=or}} long.', 'It is 15–17 in long.'),
    ('It has {{convert|2|&ndash;|3|sqmi}} of land.',
     'It has 2–3 square miles of land.'),
    ('It is 10<sup>−10</sup> m and 5 km<sup>2</sup>.',
     'It is 10^−10 m and 5 km².'),
    ('The 19<sup>th</sup> has <sup>14</sup>C in it.',
     'The 19th has 14C in it.'),
    ('It weighs 3.3{{e|-20}}&nbsp;g in all.', 'It weighs 3.3×10^−20 g in all.'),
    ('It needs {{US$|2 billion}} a year.', 'It needs US$2 billion a year.'),
    ('It has {{convert|160|Tcuft}} of gas.',
     'It has 160 trillion cubic feet of gas.'),
    ('It has {{formatnum:12345}} of them.', 'It has 12,345 of them.'),
    ('So &notit; and &#8211; go, {{=}} does not.',
     'So &notit; and – go, = does not.'),
  ],
)  # fmt: skip
def test_numbers_and_their_units_are_spelled_out(wikitext, text):
  assert plain_text(wikitext) == text


@pytest.mark.parametrize(
  'quote',
  [
    '{{quote|%s}}', '{{Quote\n|text=%s\n|author=Bob\n}}',
    '{{quote|1=%s|2=Bob}}', '{{quotation|%s<ref>{{cite|a=b}}</ref>|Bob}}',
    '<blockquote>%s</blockquote>',
  ],
)  # fmt: skip
def test_quotations_are_paragraphs(quote):
  said = 'We have been [[here]] before, {{nowrap|all of us}}.'
  assert plain_text(f'Ada said to them: {quote % said} And she left.') == (
    'Ada said to them:\nWe have been here before, all of us.'
  )


def test_section_titles_are_lines_where_prose_follows():
  wikitext = (
    'The lead is a sentence.\n== Empty ==\n* Ada\n== History ==\n'
    "=== ''Early'' [[year]]s ===\nIt has a long history.\nAnd more.\n\nSo much."
    '\n=== Later ===\n== See also ==\nThis is not kept.\n'
    '== Legacy ==\nIts legacy is kept here.'
  )
  kept = plain_text(wikitext, section_titles=True)
  assert kept.split('\n') == [
    'The lead is a sentence.',
    'History',
    'Early years',
    'It has a long history. And more.',
    'Legacy',
    'Its legacy is kept here.',
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
