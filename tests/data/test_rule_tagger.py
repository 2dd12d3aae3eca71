import pytest

from realm_jax.data.rule_tagger import ENTITY, NUMBER, RuleTagger


def found(text, kind=ENTITY):
  return [
    text[s.start : s.stop]
    for s in RuleTagger().tag([text])[0]
    if s.kind == kind
  ]


@pytest.mark.parametrize(
  'text, names',
  [
    ('she met Marie Curie in Paris', ['Marie Curie', 'Paris']),
    ('the University of Oxford won', ['University of Oxford']),
    ('of Alexander the Great', ['Alexander the Great']),
    ('with Vincent van Gogh', ['Vincent van Gogh']),
    ('by Dr. J. R. Smith of Acme', ['Dr. J. R. Smith of Acme']),
    ('the U.S. Army', ['U.S. Army']),
    ("saw O'Brien's dog", ["O'Brien"]),
    ('the Élysée and Łódź', ['Élysée', 'Łódź']),
    ('aboard Apollo 11 today', ['Apollo 11']),
    ('in New York City', ['New York City']),
    ('France and Germany', ['France', 'Germany']),
    ('a French-speaking town', ['French']),
    ('to Port-au-Prince by Spider-Man', ['Port-au-Prince', 'Spider-Man']),
    ('the academy (A.M.P.A.S.) met', ['A.M.P.A.S.']),
  ],
)
def test_a_name_is_found_whole(text, names):
  assert found(text) == names


@pytest.mark.parametrize(
  'text, names',
  [
    ('After Paris fell, Rome did.', ['Paris', 'Rome']),
    ('The Beatles played.', ['Beatles']),
    ('Some of the Beatles left.', ['Beatles']),
    ('Scientists agreed. Many did.', []),
    ('Petroleum is old, and petroleum burns.', []),
    ('Tesla died in poverty.', ['Tesla']),
    ('They like Banking. Banking likes them.', ['Banking', 'Banking']),
    ('She said: “The End” and left.', ['End']),
    ('Leaving the Rhine, he went.', ['Rhine']),
    ('Synthetic oil is made. Likewise it is sold.', []),
    ('World War I. The end came.', ['World War I']),
  ],
)
def test_the_first_word_of_a_sentence_needs_more_than_a_capital(text, names):
  assert found(text) == names


@pytest.mark.parametrize(
  'text',
  ['on Monday', 'on the Sunday of November', 'in May', 'I am A', '', 'iPhone'],
)
def test_days_months_and_single_letters_are_no_names(text):
  assert found(text) == []


def test_numbers_are_found_whole():
  text = 'It has 1,234.5 of 77 million (45%) for $20 at 3:15 in B52 and 1-2.'
  assert found(text, NUMBER) == ['1,234.5', '77 million', '45%', '$20']


def test_spans_are_in_order_and_do_not_overlap():
  text = 'In 12 towns of Peru 3 men saw Apollo 11. Apollo 11 saw 4 towns.'
  spans = RuleTagger().tag([text])[0]
  bounds = [bound for span in spans for bound in span[:2]]
  assert bounds == sorted(bounds)
  assert {span.kind for span in spans} == set(RuleTagger.kinds)
