"""The command line: what is wrong is said in a message, with status 2."""

import bz2
import json
import subprocess
import sys

import pytest
import tiny

from realm_jax import cli
from realm_jax.commands import COMMANDS

DUMP = (
  '<mediawiki><page><title>Bob</title><ns>0</ns><revision><text>'
  + 'Bob is a name of many. ' * 40
  + '</text></revision></page></mediawiki>'
).encode()


@pytest.fixture
def main(monkeypatch, capsys):
  """Runs a command; returns its exit status and what it wrote to stderr."""

  def run(*arguments):
    monkeypatch.setattr(
      sys, 'argv', ['realm-jax', *(str(argument) for argument in arguments)]
    )
    capsys.readouterr()
    try:
      cli.main()
      status = 0
    except SystemExit as stopped:
      status = stopped.code
    return status, capsys.readouterr().err

  return run


@pytest.fixture
def refused(main, tmp_path):
  """Expects status 2, a message with these words, and no whole folder."""

  def check(arguments, *words):
    status, message = main(*arguments)
    assert status == 2, message
    for word in words:
      assert str(word) in message.replace('\n', ' '), message
    assert message.startswith('realm-jax: ')
    assert 'Traceback' not in message
    assert 'In call to' not in message
    assert not list((tmp_path / 'out').rglob('manifest.json'))
    assert not (tmp_path / 'out' / 'metrics.json').exists()

  return check


@pytest.fixture
def prepare_refused(refused, tmp_path):
  def check(source, *words, options=()):
    refused(['prepare', source, '--out', tmp_path / 'out', *options], *words)

  return check


class TestPrepare:
  def test_a_missing_file(self, prepare_refused, tmp_path):
    source = tmp_path / 'none.jsonl'
    prepare_refused(source, source, 'does not exist')
    assert not (tmp_path / 'out').exists()

  def test_an_empty_folder(self, prepare_refused, tmp_path):
    prepare_refused(tmp_path, tmp_path, 'holds nothing to read')

  @pytest.mark.parametrize(
    ('content', 'words'),
    [
      (b'', 'is empty'),
      (b'\n \n', 'is empty'),
      (b'{"title": "A", "text": " "}\n', 'gave no block'),
      (b'PK\x03\x04 zip', 'no format known here'),
      (b'{"title": "A", "text": "caf\xe9"}\n', 'line 1: invalid UTF-8'),
      (b'{"title": "A", "text": "a"}\n{"title": "B"}\n', 'line 2: "text" is'),
      (b'{"title": "A", "text": 3}\n', 'line 1: "text" is 3'),
      (b'{"title": "A", "te', 'line 1: not JSON'),
      (b'{"data": [{"title": "A"}]}', 'KeyError'),
    ],
  )
  def test_a_bad_file(self, prepare_refused, tmp_path, content, words):
    source = tmp_path / 'bad'
    source.write_bytes(content)
    prepare_refused(source, source, words)

  @pytest.mark.parametrize(
    'content', [DUMP, b'{"title": "A", "text": "a"}\n' * 500]
  )
  @pytest.mark.parametrize('options', [(), ('--vocab', 'VOCAB')])
  def test_a_truncated_bz2(
    self, prepare_refused, tmp_path, tiny_corpus, content, options
  ):
    source = tmp_path / 'bad.bz2'
    whole = bz2.compress(content)
    source.write_bytes(whole[: len(whole) * 2 // 3])
    options = [
      str(option).replace('VOCAB', str(tiny_corpus / 'vocab.txt'))
      for option in options
    ]
    prepare_refused(source, source, 'truncated or damaged', options=options)

  def test_a_truncated_dump(self, prepare_refused, tmp_path):
    source = tmp_path / 'dump.xml'
    source.write_bytes(DUMP[: len(DUMP) // 2])
    prepare_refused(source, source)

  def test_a_missing_or_bad_vocabulary(self, prepare_refused, tmp_path):
    source = tiny.write_lines(tmp_path / 'good.jsonl', tiny.documents()[:3])
    vocab = tmp_path / 'vocab.txt'
    options = ['--vocab', vocab]
    prepare_refused(source, vocab, 'does not exist', options=options)
    vocab.write_text('a\nb\n')
    prepare_refused(source, vocab, 'lacks [PAD]', options=options)

  def test_a_file_in_the_place_of_the_folder(self, main, tmp_path):
    source = tiny.write_lines(tmp_path / 'good.jsonl', tiny.documents()[:3])
    for out in (source, source / 'inside'):
      status, message = main(
        'prepare', source, '--out', out, '--vocab-size', 300
      )
      assert status == 2
      assert 'expected a folder to write to' in message

  def test_another_entity_tagger(self, prepare_refused, tmp_path):
    source = tiny.write_lines(tmp_path / 'good.jsonl', tiny.documents()[:3])
    prepare_refused(
      source,
      "entities is 'rule', expected one of rules",
      options=['--entities', 'rule'],
    )

  def test_a_day_that_is_none(self, prepare_refused, tmp_path):
    source = tiny.write_lines(tmp_path / 'good.jsonl', tiny.documents()[:3])
    options = ['--since', '2018-12-32']
    prepare_refused(source, "since is '2018-12-32'", options=options)


class TestTraining:
  @pytest.fixture
  def pretrain(self, tiny_corpus, tiny_start, tmp_path):
    def arguments(*options, corpus=tiny_corpus, init=tiny_start):
      return [
        'pretrain',
        '--corpus',
        corpus,
        '--init',
        init,
        '--out',
        tmp_path / 'out',
        *options,
      ]

    return arguments

  def test_a_missing_corpus_or_run(self, refused, pretrain, tmp_path):
    none = tmp_path / 'none'
    refused(pretrain(corpus=none), none, 'does not exist', 'realm-jax prepare')
    refused(pretrain(init=none), none, 'does not exist', 'realm-jax ict')

  def test_an_unfinished_corpus_or_run(self, refused, pretrain, tmp_path):
    none = tmp_path / 'none'
    none.mkdir()
    refused(pretrain(corpus=none), none, 'was never finished')
    refused(pretrain(init=none), none, 'was never finished')

  def test_a_run_in_the_place_of_the_corpus(
    self, refused, pretrain, tiny_start, tiny_corpus
  ):
    refused(pretrain(corpus=tiny_start), 'is a run folder, expected a corpus')
    refused(pretrain(init=tiny_corpus), 'is a corpus folder, expected a run')

  def test_a_vocabulary_that_is_not_the_corpuss(
    self, refused, pretrain, tmp_path
  ):
    other = tiny.make_corpus(tmp_path / 'other', tiny.documents()[:20])
    refused(pretrain(corpus=other), other, 'another vocabulary', '--vocab')

  def test_more_candidates_than_blocks(self, refused, pretrain, tiny_corpus):
    options = ['--set', 'pretrain.PretrainConfig.num_candidates=43']
    refused(
      pretrain(*options), 'num_candidates is 43', tiny_corpus, '42 blocks'
    )

  def test_more_held_than_there_are(self, refused, pretrain):
    options = [
      '--set',
      'pretrain.PretrainConfig.batch_size=2000',
      '--set',
      'examples.Lengths.query_len=24',
    ]
    refused(pretrain(*options), 'fewer than the batch size of 2000')

  @pytest.mark.parametrize(
    ('setting', 'words'),
    [
      ('pretrain.PretrainConfig.batch_size=0', 'batch_size is 0'),
      ('pretrain.PretrainConfig.num_candidates=1', 'num_candidates is 1'),
      ('pretrain.PretrainConfig.objective="spam"', "objective is 'spam'"),
      ('pretrain.PretrainConfig.masking="spam"', "masking is 'spam'"),
      ('pretrain.PretrainConfig.num_held_out=-1', 'num_held_out is -1'),
      ('pretrain.PretrainConfig.batchsize=3', 'batchsize'),
      ('loop.LoopConfig.num_steps="x"', "num_steps is 'x'"),
    ],
  )
  def test_settings_out_of_range(self, refused, pretrain, setting, words):
    refused(pretrain('--set', setting), words)

  def test_a_gin_file_with_a_misspelt_name(self, refused, pretrain, tmp_path):
    path = tmp_path / 'run.gin'
    path.write_text(
      'from __gin__ import dynamic_registration\n'
      'from realm_jax.train import loop\n'
      'loop.LoopConfig.num_stepps = 3\n'
    )
    refused(pretrain('--gin', path), path, 'num_stepps')
    missing = tmp_path / 'none.gin'
    refused(pretrain('--gin', missing), missing)

  def test_a_question_file_without_answers(
    self, refused, pretrain, tiny_corpus, tiny_start, tmp_path
  ):
    path = tmp_path / 'questions.jsonl'
    commands = (
      pretrain('--probe-questions', path),
      [
        'finetune',
        '--corpus',
        tiny_corpus,
        '--init',
        tiny_start,
        '--questions',
        path,
        '--out',
        tmp_path / 'out',
      ],
      [
        'evaluate',
        '--run',
        tiny_start,
        '--questions',
        path,
        '--out',
        tmp_path / 'out',
      ],
    )
    for command in commands:
      refused(command, path, 'does not exist')
    for content, words in (
      ('', 'holds no questions'),
      ('{"question": "Who?"}\n', 'line 1: no answers'),
      ('{"question": "Who?", "answer": [" "]}\n', 'line 1: no answers'),
      ('{"question": "Who?", "answer": 3}\n', 'line 1: "answer" is 3'),
    ):
      path.write_text(content)
      for command in commands:
        refused(command, path, words)

  def test_answers_that_are_no_spans(
    self, refused, tiny_corpus, tiny_start, tmp_path
  ):
    rows = [{'question': 'Who?', 'answer': ['a.*'], 'regex': True}]
    path = tiny.write_lines(tmp_path / 'questions.jsonl', rows)
    refused(
      [
        'finetune',
        '--corpus',
        tiny_corpus,
        '--init',
        tiny_start,
        '--questions',
        path,
        '--out',
        tmp_path / 'out',
      ],
      path,
      'nothing to train on',
    )

  def test_sentences_that_are_their_whole_blocks(self, refused, tmp_path):
    """The inverse cloze task has nothing to learn from them."""
    rows = [
      {'title': f'T{n}', 'text': f'In {1800 + n} nothing was done.'}
      for n in range(20)
    ]
    corpus = tiny.make_corpus(tmp_path / 'corpus', rows)
    refused(
      [
        'ict',
        '--corpus',
        corpus,
        '--out',
        tmp_path / 'out',
        '--set',
        'ict.IctConfig.batch_size=4',
        '--set',
        'ict.IctConfig.reader_batch_size=0',
        '--set',
        'encoder.EncoderConfig.num_layers=1',
        '--set',
        'encoder.EncoderConfig.hidden_size=24',
      ],
      'no example can be made',
    )

  def test_asking_a_run_that_was_not_finetuned(self, refused, tiny_start):
    refused(['ask', '--run', tiny_start, 'Who?'], 'realm-jax finetune')

  def test_a_ranker_that_does_not_exist(
    self, refused, tiny_start, tiny_questions, tmp_path
  ):
    refused(
      [
        'evaluate',
        '--run',
        tiny_start,
        '--questions',
        tiny_questions,
        '--out',
        tmp_path / 'out',
        '--ranker',
        'bm52',
      ],
      "ranker is 'bm52', expected one of retriever, bm25",
    )

  def test_no_question_is_evaluated(
    self, refused, tiny_start, tiny_questions, tmp_path
  ):
    refused(
      [
        'evaluate',
        '--run',
        tiny_start,
        '--questions',
        tiny_questions,
        '--out',
        tmp_path / 'out',
        '--max-questions',
        '0',
      ],
      'no questions',
    )


def test_an_almanac_that_is_too_small(refused, tmp_path):
  refused(['almanac', '--out', tmp_path / 'out', '--num-documents', 3], '120')


def test_a_defect_keeps_its_traceback(main, monkeypatch):
  def fail(arguments=None):
    raise ValueError('a defect')

  monkeypatch.setattr(cli, 'run', fail)
  with pytest.raises(ValueError, match='a defect'):
    main('quickstart')


def test_an_interruption_says_so(main, monkeypatch):
  def stop(arguments=None):
    raise KeyboardInterrupt

  monkeypatch.setattr(cli, 'run', stop)
  assert main('quickstart') == (130, 'realm-jax: interrupted\n')


def test_every_command_names_its_function_and_its_parameters():
  import importlib
  import inspect

  for name, command in COMMANDS.items():
    module, _, function = command.function.rpartition('.')
    parameters = inspect.signature(
      getattr(importlib.import_module(f'realm_jax.{module}'), function)
    ).parameters
    for argument, options in command.arguments.items():
      parameter = options.get('dest', argument.lstrip('-').replace('-', '_'))
      assert parameter in parameters, (name, argument)


def test_settings_reach_the_function(main, tmp_path, capsys):
  source = tiny.write_lines(tmp_path / 'good.jsonl', tiny.documents()[:9])
  status, message = main(
    'prepare',
    source,
    '--out',
    tmp_path / 'out',
    '--vocab-size',
    '250',
    '--set',
    'prepare.prepare.block_len=30',
  )
  assert status == 0, message
  manifest = json.loads((tmp_path / 'out' / 'manifest.json').read_text())
  assert manifest['settings']['block_len'] == 30
  assert manifest['settings']['vocab_size'] == 250


@pytest.mark.parametrize(
  ('arguments', 'words'),
  [
    (['prepare', 'none.jsonl', '--out', 'out'], 'none.jsonl'),
    (['prepare', 'cut.xml.bz2', '--out', 'out'], 'cut.xml.bz2'),
    (
      ['ict', '--corpus', 'c', '--out', 'out', '--set', 'loop.Loop.n=1'],
      'loop.Loop',
    ),
    (['fly'], "invalid choice: 'fly'"),
  ],
)
def test_the_installed_command(tmp_path, arguments, words):
  whole = bz2.compress(DUMP)
  (tmp_path / 'cut.xml.bz2').write_bytes(whole[: len(whole) // 2])
  code = 'from realm_jax.cli import main; main()'
  finished = subprocess.run(
    [sys.executable, '-c', code, *arguments],
    cwd=tmp_path,
    capture_output=True,
    text=True,
  )
  assert finished.returncode == 2, finished.stderr
  assert words in finished.stderr
  assert 'Traceback' not in finished.stderr
  assert not (tmp_path / 'out' / 'manifest.json').exists()


class TestCheckpoints:
  def test_kinds_that_are_not_there(self, refused, tiny_start, tmp_path):
    out = tmp_path / 'out'
    refused(['import', 'spam', tmp_path, '--out', out], "'spam'", 'hf-realm')
    refused(['export', 'spam', tiny_start, '--out', out], "'spam'", 'hf-realm')

  def test_folders_without_a_checkpoint(self, refused, tiny_corpus, tmp_path):
    out = tmp_path / 'out'
    missing = tmp_path / 'missing'
    refused(['import', 'hf-realm', missing, '--out', out], missing)
    refused(['import', 'bert', missing, '--out', out], missing)
    refused(['import', 'hf-realm', tiny_corpus, '--out', out], 'safetensors')
    refused(['export', 'hf-realm', tiny_corpus, '--out', out], 'corpus folder')
