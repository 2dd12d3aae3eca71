import numpy as np
import tiny
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.corpus import Corpus
from realm_jax.index.candidates import choose_candidates, content_ids

# Blocks 4 and 7 say the same, and so do 1 and 9.
CONTENT = np.array([0, 1, 2, 3, 4, 5, 6, 4, 8, 1])


def choose(found, source, num_candidates=4, contains_query=None):
  return choose_candidates(
    np.array(found, np.int32),
    np.array(source, np.int32),
    num_candidates,
    CONTENT,
    contains_query,
  )


def test_the_null_document_comes_first_and_the_best_follow():
  chosen = choose([[3, 8, 0, 5, 6], [2, 0, 3, 5, 8]], [9, 6])
  assert chosen.block_ids.tolist() == [[-1, 3, 8, 0], [-1, 2, 0, 3]]
  assert chosen.block_ids.dtype == np.int32
  assert chosen.mask.tolist() == [[1, 1, 1, 1]] * 2
  assert chosen[2:] == (0, 0, 0, 0)


def test_the_source_block_and_its_copies_are_dropped():
  chosen = choose([[7, 3, 4, 8, 0], [4, 7, 2, 5, 0]], [4, 7])
  assert chosen.block_ids.tolist() == [[-1, 3, 8, 0], [-1, 2, 5, 0]]
  assert chosen.num_source == 4
  assert chosen.num_duplicates == 0


def test_of_equal_blocks_the_best_is_kept():
  chosen = choose([[9, 7, 1, 4, 2, 0]], [3])
  assert chosen.block_ids.tolist() == [[-1, 9, 7, 2]]
  assert chosen.num_duplicates == 2


def test_near_duplicates_are_dropped_on_demand():
  def contains_query(row, block_id):
    return (row, block_id) in {(0, 3), (1, 8)}

  found = [[3, 8, 0, 5], [3, 8, 0, 5]]
  chosen = choose(found, [2, 2], contains_query=contains_query)
  assert chosen.block_ids.tolist() == [[-1, 8, 0, 5], [-1, 3, 0, 5]]
  assert chosen.num_near_duplicates == 2


def test_slots_without_a_document_are_marked_and_counted():
  chosen = choose([[6, 3, 6, -1], [-1, -1, -1, -1]], [3, 0])
  assert chosen.block_ids.tolist() == [[-1, 6, -1, -1], [-1, -1, -1, -1]]
  assert chosen.mask.tolist() == [[1, 1, 0, 0], [1, 0, 0, 0]]
  assert chosen.num_empty == 5


@given(
  found=st.lists(
    st.permutations(range(10)).map(lambda p: p[:7]), min_size=1, max_size=3
  ),
  data=st.data(),
)
def test_whatever_is_found_no_content_comes_twice(found, data):
  source = data.draw(
    st.lists(st.integers(0, 9), min_size=len(found), max_size=len(found))
  )
  chosen = choose(found, source, num_candidates=5)
  for row, block_ids in enumerate(chosen.block_ids):
    real = block_ids[chosen.mask[row].astype(bool)][1:]
    contents = CONTENT[real].tolist()
    assert len(set(contents)) == len(contents)
    assert CONTENT[source[row]] not in contents
    ranks = [found[row].index(block_id) for block_id in real.tolist()]
    assert ranks == sorted(ranks)
  dropped = chosen.num_source + chosen.num_duplicates
  assert chosen.mask[:, 1:].sum() + dropped <= 7 * len(found)


def test_equal_title_and_text_have_equal_numbers(tmp_path):
  rows = tiny.documents()[:3]
  rows += [rows[1], {**rows[2], 'title': 'Another'}]
  corpus = Corpus.open(tiny.make_corpus(tmp_path, rows))
  numbers = content_ids(corpus)
  assert numbers.tolist() == [0, 1, 2, 1, 4]


def test_the_fixture_has_no_equal_blocks(tiny_corpus):
  corpus = Corpus.open(tiny_corpus)
  assert content_ids(corpus).tolist() == list(range(corpus.num_blocks))
