"""setup.py, and the versions that are pinned for it."""

import runpy
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope='module')
def settings():
  """What setup.py hands to setuptools."""
  given = {}
  fake = types.ModuleType('setuptools')
  fake.setup = given.update
  fake.find_packages = lambda include: include
  with pytest.MonkeyPatch.context() as patch:
    patch.setitem(sys.modules, 'setuptools', fake)
    runpy.run_path(str(REPOSITORY / 'setup.py'))
  return given


@pytest.mark.parametrize('minor', [11, 12, 13])
def test_every_requirement_is_pinned_within_its_range(settings, minor):
  path = REPOSITORY / 'constraints' / f'py3{minor}.txt'
  pinned = {}
  for line in path.read_text(encoding='utf-8').splitlines():
    if not line.startswith('#'):
      name, version = line.split('==')
      pinned[canonicalize_name(name)] = version
  wanted = [*settings['install_requires'], *settings['extras_require']['all']]
  for requirement in map(Requirement, wanted):
    # Where this fails: make constraints PYTHON=python3.N
    version = pinned[canonicalize_name(requirement.name)]
    assert requirement.specifier.contains(version), (requirement, version)


def test_no_extra_is_left_out_of_all(settings):
  extras = dict(settings['extras_require'])
  everything = set(extras.pop('all'))
  assert set(extras) >= {'data', 'scann', 'ner', 'report', 'baselines', 'dev'}
  assert everything == {name for extra in extras.values() for name in extra}


def test_version_is_that_of_the_package(settings):
  import realm_jax

  assert settings['version'] == realm_jax.__version__


def test_templates_travel_with_the_package(settings):
  for package, patterns in settings['package_data'].items():
    folder = REPOSITORY.joinpath(*package.split('.'))
    for pattern in patterns:
      assert any(folder.glob(pattern)), (package, pattern)
