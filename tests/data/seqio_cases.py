"""What the tests of the seqio modules share: a corpus, questions, readers."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import (
  InverseCloze,
  Lengths,
  MaskedSentences,
  split_sentences,
)
from realm_jax.data.seqio_tasks import MASKED_TASKS, register_tasks
from realm_jax.runs.prepare import prepare

seqio = pytest.importorskip('seqio', exc_type=ImportError)

# Short queries, so that some spans do not fit and are left out.
LENGTHS = Lengths(query_len=17, document_len=41, max_masks=3)
SEED = 5
HELD_OUT = 4
SENTENCE_TASKS = [*MASKED_TASKS, 'realm_ict']

QUESTIONS = [
  {'question': 'Who founded Town 3?', 'answer': ['Anna Field3', 'Anna Field']},
  {'question': 'A list?', 'answer': ['1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11']},
  {'question': 'Which year?', 'answer': ['15[0-9]+'], 'regex': True},
  {'question': 'Where is Zürich?', 'answer': ['naß', 'a', 'b']},
]


def documents():
  """Thirty, some of a single sentence or with a sentence of a single piece."""
  for i in range(30):
    sentences = [
      f'Town number {i} was founded by Anna Field{i} in {1500 + 7 * i}.',
      'Rain.',
      f'Its river is long and green and cold and full of very old fish, so '
      f'says the book of Otto Hill{i}.',
      'There was nobody.',
    ]
    text = ' '.join(sentences[: 1 + i % 4])
    yield {'title': f'Town {i}', 'text': text}


def write_lines(path, rows):
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return path


def prepare_corpus(folder, rows, **settings):
  source = write_lines(folder / 'documents.jsonl', rows)
  prepare(
    [str(source)],
    str(folder / 'corpus'),
    vocab_size=300,
    block_len=60,
    console=Console(file=io.StringIO()),
    **settings,
  )
  return folder / 'corpus'


def make_corpus(folder):
  return Corpus.open(prepare_corpus(folder, documents()))


def empty_registries(monkeypatch):
  """Registries that no other test sees."""
  monkeypatch.setattr(seqio.TaskRegistry, '_REGISTRY', {})
  monkeypatch.setattr(seqio.MixtureRegistry, '_REGISTRY', {})


def register(corpus, **settings):
  return register_tasks(
    corpus.folder, LENGTHS, SEED, num_held_out=HELD_OUT, **settings
  )


def read(name, split='train', shuffle=False, **settings):
  task = seqio.get_mixture_or_task(name)
  dataset = task.get_dataset(split=split, shuffle=shuffle, **settings)
  return list(dataset.as_numpy_iterator())


def read_shards(num_shards, read_shard, **settings):
  """What each host reads; read_shard takes shard_info."""
  return [
    read_shard(shard_info=seqio.ShardInfo(index, num_shards), **settings)
    for index in range(num_shards)
  ]


def frozen(example):
  """An example as something that can be counted and compared."""
  arrays = {name: np.asarray(value) for name, value in example.items()}
  return tuple(
    (name, array.dtype.kind, array.shape, repr(array.tolist()))
    for name, array in sorted(arrays.items())
  )


def make_sentence_example(corpus, name):
  if name == 'realm_ict':
    return InverseCloze(corpus, LENGTHS, SEED)
  return MaskedSentences(corpus, MASKED_TASKS[name], LENGTHS, SEED)


def read_through_grain(corpus, name, num_epochs):
  """The trainer's examples of whole epochs, by epoch and sentence.

  And how many sentences were left out.
  """
  make = make_sentence_example(corpus, name)
  train, _ = split_sentences(corpus, HELD_OUT, name == 'realm_ssm')
  left_out = set()

  def numbered(sentence_id, epoch):
    example = make(sentence_id, epoch)
    if example is None:
      left_out.add((epoch, sentence_id))
      return None
    return {'key': np.array([epoch, sentence_id]), 'example': example}

  found = {}
  for batch in Batches(train, numbered, batch_size=1, seed=8):
    epoch, sentence_id = batch['key'][0].tolist()
    if epoch == num_epochs:
      break
    found[epoch, sentence_id] = {
      name: array[0] for name, array in batch['example'].items()
    }
  return found, len(left_out)
