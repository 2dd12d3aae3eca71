"""The world is consistent: facts agree with one another."""

import pytest

from realm_jax.almanac import make_world
from realm_jax.almanac.wording import COMBINED, QUESTIONS, RELATIONS, statements
from realm_jax.errors import UserError


@pytest.fixture(scope='module')
def provinces():
  return list(make_world(seed=4, num_documents=1300).provinces())


def _answers(province, relation):
  return {
    fact.subject.name: fact.answers[0]
    for fact in province.facts
    if fact.relation == relation
  }


def _years(dates):
  return {name: int(date.split()[-1]) for name, date in dates.items()}


def test_people_are_born_before_they_die_and_not_too_old(provinces):
  for province in provinces:
    births = _years(_answers(province, 'birth_date'))
    deaths = _years(_answers(province, 'death_date'))
    assert births.keys() == deaths.keys()
    for name, birth in births.items():
      assert 50 <= deaths[name] - birth <= 90


def test_works_appear_while_their_author_lives(provinces):
  for province in provinces:
    births = _years(_answers(province, 'birth_date'))
    deaths = _years(_answers(province, 'death_date'))
    authors = _answers(province, 'author')
    authors |= {
      title: name for name, title in _answers(province, 'wrote').items()
    }
    published = _years(_answers(province, 'published'))
    assert authors.keys() == published.keys()
    for title, year in published.items():
      assert births[authors[title]] + 20 < year <= deaths[authors[title]]


def test_founders_live_when_they_found(provinces):
  num_known = 0
  for province in provinces:
    births = _years(_answers(province, 'birth_date'))
    deaths = _years(_answers(province, 'death_date'))
    founded = _years(_answers(province, 'founded'))
    for name, founder in _answers(province, 'founder').items():
      if founder in births:
        num_known += 1
        assert births[founder] + 20 < founded[name] <= deaths[founder]
  assert num_known == 2 * len(provinces)


def test_teachers_are_older_and_alive(provinces):
  num_known = 0
  for province in provinces:
    births = _years(_answers(province, 'birth_date'))
    deaths = _years(_answers(province, 'death_date'))
    for pupil, teacher in _answers(province, 'teacher').items():
      if teacher in births:
        num_known += 1
        assert births[teacher] + 15 < births[pupil]
        assert births[pupil] + 15 < deaths[teacher]
  assert num_known > len(provinces)


def test_a_relation_has_one_answer_and_a_pair_one_relation(provinces):
  for province in provinces:
    relations = [(fact.subject.name, fact.relation) for fact in province.facts]
    assert len(set(relations)) == len(relations)
    pairs = [(fact.subject.name, fact.answers) for fact in province.facts]
    assert len(set(pairs)) == len(pairs)


def test_no_name_stands_in_another(provinces):
  for province in provinces[:3]:
    names = {entity.name for entity in province.entities}
    for fact in province.facts:
      if not fact.relation.endswith('_date'):
        names.update(fact.answers)
    for name in names:
      others = names - {name}
      assert not any(f' {name} ' in f' {other} ' for other in others)


def test_editions_differ_in_offices_and_populations_only():
  changed = set()
  worlds = [make_world(2, 300, edition) for edition in ('2018', '2020')]
  for old, new in zip(*(world.provinces() for world in worlds), strict=True):
    assert old == new  # a fact holds both answers
    for fact in old.facts:
      if fact.answers[0] != fact.answers[1]:
        changed.add(fact.relation)
  assert changed <= {'ruler', 'mayor', 'rector', 'holder', 'population'}
  assert len(changed) >= 4


def test_every_relation_is_worded_and_asked_in_several_ways(provinces):
  relations = set()
  for province in provinces:
    for fact in province.facts:
      relations.add(fact.relation)
      relation = fact.relation if fact.relation != 'wrote' else 'author'
      patterns = statements(relation, fact.subject.kind)
      assert len(patterns) >= 4
      for pattern in patterns:
        assert pattern.count('{s}') == pattern.count('{o}') == 1
  assert relations == set(RELATIONS) == QUESTIONS.keys()
  for patterns in QUESTIONS.values():
    assert len(patterns) >= 3
    assert all(pattern.count('{s}') == 1 for pattern in patterns)
  for patterns in COMBINED.values():
    for pattern in patterns:
      assert {'{s}', '{o}', '{a}'} <= {
        pattern[i : i + 3] for i in range(len(pattern))
      }


@pytest.mark.parametrize(
  'arguments, message',
  [
    ({'edition': '2019'}, "edition is '2019', expected one of 2018, 2020"),
    ({'num_documents': 119}, 'num_documents is 119, expected at least 120'),
    ({'seed': -1}, 'seed is -1, expected a non-negative integer'),
  ],
)
def test_bad_arguments_are_named(arguments, message):
  with pytest.raises(UserError, match=message):
    make_world(**arguments)
