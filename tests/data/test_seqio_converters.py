import dataclasses
import itertools
from collections import Counter
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from seqio_cases import (
  LENGTHS,
  QUESTIONS,
  SEED,
  SENTENCE_TASKS,
  empty_registries,
  frozen,
  make_corpus,
  read_shards,
  read_through_grain,
  register,
  write_lines,
)

from realm_jax.data.closed_book import closed_book_batch
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.seqio_converters import (
  finetune_converter,
  ict_converter,
  pretrain_converter,
  text_inputs,
)
from realm_jax.data.seqio_tasks import MASKED_TASKS
from realm_jax.errors import UserError
from realm_jax.runs.ict import IctSource
from realm_jax.train.pretrain_source import pretrain_batch
from realm_jax.train.qa_source import read_inputs
from realm_jax.types import IctBatch, TextInputs

seqio = pytest.importorskip('seqio', exc_type=ImportError)

# Documents of any batch are padded to the full length, as the converter's are.
FULL = dataclasses.replace(LENGTHS, multiple=64)


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return make_corpus(tmp_path_factory.mktemp('seqio'))


@pytest.fixture
def question_file(tmp_path):
  many = [
    {'question': f'Who founded Town {i}?', 'answer': [f'Anna Field{i}']}
    for i in range(9)
  ]
  long = {'question': 'Which town is it, of ' + 20 * 'many ', 'answer': ['a']}
  odd = {'question': 'What is [PAD] [PAD]', 'answer': ['Ulm']}
  return write_lines(
    tmp_path / 'questions.jsonl', [*QUESTIONS, *many, long, odd]
  )


@pytest.fixture(autouse=True)
def registries(monkeypatch):
  empty_registries(monkeypatch)


def converter_of(name, corpus, lengths=LENGTHS):
  make = pretrain_converter
  if name == 'realm_ict':
    make = ict_converter
  elif name.startswith('openqa'):
    make = finetune_converter
  return make(corpus.wordpiece, lengths)


def convert(name, corpus, **settings):
  """What seqio.get_dataset gives a trainer: a list of batches, or of rows."""
  converter = converter_of(name, corpus)
  dataset = seqio.get_dataset(
    name,
    task_feature_lengths=converter.task_feature_lengths,
    feature_converter=converter,
    **settings,
  )
  return list(dataset.as_numpy_iterator())


def stacked(examples):
  return {
    name: np.stack([example[name] for example in examples])
    for name in examples[0]
  }


def rows_of(batch):
  """A batch as separate examples."""
  size = len(next(iter(batch.values())))
  return [
    {name: array[i] for name, array in batch.items()} for i in range(size)
  ]


def with_inputs(examples, **inputs):
  """Examples and TextInputs, named as the converters name them."""
  return examples | {
    f'{name}.{part}': array
    for name, texts in inputs.items()
    for part, array in texts._asdict().items()
  }


def trainer_sentences(corpus, name, num_epochs):
  """The trainer's batches, of all its examples, up to retrieval."""
  found, _ = read_through_grain(corpus, name, num_epochs)
  examples = stacked([found[key] for key in sorted(found)])
  if name != 'realm_ict':
    query = query_inputs(
      Ragged(examples['query_ids'], examples['query_lens']),
      LENGTHS.query_len,
      corpus.wordpiece,
    )
    return with_inputs(examples, query=query)
  batch = ict_batch(corpus, examples)
  return with_inputs(
    {'block_ids': batch.block_ids}, query=batch.query, documents=batch.documents
  )


def ict_batch(corpus, examples):
  source = IctSource(iter([examples]), corpus, FULL, 0, SEED)
  batch, _ = source.next_batch(SimpleNamespace(step=0, params=None))
  return batch


def trainer_questions(corpus, path):
  """The rows of QAExamples that Batches keeps, and their questions."""
  examples = qa_examples(load_questions(path), corpus.wordpiece, LENGTHS)
  kept = [row for row in range(len(examples.question_lens)) if examples(row, 0)]
  rows = examples.rows(kept)
  del rows['row']
  question = query_inputs(
    Ragged(rows['question_ids'], rows['question_lens']),
    LENGTHS.query_len,
    corpus.wordpiece,
  )
  return with_inputs(rows, question=question)


@pytest.mark.parametrize('name', SENTENCE_TASKS)
def test_seqio_and_the_trainer_make_the_same_batches(corpus, name):
  register(corpus)
  expected = trainer_sentences(corpus, name, num_epochs=2)
  num_examples = len(expected['query.mask'])
  (batch,) = convert(name, corpus, num_epochs=2, batch_size=num_examples)
  assert batch.keys() == expected.keys()
  for field, array in expected.items():
    assert batch[field].dtype == array.dtype == np.int32
    np.testing.assert_array_equal(batch[field], array, err_msg=field)


@pytest.mark.parametrize('num_shards', [1, 4])
@pytest.mark.parametrize('name', ['realm_ssm', 'realm_ict'])
def test_hosts_share_the_examples_among_them(corpus, name, num_shards):
  register(corpus)
  expected = trainer_sentences(corpus, name, num_epochs=2)
  of_shards = read_shards(
    num_shards,
    lambda **shard: convert(
      name, corpus, num_epochs=2, shuffle=True, seed=3, **shard
    ),
  )
  assert all(of_shards)
  # Every example once, and nothing else.
  assert Counter(map(frozen, itertools.chain(*of_shards))) == Counter(
    map(frozen, rows_of(expected))
  )


def test_a_seed_fixes_what_each_host_reads(corpus):
  register(corpus)

  def read(seed):
    return [
      [frozen(example) for example in shard]
      for shard in read_shards(
        2,
        lambda **shard: convert(
          'realm_ssm', corpus, num_epochs=2, shuffle=True, seed=seed, **shard
        ),
      )
    ]

  assert read(3) == read(3) != read(4)


@pytest.mark.parametrize('num_shards', [1, 4])
def test_questions_are_those_of_the_trainer(corpus, question_file, num_shards):
  register(corpus, questions=question_file)
  expected = trainer_questions(corpus, question_file)
  assert expected['question_lens'].max() == LENGTHS.query_len - 2
  in_order = [frozen(row) for row in rows_of(expected)]
  assert len(set(in_order)) == len(in_order) == 13
  if num_shards == 1:
    assert in_order == [frozen(row) for row in convert('openqa', corpus)]
  of_shards = read_shards(
    num_shards,
    lambda **shard: convert(
      'openqa', corpus, num_epochs=3, shuffle=True, seed=3, **shard
    ),
  )
  assert Counter(map(frozen, itertools.chain(*of_shards))) == Counter(
    3 * in_order
  )


@pytest.mark.slow
def test_hosts_share_a_mixture_of_sentences(corpus):
  register(corpus)
  of_tasks = Counter()
  for name in MASKED_TASKS:
    of_tasks.update(map(frozen, convert(name, corpus)))
  of_shards = read_shards(
    4, lambda **shard: convert('realm_masked', corpus, **shard)
  )
  # A host's are from its shards of the tasks, and of each task some.
  own = [
    {
      frozen(example)
      for example in convert(name, corpus, shard_info=seqio.ShardInfo(3, 4))
    }
    for name in MASKED_TASKS
  ]
  last = {frozen(example) for example in of_shards[3]}
  assert last <= set.union(*own)
  assert all(last & of_task for of_task in own)
  drawn = Counter(map(frozen, itertools.chain(*of_shards)))
  # No example is drawn more often than the tasks have it.
  assert drawn <= of_tasks
  assert drawn.total() > of_tasks.total() / 3


def test_hosts_share_a_mixture_of_questions(corpus, question_file, tmp_path):
  rows = [{'question': f'Otto {i}?', 'answer': ['Ulm']} for i in range(13)]
  other = write_lines(tmp_path / 'other.jsonl', rows)
  register(corpus, questions={'nq': question_file, 'webq': other})
  expected = [
    frozen(e)
    for name in ('nq', 'webq')
    for e in convert(f'openqa_{name}', corpus)
  ]
  of_shards = read_shards(
    2,
    lambda **shard: convert(
      'openqa_all', corpus, shuffle=True, seed=1, **shard
    ),
  )
  drawn = [frozen(e) for e in itertools.chain(*of_shards)]
  assert len(set(drawn)) == len(drawn) > 13
  assert set(drawn) <= set(expected)
  again = convert(
    'openqa_all', corpus, shuffle=True, seed=1, shard_info=seqio.ShardInfo(0, 2)
  )
  assert [frozen(e) for e in again] == [frozen(e) for e in of_shards[0]]


def test_pretraining_puts_them_together_with_candidates(corpus):
  register(corpus)
  found, _ = read_through_grain(corpus, 'realm_ssm', num_epochs=1)
  examples = stacked([found[key] for key in sorted(found)[:7]])
  block_ids = np.array([[-1, 3 + row, 20 - row] for row in range(7)], np.int32)
  mask = np.ones_like(block_ids)
  query = query_inputs(
    Ragged(examples['query_ids'], examples['query_lens']),
    LENGTHS.query_len,
    corpus.wordpiece,
  )
  expected = pretrain_batch(
    examples, block_ids, mask, corpus, LENGTHS, query, 0.5
  )
  batch = convert('realm_ssm', corpus, batch_size=7)[0]
  actual = pretrain_batch(
    batch,
    block_ids,
    mask,
    corpus,
    LENGTHS,
    text_inputs(batch, 'query'),
    0.5,
  )
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_inverse_cloze_has_nothing_to_add(corpus):
  register(corpus)
  found, _ = read_through_grain(corpus, 'realm_ict', num_epochs=1)
  expected = ict_batch(
    corpus, stacked([found[key] for key in sorted(found)[:5]])
  )
  batch = convert('realm_ict', corpus, batch_size=5)[0]
  actual = IctBatch(
    text_inputs(batch, 'query'),
    text_inputs(batch, 'documents'),
    batch['block_ids'],
    reader=None,
  )
  jax.tree.map(np.testing.assert_array_equal, actual, expected)


def test_finetuning_puts_them_together_with_blocks(corpus, question_file):
  register(corpus, questions=question_file)
  (batch,) = convert('openqa', corpus, batch_size=13)
  rows = trainer_questions(corpus, question_file)
  blocks = corpus.gather(np.arange(26).reshape(13, 2))
  for make in (
    lambda examples: read_inputs(examples, blocks, corpus, LENGTHS),
    lambda examples: closed_book_batch(examples, corpus.wordpiece, LENGTHS),
  ):
    jax.tree.map(np.testing.assert_array_equal, make(batch), make(rows))


def test_shapes_are_known_beforehand(corpus, question_file):
  register(corpus, questions=question_file)
  shapes = {}
  for name in ('realm_masked', 'realm_ict', 'openqa'):
    converter = converter_of(name, corpus)
    dataset = seqio.get_dataset(
      name, converter.task_feature_lengths, converter, batch_size=3
    )
    shapes |= {
      (name, feature): tuple(spec.shape)
      for feature, spec in dataset.element_spec.items()
    }
    batch = next(dataset.as_numpy_iterator())
    assert {n: a.shape for n, a in batch.items()} == {
      feature: shape
      for (task, feature), shape in shapes.items()
      if task == name
    }
  for part in TextInputs._fields:
    assert shapes['realm_masked', f'query.{part}'] == (3, 17)
    assert shapes['realm_ict', f'documents.{part}'] == (3, 41)
    assert shapes['openqa', f'question.{part}'] == (3, 17)
  assert shapes['realm_masked', 'mlm_targets'] == (3, 3)
  assert shapes['openqa', 'answer_ids'] == (3, 8, 10)
  assert shapes['openqa', 'question_lens'] == (3,)


def test_a_converter_of_other_lengths_is_refused(corpus):
  register(corpus)
  other = dataclasses.replace(LENGTHS, max_masks=4)
  converter = converter_of('realm_ssm', corpus, other)
  with pytest.raises(
    UserError, match=r'mlm_positions .* \(3,\), but .* \(4,\)'
  ):
    seqio.get_dataset('realm_ssm', converter.task_feature_lengths, converter)
