import math
import re

import pytest

from realm_jax.train.warning_signs import JUDGED, warnings_of

HEALTHY = {
  'distinct_blocks': 0.6,
  'retrieval_spread': 0.5,
  'retrieval_entropy': 0.7 * math.log(4),
  'null_mass': 0.3,
  'document_utility_p10': -0.6,
  'document_utility_p90': 1.2,
  'held_out_loss': 3.0,
  'held_out_shuffled_loss': 3.5,
  'held_out_reading': 0.143,
}


def test_a_healthy_record_has_no_warning():
  assert warnings_of(HEALTHY, 4) == []
  assert warnings_of({'loss': 3.0}, 4) == []


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    (
      {'distinct_blocks': 0.13, 'retrieval_spread': 0.05},
      r'collapsing: .* \(only 13% of those found differ',
    ),
    ({'retrieval_entropy': math.log(4)}, 'nearly uniform'),
    ({'retrieval_entropy': 0.001}, 'nearly one document'),
    ({'null_mass': 0.95}, 'null document has 95% of'),
    (
      {'document_utility_p10': -0.01, 'document_utility_p90': 0.02},
      r'ignore the documents: .*\(utility -0\.010 to 0\.020 nats\).*masked-LM',
    ),
    (
      {'held_out_shuffled_loss': 2.999, 'held_out_reading': -0.0003},
      r'another query .*loss 3\.000, shuffled 2\.999 nats.*train_retriever',
    ),
  ],
)
def test_a_collapse_is_told_in_words(changed, message):
  ((kind, warning),) = warnings_of({**HEALTHY, **changed}, 4)
  assert re.search(message, warning)
  assert JUDGED[kind][0] in changed


def test_nothing_is_judged_where_nothing_is_retrieved():
  closed_book = {
    'distinct_blocks': 0.0,
    'retrieval_spread': 0.0,
    'retrieval_entropy': 0.0,
    'null_mass': 1.0,
  }
  assert len(warnings_of(closed_book, 4)) == 3
  assert warnings_of(closed_book, 1) == []
  assert warnings_of(closed_book, 0) == []


def test_with_one_document_beside_the_null_document_entropy_is_not_judged():
  assert warnings_of({'retrieval_entropy': math.log(2)}, 2) == []
