from collections import Counter

import pytest

from realm_jax.data.editions import (
  REVISED,
  check_since,
  describe_edition,
  edition_text,
  edition_warning,
)
from realm_jax.errors import UserError

COUNTS = Counter(
  {f'{REVISED}2018-12-09': 3, f'{REVISED}2009-11-30': 1, 'articles': 4}
)


def test_a_day_is_written_in_one_way():
  assert check_since('20181220') == check_since('2018-12-20') == '2018-12-20'
  assert check_since(None) is None


@pytest.mark.parametrize(
  'since', ['', '2018', '20 December 2018', '2018-13-01', 3]
)
def test_what_is_no_day_is_refused(since):
  with pytest.raises(
    UserError, match=r'since is .*expected the day.*2018-12-20'
  ):
    check_since(since)


@pytest.mark.parametrize(
  ('since', 'counts', 'oldest', 'newest', 'text'),
  [
    (None, Counter(), None, None, 'not known'),
    ('2018-12-20', Counter(), None, None, 'since 2018-12-20'),
    (
      None,
      COUNTS,
      '2009-11-30',
      '2018-12-09',
      'revisions of 2009-11-30 to 2018-12-09',
    ),
  ],
)
def test_an_edition_has_its_stamp_and_its_revisions(
  since, counts, oldest, newest, text
):
  edition = describe_edition(since, counts)
  assert edition == {
    'since': since,
    'oldest_revision': oldest,
    'newest_revision': newest,
  }
  assert edition_text({'edition': edition}) == text


def test_corpora_made_before_have_no_edition():
  assert edition_text({}) == 'not known'


def test_a_revision_after_the_stamp_is_warned_of():
  assert not edition_warning(describe_edition('2018-12-09', COUNTS))
  assert not edition_warning(describe_edition(None, COUNTS))
  warning = edition_warning(describe_edition('2018-12-08', COUNTS))
  assert '2018-12-09, after the stamp, 2018-12-08' in warning
