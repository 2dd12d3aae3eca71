import pytest

from realm_jax.data.wiki_nesting import without_runaways


@pytest.mark.parametrize(
  'wikitext',
  ['{{a|b', '[[a|b]] {{c}}', '== a ==\n{| b\n|}', '{{' * 500 + '}}' * 500],
)
def test_what_a_parser_gets_through_stays(wikitext):
  assert without_runaways(wikitext) == wikitext


@pytest.mark.parametrize(
  'mark', ['{{', '[[a|', '<ref>', '<!--', '{|\n', '<div class="a']
)
def test_marks_that_are_never_closed_go(mark):
  text = without_runaways(mark * 9000)
  assert mark.strip() not in text


def test_marks_behind_half_a_tag_go():
  # They are no attributes of it, although no tag closes before them.
  text = without_runaways("<div style='" + '[[File:c| ' * 9000)
  assert '[[' not in text


def test_a_pair_that_is_closed_stays_among_marks_that_are_not():
  assert '{{a|b}}' in without_runaways('{{a|b}} ' + '[[ ' * 9000)
