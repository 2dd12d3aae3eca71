"""Names are unique, share their parts, and come from arithmetic alone."""

import collections

import pytest

from realm_jax.almanac.draws import Draws, streams
from realm_jax.almanac.names import FAMILY, Names, _Permutation


@pytest.mark.parametrize('size', [1, 2, 7, 64, 1000, 4097])
def test_permutation_visits_every_element_once(size):
  permutation = _Permutation(size, seed=3)
  assert sorted(permutation[i] for i in range(size)) == list(range(size))


def test_permutation_is_no_rotation():
  permutation = _Permutation(1000, seed=3)
  steps = {(permutation[i + 1] - permutation[i]) % 1000 for i in range(999)}
  assert len(steps) > 300


def test_names_are_never_given_twice():
  names = Names(0, num_places=1250, num_people=2200, num_works=300)
  places = [names.place(i) for i in range(1250)]
  people = [names.person(i) for i in range(2200)]
  works = [names.work(i) for i in range(300)]
  for given in (places, people, works):
    assert len(set(given)) == len(given)
  # a place is no surname: an answer could be found in somebody's name
  assert not set(places) & {name.split()[1] for name in people}


@pytest.mark.slow
def test_names_suffice_for_a_million_documents():
  names = Names(5, num_places=416_650, num_people=733_304, num_works=99_996)
  for number in (416_649, 733_303, 99_995):
    assert names.person(number)
  assert len({names.place(i) for i in range(416_650)}) == 416_650
  assert len({names.work(i) for i in range(99_996)}) == 99_996
  assert len({names.person(i) for i in range(733_304)}) == 733_304


def test_names_share_parts_and_families_a_surname():
  names = Names(0, num_places=1250, num_people=2200, num_works=300)
  people = [names.person(i).split() for i in range(2200)]
  firsts = collections.Counter(first for first, _ in people)
  assert len(firsts) == 64
  assert min(firsts.values()) > 5
  for start in range(0, 2200, FAMILY):
    family = people[start : start + FAMILY]
    assert len({surname for _, surname in family}) == 1
  families = collections.Counter(surname for _, surname in people[::FAMILY])
  assert max(families.values()) > 3  # a surname is no clue to one family


def test_asking_beyond_the_inventory_is_refused():
  with pytest.raises(ValueError, match='inventory of 7'):
    _Permutation(7, seed=0)[7]


def test_draws_are_splitmix64():
  # first outputs of the reference implementation for state 1234567
  draws = Draws(1234567)
  expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
  assert [draws.below(1 << 64) for _ in expected] == expected


def test_streams_depend_on_every_part_of_their_key():
  keys = [(0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3)]
  firsts = {streams(key, 3)[1].below(1 << 60) for key in keys}
  assert len(firsts) == 4
  again = streams((0, 1, 2), 5)[1].below(1 << 60)
  assert again == streams((0, 1, 2), 3)[1].below(1 << 60)


def test_shuffled_keeps_the_elements():
  draws = Draws(9)
  assert sorted(draws.shuffled(range(11))) == list(range(11))
  orders = {tuple(draws.shuffled('abc')) for _ in range(200)}
  assert len(orders) == 6
