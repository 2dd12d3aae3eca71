import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from seqio_cases import (
  HELD_OUT,
  LENGTHS,
  QUESTIONS,
  SENTENCE_TASKS,
  documents,
  empty_registries,
  frozen,
  make_corpus,
  make_sentence_example,
  prepare_corpus,
  read,
  read_shards,
  read_through_grain,
  register,
  write_lines,
)

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import split_sentences
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.data.seqio_pipeline import (
  TaskExamples,
  make_preprocessor,
  make_source,
)
from realm_jax.data.seqio_tasks import MASKED_TASKS, register_tasks
from realm_jax.data.seqio_vocabulary import wordpiece_vocabulary
from realm_jax.data.wordpiece import SPECIAL_TOKENS, WordPiece
from realm_jax.errors import UserError

seqio = pytest.importorskip('seqio', exc_type=ImportError)
tf = pytest.importorskip('tensorflow', exc_type=ImportError)

ROOT = Path(__file__).resolve().parents[2]
OPENQA = ROOT.parent / 'shared' / 'realtext' / 'openqa'


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  return make_corpus(tmp_path_factory.mktemp('seqio'))


@pytest.fixture
def question_file(tmp_path):
  return write_lines(tmp_path / 'questions.jsonl', QUESTIONS)


@pytest.fixture(autouse=True)
def registries(monkeypatch):
  empty_registries(monkeypatch)


@pytest.mark.parametrize('name', SENTENCE_TASKS)
def test_seqio_and_grain_give_the_same_examples(corpus, name):
  register(corpus)
  found, num_left_out = read_through_grain(corpus, name, num_epochs=2)
  assert num_left_out
  expected = {key: frozen(example) for key, example in found.items()}
  in_order = [expected[key] for key in sorted(expected)]
  assert in_order == [frozen(e) for e in read(name, num_epochs=2)]
  # What is masked or removed is chosen anew in the second epoch.
  first, second = (
    Counter(e for key, e in expected.items() if key[0] == epoch)
    for epoch in range(2)
  )
  assert first != second
  of_shards = read_shards(4, lambda **shard: read(name, num_epochs=2, **shard))
  assert all(of_shards)
  assert Counter(in_order) == Counter(
    frozen(example) for shard in of_shards for example in shard
  )


def test_sizes_are_the_sentences_that_the_trainer_reads(corpus):
  register(corpus)
  sizes = {}
  for name in SENTENCE_TASKS:
    sizes[name] = seqio.get_mixture_or_task(name).num_input_examples('train')
    train, _ = split_sentences(corpus, HELD_OUT, name == 'realm_ssm')
    assert sizes[name] == len(train)
  # Those without a span are left out beforehand.
  assert sizes['realm_ssm'] < sizes['realm_ict']


@pytest.mark.parametrize('name', SENTENCE_TASKS)
def test_validation_is_the_held_out_sentences(corpus, name):
  register(corpus)
  _, held_out = split_sentences(corpus, HELD_OUT, with_spans=False)
  assert len(held_out) == HELD_OUT
  make = make_sentence_example(corpus, name)
  expected = [make(sentence_id) for sentence_id in held_out]
  assert [frozen(e) for e in read(name, 'validation')] == [
    frozen(e) for e in expected if e is not None
  ]


@pytest.mark.parametrize('name', [*SENTENCE_TASKS, 'openqa'])
def test_features_have_fixed_shapes(corpus, question_file, name):
  register(corpus, questions=question_file)
  task = seqio.get_mixture_or_task(name)
  spec = task.get_dataset(split='train').element_spec
  some = next(iter(read(name)))
  for feature in task.output_features:
    assert spec[feature].shape == some[feature].shape
    assert spec[feature].dtype == tf.int32
  for batch in task.get_dataset(split='train').batch(2).take(1):
    assert batch.keys() == spec.keys()


def test_shuffling_gives_each_epoch_an_order_of_its_own(corpus):
  register(corpus)
  found, _ = read_through_grain(corpus, 'realm_ssm', num_epochs=2)
  expected = {key: frozen(example) for key, example in found.items()}
  in_both = {i for epoch, i in expected if (1 - epoch, i) in expected}
  assert len(in_both) > 20
  num_first = sum(epoch == 0 for epoch, _ in expected)

  def read_shuffled(seed, **more):
    return read(
      'realm_ssm',
      num_epochs=2,
      shuffle=True,
      shuffle_buffer_size=1,
      seed=seed,
      **more,
    )

  def order(examples):
    ids = [int(example['sentence_id']) for example in examples]
    return [i for i in ids if i in in_both]

  both = read_shuffled(1)
  first, second = order(both[:num_first]), order(both[num_first:])
  assert sorted(first) == sorted(second) == sorted(in_both)
  assert first != second
  assert order(both) == order(read_shuffled(1)) != order(read_shuffled(2))
  of_shards = read_shards(3, lambda **shard: read_shuffled(1, **shard))
  assert Counter(map(frozen, itertools.chain(*of_shards))) == Counter(
    expected.values()
  )


def test_tasks_of_one_seed_visit_the_sentences_in_orders_of_their_own(corpus):
  register(corpus)
  orders = [
    [
      int(e['sentence_id'])
      for e in read(name, shuffle=True, seed=1, shuffle_buffer_size=1)
    ]
    for name in ('realm_random_span', 'realm_random_token')
  ]
  in_both = set(orders[0]) & set(orders[1])
  first, second = ([i for i in order if i in in_both] for order in orders)
  assert len(in_both) > 20
  assert first != second


def test_a_stopped_iterator_goes_on_where_it_was(corpus, tmp_path):
  register(corpus)

  def iterate():
    task = seqio.get_mixture_or_task('realm_ssm')
    dataset = task.get_dataset(shuffle=True, seed=3, num_epochs=None)
    return iter(dataset)

  iterator = iterate()
  for _ in range(70):  # into the second epoch
    next(iterator)
  path = tf.train.Checkpoint(iterator).write(str(tmp_path / 'position'))
  expected = [next(iterator)['mlm_targets'].numpy().tolist() for _ in range(9)]
  resumed = iterate()
  tf.train.Checkpoint(resumed).read(path).assert_consumed()
  assert expected == [
    next(resumed)['mlm_targets'].numpy().tolist() for _ in range(9)
  ]


def test_mixture_draws_from_all_three_maskings(corpus):
  names = register(corpus)
  assert names[-1] == 'realm_masked'
  by_task = [
    {frozen(example) for example in read(name)} for name in MASKED_TASKS
  ]
  mixed = [frozen(e) for e in read('realm_masked', num_epochs=1)]
  assert set(mixed) <= set.union(*by_task)
  for examples in by_task:
    others = set.union(*(other for other in by_task if other is not examples))
    share = np.mean([e in examples - others for e in mixed])
    assert 0.15 < share < 0.5


def test_vocabulary_has_the_ids_of_the_corpus(corpus):
  register(corpus)
  features = seqio.get_mixture_or_task('realm_ssm').output_features
  vocabulary = features['query_ids'].vocabulary
  assert vocabulary.vocab_size == corpus.wordpiece.size
  texts = [corpus.text(i) for i in range(corpus.num_blocks)]
  texts += ['[SEP] Zürich, naïve 日本 ☃\ttab\n“quote”—dash', '']
  for text in texts:
    expected = corpus.wordpiece.encode(text).token_ids.tolist()
    assert vocabulary.encode(text) == expected
    assert vocabulary.encode_tf(tf.constant(text)).numpy().tolist() == expected
    decoded = corpus.wordpiece.decode(expected)
    assert vocabulary.decode(expected) == decoded
    in_tf = vocabulary.decode_tf(tf.constant(expected, tf.int32))
    assert in_tf.numpy().decode('utf-8') == decoded


def test_vocabulary_decodes_padded_batches(corpus):
  wordpiece = corpus.wordpiece
  vocabulary = wordpiece_vocabulary(wordpiece)
  rows = [wordpiece.encode(text).token_ids for text in ('town', 'a town, 7')]
  padded = np.stack([np.pad(row, (0, 9 - row.size)) for row in rows])
  expected = [wordpiece.decode(row) for row in rows]
  decoded = vocabulary.decode_tf(tf.constant(padded)).numpy()
  assert [text.decode() for text in decoded] == expected
  assert vocabulary.decode(padded[0]) == expected[0]
  # As every seqio vocabulary does with ids beyond it.
  assert vocabulary.decode([wordpiece.size + 2]) == '[UNK]'


def test_vocabularies_are_equal_if_their_tokens_are(corpus):
  tokens = corpus.wordpiece.vocab
  vocabulary = wordpiece_vocabulary(corpus.wordpiece)
  assert vocabulary == wordpiece_vocabulary(WordPiece(tokens))
  other = wordpiece_vocabulary(WordPiece(tokens[:-1]))
  assert vocabulary != other
  assert str(vocabulary) != str(other)


def test_a_vocabulary_that_pads_with_another_id_is_refused():
  with pytest.raises(UserError, match=r'\[PAD\] is token 4'):
    wordpiece_vocabulary(WordPiece(SPECIAL_TOKENS[::-1]))


def test_questions_are_the_rows_of_qa_examples(corpus, question_file):
  files = {'train': question_file, 'test': str(question_file)}
  names = register(corpus, questions={'made_up': files, '': question_file})
  assert names[4:] == [
    'openqa_made_up',
    'openqa',
    'realm_masked',
    'openqa_all',
  ]
  rows = qa_examples(load_questions(question_file), corpus.wordpiece, LENGTHS)
  task = seqio.get_mixture_or_task('openqa_made_up')
  assert task.splits == ('train', 'test')
  # The trainer can learn nothing from rows 1 and 2.
  for split, kept in (('train', [0, 3]), ('test', [0, 1, 2, 3])):
    examples = read('openqa_made_up', split)
    assert [frozen({k: e[k] for k in rows.rows(0)}) for e in examples] == [
      frozen(rows.rows(row)) for row in kept
    ]
    for example, row in zip(examples, kept, strict=True):
      texts = [t.decode() for t in example['answer_ids_pretokenized'] if t]
      assert texts == QUESTIONS[row]['answer']
      text = example['question_ids_pretokenized'].decode()
      assert text == QUESTIONS[row]['question']
      assert example['is_regex'] == (row == 2)
  assert [e['row'] for e in read('openqa')] == [0, 3]


def test_question_tasks_mix_by_their_number_of_questions(
  corpus, question_file, tmp_path
):
  rows = [
    {'question': f'Who founded Town {i}?', 'answer': [f'Anna Field{i}']}
    for i in range(12)
  ]
  many = write_lines(tmp_path / 'many.jsonl', rows)
  names = register(
    corpus,
    questions={
      'nq': {'train': many, 'test': question_file},
      'webq': question_file,
      'curatedtrec': {'dev': question_file},
    },
  )
  assert names[-1] == 'openqa_all'
  mixture = seqio.get_mixture_or_task('openqa_all')
  assert {task.name: mixture.get_rate(task) for task in mixture.tasks} == {
    'openqa_nq': 12,
    'openqa_webq': 4,
    'openqa_curatedtrec': 4,
  }
  assert set(mixture.splits) == {'train', 'test', 'dev'}
  dataset = mixture.get_dataset(seed=1, passthrough_features=['row'])
  drawn = [
    (e['question_ids'].tobytes(), int(e['row']))
    for e in dataset.take(400).as_numpy_iterator()
  ]
  assert len(set(drawn)) == 12 + 2
  assert sum(row == 11 for _, row in drawn) / 400 == pytest.approx(
    12 / 16 / 12, abs=0.04
  )


def test_one_question_task_is_no_mixture(corpus, question_file):
  assert 'openqa_all' not in register(corpus, questions={'nq': question_file})
  # The name is free then, also where a mixture of ours had it.
  register(corpus, questions={'a': question_file, 'b': question_file})
  register(corpus, questions={'all': question_file})
  assert seqio.get_mixture_or_task('openqa_all').splits == ('train',)
  with pytest.raises(UserError, match="'openqa_all' would be the name of a"):
    register(corpus, questions={'all': question_file, 'b': question_file})


def test_published_question_files_become_tasks(corpus):
  folder = (
    Path(__file__).resolve().parents[3] / 'shared' / 'realtext' / 'openqa'
  )
  if not folder.is_dir():
    pytest.skip(f'{folder} is not there')
  files = {
    'nq': ('NaturalQuestions.test', 3610),
    'webq': ('WebQuestions.test', 2032),
    'curatedtrec': ('CuratedTrec.test', 694),
    'triviaqa': ('TriviaQA.dev', 7491),
  }
  register(
    corpus,
    questions={
      name: {'test': OPENQA / f'{file}.jsonl'}
      for name, (file, _) in files.items()
    },
  )
  for name, (_, num_questions) in files.items():
    task = seqio.get_mixture_or_task(f'openqa_{name}')
    assert task.num_input_examples('test') == num_questions
    some = next(task.get_dataset(None, 'test').as_numpy_iterator())
    assert some['question_ids'].any()
  mixture = seqio.get_mixture_or_task('openqa_all')
  assert mixture.num_input_examples('test') == 3610 + 2032 + 694 + 7491


def test_seqio_get_dataset_reads_the_tasks(corpus):
  register(corpus)
  dataset = seqio.get_dataset(
    'realm_ssm',
    task_feature_lengths={'query_ids': 15, 'mlm_targets': None},
    feature_converter=seqio.PassThroughFeatureConverter(),
    batch_size=7,
  )
  batch = next(iter(dataset.as_numpy_iterator()))
  assert batch['query_ids'].shape == (7, 15)
  assert batch['mlm_targets'].shape == (7, 3)


def test_registering_again_replaces(corpus, tmp_path):
  names = register(corpus)
  other = Corpus.open(prepare_corpus(tmp_path, list(documents())[:13]))
  assert register(other) == names
  assert set(seqio.TaskRegistry.names()) == set(names[:-1])
  assert max(e['source_block_id'] for e in read('realm_ssm')) < other.num_blocks
  mixed = read('realm_masked', num_epochs=1)
  assert max(e['source_block_id'] for e in mixed) < other.num_blocks
  # Side by side under a prefix.
  assert register(corpus, prefix='large.')[0] == 'large.realm_ssm'
  assert len(read('large.realm_ssm')) > len(read('realm_ssm'))
  mixture = seqio.MixtureRegistry.get('large.realm_masked')
  assert {task.name for task in mixture.tasks} == {
    f'large.{name}' for name in MASKED_TASKS
  }


def test_a_task_of_somebody_else_is_not_replaced(corpus):
  register(corpus, prefix='mine.')
  seqio.MixtureRegistry.add('realm_ict', ['mine.realm_ict'], default_rate=1)
  with pytest.raises(UserError, match=r"'realm_ict' is in seqio\.Mixture"):
    register(corpus)
  assert 'realm_ssm' not in seqio.TaskRegistry.names()


@pytest.mark.parametrize(
  'settings',
  [{'prefix': 'my tasks/'}, {'questions': {'a b': 'questions.jsonl'}}],
)
def test_a_name_that_seqio_forbids_is_refused(
  corpus, question_file, monkeypatch, settings
):
  monkeypatch.chdir(question_file.parent)
  with pytest.raises(UserError, match='cannot be the name of a seqio task'):
    register(corpus, **settings)
  assert not seqio.TaskRegistry.names()


def test_what_is_missing_is_named(corpus, tmp_path):
  with pytest.raises(FileNotFoundError, match='nowhere'):
    register_tasks(tmp_path / 'nowhere', LENGTHS)
  with pytest.raises(FileNotFoundError, match=r'lost\.jsonl'):
    register(corpus, questions=tmp_path / 'lost.jsonl')
  with pytest.raises(UserError, match='openqa_nq has no question file'):
    register(corpus, questions={'nq': {}})
  assert not seqio.TaskRegistry.names()


def test_a_corpus_without_spans_is_refused(tmp_path):
  folder = prepare_corpus(
    tmp_path, [{'title': 'a', 'text': 'No name here.'}], entities='none'
  )
  with pytest.raises(UserError, match='no salient spans'):
    register_tasks(folder, LENGTHS)


def test_an_unknown_split_is_named(corpus, question_file):
  register(corpus, questions=question_file)
  task = seqio.get_mixture_or_task('openqa')
  with pytest.raises(UserError, match=r"openqa has no split 'dev'.* train"):
    task.source.get_dataset(split='dev', shuffle=False)


def test_features_are_not_cut_by_seqio(corpus):
  register(corpus)
  for lengths in ({'query_ids': 14}, {'mlm_mask': (2,)}, {'query_lens': 1}):
    with pytest.raises(UserError, match='other Lengths'):
      read('realm_ssm', sequence_length=lengths)


def test_an_example_must_have_the_features_that_were_promised():
  examples = TaskExamples(
    'numbers',
    {'train': np.arange(3)},
    lambda split, i, epoch: {'a': np.int32(i), 'b': np.int32(epoch)},
    {'a': ()},
    {},
  )
  source = make_source(examples)
  dataset = make_preprocessor(examples)(source.get_dataset(shuffle=False))
  with pytest.raises(
    tf.errors.InvalidArgumentError, match=r"numbers has .*'b'"
  ):
    next(iter(dataset))
