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

# Made of classes of what they adapt to, these say at once what is missing.
ADAPTERS = ('realm_jax.data.tfds_builders',)

# Arguments: packages to walk, then names that cannot be imported, and the
# modules that say so.
IMPORT_ALL = """
import importlib, pkgutil, sys
packages, blocked, adapters = (a.split() for a in sys.argv[1:4])
for name in blocked:
  sys.modules[name] = None
for package in packages:
  root = importlib.import_module(package)
  for module in pkgutil.walk_packages(root.__path__, package + '.'):
    try:
      importlib.import_module(module.name)
      assert module.name not in adapters
    except ImportError as error:
      if module.name not in adapters or 'pip install' not in str(error):
        raise
    print(module.name)
"""


def test_every_module_imports_without_the_extras(run_python):
  imported = run_python(
    IMPORT_ALL, 'realm_jax', ' '.join(HEAVY), ' '.join(ADAPTERS)
  ).split()
  assert 'realm_jax.eval.report' in imported
  assert 'realm_jax.models.realm' in imported


def test_data_side_imports_without_jax(run_python):
  blocked = ' '.join([*HEAVY, 'jax', 'jaxlib', 'flax', 'optax', 'orbax'])
  imported = run_python(
    IMPORT_ALL,
    'realm_jax.data realm_jax.almanac',
    blocked,
    ' '.join(ADAPTERS),
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
    run_python(IMPORT_ALL, 'json', 'json', '')
