import pytest

from realm_jax.errors import UserError
from realm_jax.index.memory import check_free, free_host_bytes


def test_what_does_not_fit_is_refused_with_both_sizes():
  with pytest.raises(
    UserError, match=r'A table needs about 3\.00 GiB, but 2\.00 GiB .* Do so\.'
  ):
    check_free(3 << 30, 2 << 30, 'A table', 'Do so.')


def test_what_fits_or_cannot_be_known_is_let_through():
  check_free(2 << 30, 2 << 30, 'A table', '')
  check_free(1 << 60, None, 'A table', '')


def test_the_host_says_what_is_free():
  free = free_host_bytes()
  assert free is None or 1 << 20 < free < 1 << 50
