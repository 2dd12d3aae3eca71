import pytest

from realm_jax.eval.question_types import QUESTION_TYPES, question_type


@pytest.mark.parametrize(
  ('question', 'expected'),
  [
    ('who wrote the first book', 'who'),
    ("Who's the king?", 'who'),
    ('whose face is on the coin', 'who'),
    ('How many rivers are there?', 'how many'),
    ('how long is the bridge', 'how many'),
    ('how is salt made', 'how'),
    ('when did it end', 'when'),
    ('In what year did it end?', 'when'),
    ('In which city is it?', 'which'),
    ('the river of Arnby flows where', 'where'),
    ('Why is it so?', 'why'),
    ('what Arthur Miller play is it', 'what'),
    ('Is it in Arnby?', 'yes or no'),
    ('may a mason paint', 'yes or no'),
    ('  THE YEAR WHEN IT FELL', 'when'),
    ('Name the captain of the ship.', 'other'),
    ('what does somehow mean', 'what'),
  ],
)
def test_the_first_question_word_decides(question, expected):
  assert question_type(question) == expected
  assert expected in QUESTION_TYPES
