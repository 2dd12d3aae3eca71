"""Where the numbers of the original programs lie."""

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope='session')
def fixtures_folder() -> Path:
  """The folder with official_realm/ and hf_realm/ in it.

  REALM_JAX_FIXTURES names it; without it, shared/fixtures beside the
  repository. Where there is none, the test is skipped.
  """
  folder = Path(
    os.environ.get(
      'REALM_JAX_FIXTURES', REPOSITORY.parent / 'shared' / 'fixtures'
    )
  )
  if not folder.is_dir():
    pytest.skip(f'no fixtures in {folder}; set REALM_JAX_FIXTURES')
  return folder


def pytest_sessionfinish() -> None:
  """Writes the deviations where REALM_JAX_DEVIATIONS says."""
  path = os.environ.get('REALM_JAX_DEVIATIONS')
  if path:
    from parity import deviations

    Path(path).write_text(deviations.markdown_table(), encoding='utf-8')
