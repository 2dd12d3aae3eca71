"""Fixtures and the table of deviations."""

import os
from pathlib import Path

import pytest
from parity import fixtures


@pytest.fixture(scope='session')
def fixtures_folder() -> Path:
  """The folder with official_realm/ and hf_realm/ in it.

  REALM_JAX_FIXTURES names it; without it, shared/fixtures beside the
  repository. Where there is none, the test is skipped.
  """
  if not fixtures.FOLDER.is_dir():
    pytest.skip(f'no fixtures in {fixtures.FOLDER}; set REALM_JAX_FIXTURES')
  return fixtures.FOLDER


def pytest_sessionfinish() -> None:
  """Writes the deviations where REALM_JAX_DEVIATIONS says."""
  path = os.environ.get('REALM_JAX_DEVIATIONS')
  if path:
    from parity import deviations

    Path(path).write_text(deviations.markdown_table(), encoding='utf-8')
