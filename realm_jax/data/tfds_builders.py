"""TFDS builders of the almanac and of prepared corpora (extra `data`).

Importing this module registers them:

    import tensorflow_datasets as tfds
    from realm_jax.data import tfds_builders

    tfds.load('realm_almanac/2020', split='train')
    tfds.load('realm_almanac_questions', split='test')
    config = tfds_builders.AlmanacConfig(num_documents=100_000)
    tfds.load('realm_almanac', split='train', builder_kwargs={'config': config})
    tfds_builders.load_corpus('runs/corpus')
"""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.almanac.documents import documents
from realm_jax.almanac.questions import SPLITS, questions
from realm_jax.almanac.world import EDITIONS, World, make_world
from realm_jax.data.corpus import Corpus
from realm_jax.optional import require

tfds: Any = require('tensorflow_datasets', 'data')

_HOMEPAGE = 'https://arxiv.org/abs/2002.08909'
_VERSION = tfds.core.Version('1.0.0')


@dataclasses.dataclass
class AlmanacConfig(tfds.core.BuilderConfig):
  """Which almanac: see almanac.writing.write_almanac.

  Attributes:
    edition: '2018' or '2020'.
    seed: of the world.
    num_documents: of the encyclopedia.
  """

  name: str = ''
  edition: str = EDITIONS[0]
  seed: int = 0
  num_documents: int = 3000

  def __post_init__(self):
    plain = (self.seed, self.num_documents) == (0, 3000)
    suffix = '' if plain else f'_{self.seed}_{self.num_documents}'
    self.name = self.edition + suffix  # names the folder that TFDS caches in

  def world(self) -> World:
    """The world it describes."""
    return make_world(self.seed, self.num_documents, self.edition)


_CONFIGS = [AlmanacConfig(edition=edition) for edition in EDITIONS]


class RealmAlmanac(tfds.core.GeneratorBasedBuilder):
  """The documents of the almanac, an encyclopedia of an invented world."""

  VERSION = _VERSION
  BUILDER_CONFIGS = _CONFIGS

  def _info(self) -> Any:
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {'title': tfds.features.Text(), 'text': tfds.features.Text()}
      ),
      homepage=_HOMEPAGE,
    )

  def _split_generators(self, manager: Any) -> dict[str, Any]:
    del manager  # nothing is downloaded
    return {'train': self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, str]]]:
    for number, document in enumerate(documents(self.builder_config.world())):
      yield number, {'title': document.title, 'text': document.text}


class RealmAlmanacQuestions(tfds.core.GeneratorBasedBuilder):
  """The questions of the almanac, split by the entity they ask about."""

  VERSION = _VERSION
  BUILDER_CONFIGS = _CONFIGS

  def _info(self) -> Any:
    text = tfds.features.Text()
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'question': text,
          'answer': tfds.features.Sequence(text),
          'titles': tfds.features.Sequence(text),
          'entity': text,
          'relation': text,
          'num_statements': np.int64,
        }
      ),
      homepage=_HOMEPAGE,
    )

  def _split_generators(self, manager: Any) -> dict[str, Any]:
    del manager
    return {split: self._generate_examples(split) for split in SPLITS}

  def _generate_examples(
    self, split: str
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    world = self.builder_config.world()
    for number, question in enumerate(questions(world)):
      if question.split == split:
        yield number, question.as_json()


@dataclasses.dataclass
class CorpusConfig(tfds.core.BuilderConfig):
  """Which corpus.

  Attributes:
    folder: what `realm-jax prepare` made.
  """

  name: str = ''
  folder: str = ''

  def __post_init__(self):
    if self.folder:  # named for what it holds, wherever it lies
      fingerprint = Corpus.open(self.folder).fingerprint
      self.name = f'{Path(self.folder).name}_{fingerprint[:16]}'


class RealmCorpus(tfds.core.GeneratorBasedBuilder):
  """The blocks of a prepared corpus; example i of the split is block i."""

  VERSION = _VERSION

  def _info(self) -> Any:
    pieces = tfds.features.Sequence(np.uint16)
    return self.dataset_info_from_configs(
      features=tfds.features.FeaturesDict(
        {
          'block_id': np.int64,
          'title': tfds.features.Text(),
          'text': tfds.features.Text(),
          'title_token_ids': pieces,
          'token_ids': pieces,
          'article_id': np.int64,
        }
      ),
      disable_shuffling=True,
      homepage=_HOMEPAGE,
    )

  def _split_generators(self, manager: Any) -> dict[str, Any]:
    del manager
    return {'train': self._generate_examples()}

  def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
    corpus = Corpus.open(self.builder_config.folder)
    for block_id in range(corpus.num_blocks):
      tokens = corpus.gather(np.array(block_id))
      yield (
        block_id,
        {
          'block_id': block_id,
          'title': corpus.title(block_id),
          'text': corpus.text(block_id),
          'title_token_ids': tokens.title_ids[: tokens.title_len],
          'token_ids': tokens.body_ids[: tokens.body_len],
          'article_id': int(corpus.article_ids[block_id]),
        },
      )


def load_corpus(folder: str | Path, **kwargs: Any) -> Any:
  """A prepared corpus as a TFDS data set.

  Args:
    folder: what `realm-jax prepare` made.
    **kwargs: of tfds.load; split is 'train' if not given.

  Raises:
    FileNotFoundError: there is no such corpus.
  """
  config = CorpusConfig(folder=str(folder))
  kwargs = {'split': 'train', **kwargs}
  builder_kwargs = {**kwargs.pop('builder_kwargs', {}), 'config': config}
  return tfds.load('realm_corpus', builder_kwargs=builder_kwargs, **kwargs)
