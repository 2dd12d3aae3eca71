"""Documents state what the plan says, and nothing else, in plain sentences."""

import collections
import re

import pytest

from realm_jax.almanac import documents, make_world, wording
from realm_jax.almanac.documents import compose
from realm_jax.almanac.scenery import COLOUR, DECOYS, INTROS, TOPICS


@pytest.fixture(scope='module')
def world():
  return make_world(seed=1, num_documents=900)


@pytest.fixture(scope='module')
def provinces(world):
  return [(p, compose(world, p)) for p in world.provinces()]


def _holds(text, answer):
  return re.search(rf'(?<!\w){re.escape(answer)}(?!\w)', text) is not None


@pytest.mark.parametrize('num_documents', [120, 179, 300, 1234])
def test_a_world_has_as_many_documents_as_asked(num_documents):
  found = list(documents(make_world(0, num_documents)))
  assert len(found) == num_documents
  assert len({document.title for document in found}) == num_documents


def test_every_fact_is_stated_and_most_of_them_twice(provinces):
  counts = collections.Counter()
  for province, articles in provinces:
    stated = collections.Counter(n for a in articles for n in a.facts)
    assert stated.keys() == set(range(len(province.facts)))
    counts.update(stated.values())
  total = sum(counts.values())
  assert 0.8 < (total - counts[1]) / total < 0.93


def test_a_document_states_a_fact_if_it_names_subject_and_answer(provinces):
  for province, articles in provinces:
    for article in articles:
      for number, fact in enumerate(province.facts):
        text = f'{article.title}. {article.text}'
        both = _holds(text, fact.subject.name) and (
          _holds(article.text, fact.answers[0])
        )
        assert both == (number in article.facts), (article, fact)


def test_facts_read_back_from_the_text_are_those_of_the_world(provinces):
  """Every sentence that looks like a statement is parsed and looked up."""
  parsers = list(_parsers())
  num_read = 0
  for province, articles in provinces[:4]:
    known = {(f.subject.name, f.relation, f.answers[0]) for f in province.facts}
    known |= {
      (answer, 'author', name)
      for name, relation, answer in known
      if relation == 'wrote'
    }
    nouns = {f'the {entity.noun}' for entity in province.entities}
    for article in articles:
      for sentence in re.split(r'(?<=\.) ', article.text):
        for relations, parser in parsers:
          match = parser.fullmatch(sentence)
          if match is None:
            continue
          groups = match.groupdict()
          subject = _bare(groups.pop('s'))
          if subject in nouns or f'the {subject}' in nouns:
            subject = article.title
          answers = [_bare(groups[slot]) for slot in 'oa' if slot in groups]
          readings = [(subject, *pair) for pair in zip(relations, answers)]  # noqa: B905
          if any(reading in known for reading in readings):
            assert all(reading in known for reading in readings), sentence
            num_read += 1
            break
        else:
          assert not any(
            _holds(sentence, f.subject.name) and _holds(sentence, f.answers[0])
            for f in province.facts
          ), sentence
  assert num_read > 500


def _bare(name):
  name = name[0].lower() + name[1:] if name.startswith('The ') else name
  bare = name.removeprefix('the ')
  return f'The {bare}' if name != bare and _is_work(bare) else bare


def _is_work(bare):
  return not re.match(r'(River|Battle|Treaty) ', bare) and not re.search(
    r' (Academy|College|Hospital|Observatory|Museum|Comet|Star|Nebula|Prize)$',
    bare,
  ) and bare[0].isupper()  # fmt: skip


def _parsers():
  for key, patterns in wording.STATEMENTS.items():
    yield from ((key.split()[:1], _parser(p)) for p in patterns)
  for relations, patterns in wording.COMBINED.items():
    yield from ((relations, _parser(p)) for p in patterns)


def _parser(pattern):
  expression = re.escape(pattern)
  for slot in 'soa':
    expression = expression.replace(rf'\{{{slot}\}}', f'(?P<{slot}>.+)')
  return re.compile(expression.replace(r'\{a_noun\}', 'an? [a-z]+'))


def test_documents_are_short_and_their_sentences_easy_to_split(provinces):
  lengths = []
  for _, articles in provinces:
    for article in articles:
      sentences = article.text.split('. ')
      assert 3 <= len(sentences) <= 7
      assert article.text.endswith('.')
      for sentence in sentences:
        assert sentence[0].isupper(), sentence
        assert not re.search(r'[.?!{}]', sentence.removesuffix('.')), sentence
      lengths.append(len(article.text.split()))
  assert 45 < sum(lengths) / len(lengths) < 65
  assert max(lengths) < 100


def test_articles_agree_with_their_nouns(provinces):
  text = ' '.join(a.text for _, articles in provinces for a in articles)
  assert not re.search(r'\b[Aa] [aeiou]', text)
  assert not re.search(r'\b[Aa]n (?!honour)[^aeiou]', text)
  assert not re.search(r'\bthe the\b|\b[Tt]he The\b|  ', text)


def test_every_kind_has_scenery(provinces):
  kinds = {entity.kind for entity in provinces[0][0].entities}
  for table in (COLOUR, DECOYS, INTROS, TOPICS):
    assert table.keys() == kinds


def test_editions_differ_only_where_facts_changed(world):
  for province, old, new in (
    (p, compose(world, p), compose(world._replace(edition='2020'), p))
    for p in world.provinces()
  ):
    for before, after in zip(old, new, strict=True):
      expected = before.text
      for number in before.facts:
        was, now = province.facts[number].answers
        expected = expected.replace(was, now)
      assert after == before._replace(text=expected)
