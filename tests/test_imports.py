"""What importing the library costs, and what it must do without."""

import pytest

HEAVY = (
  'apache_beam',
  'bm25s',
  'gin',
  'jinja2',
  'matplotlib',
  'scann',
  'seqio',
  'spacy',
  'tensorflow',
  'tensorflow_datasets',
  'tensorflow_text',
)

# Arguments: packages to walk, then names that cannot be imported.
IMPORT_ALL = """
import importlib, pkgutil, sys
packages, blocked = (argument.split() for argument in sys.argv[1:3])
for name in blocked:
  sys.modules[name] = None
for package in packages:
  root = importlib.import_module(package)
  for module in pkgutil.walk_packages(root.__path__, package + '.'):
    importlib.import_module(module.name)
    print(module.name)
"""


def test_every_module_imports_without_the_extras(run_python):
  imported = run_python(IMPORT_ALL, 'realm_jax', ' '.join(HEAVY)).split()
  assert 'realm_jax.eval.report' in imported
  assert 'realm_jax.models.realm' in imported


def test_data_side_imports_without_jax(run_python):
  blocked = ' '.join([*HEAVY, 'jax', 'jaxlib', 'flax', 'optax', 'orbax'])
  imported = run_python(
    IMPORT_ALL, 'realm_jax.data realm_jax.almanac', blocked
  ).split()
  assert 'realm_jax.data.corpus' in imported


def test_importing_the_package_is_quick_and_light(run_python):
  code = f"""
import sys, time
import jax
started = time.perf_counter()
import realm_jax
print(time.perf_counter() - started)
print(*set(sys.modules) & {set(HEAVY)})
"""
  seconds, loaded = run_python(code).split('\n')[:2]
  assert float(seconds) < 1.5
  assert loaded == ''


def test_a_blocked_module_cannot_be_imported(run_python):
  with pytest.raises(AssertionError, match='import of json halted'):
    run_python(IMPORT_ALL, 'json', 'json')
