import bz2
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from realm_jax.data import corpus_writer, packing
from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_writer import CorpusWriter
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.runs.prepare import prepare

ROWS = [
  {'title': 'Ada', 'text': 'Ada Lovelace wrote in 1843. She met Babbage.'},
  {'title': 'Nil', 'text': ' '},
  {'title': 'Eve', 'text': 'Eve saw\n\n  Paris. ' * 30},
]
VOCAB_SIZE = 200


@pytest.fixture
def source(tmp_path):
  path = tmp_path / 'articles.jsonl'
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in ROWS))
  return str(path)


def run(sources, out, **settings):
  """The manifest, and what was printed."""
  printed = io.StringIO()
  console = Console(file=printed, width=200)
  settings = {'vocab_size': VOCAB_SIZE, 'block_len': 60, **settings}
  manifest = prepare(sources, str(out), console=console, **settings)
  return manifest, printed.getvalue()


def test_documents_become_a_corpus(source, tmp_path):
  manifest, printed = run([source], tmp_path / 'corpus')
  corpus = Corpus.open(tmp_path / 'corpus', verify=True)
  assert corpus.title(0) == 'Ada'
  assert corpus.text(0) == ROWS[0]['text']
  assert corpus.text(1).startswith('Eve saw\nParis. Eve saw')
  first = corpus.sentences[0]
  text = corpus.text(0)
  assert text[first.start : first.stop] == 'Ada Lovelace wrote in 1843.'
  assert [(text[s.start : s.stop], s.kind) for s in first.spans] == [
    ('Ada Lovelace', 'ENTITY'),
    ('1843', 'DATE'),
  ]
  assert corpus.block_lens.max() <= 60
  assert corpus.article_ids.tolist() == [0] + [1] * (corpus.num_blocks - 1)
  assert manifest['num_articles'] == 2
  assert manifest['num_skipped'] == {'no text': 1}
  assert manifest['num_sentences'] == len(corpus.sentences)
  assert sum(manifest['num_spans'].values()) == corpus.sentences.num_spans.sum()
  for figure in ('articles', 'left out: no text', 'blocks/s', 'spans: DATE'):
    assert figure in printed


def test_all_formats_go_into_one_corpus(source, tmp_path):
  dump = tmp_path / 'dump.xml.bz2'
  dump.write_bytes(
    bz2.compress(
      b'<mediawiki><page><title>Bob</title><ns>0</ns><revision><text>'
      b'Bob is a [[name]] of many.</text></revision></page></mediawiki>'
    )
  )
  squad = tmp_path / 'squad.json'
  paragraphs = [{'context': 'Cid is one.', 'qas': []}]
  squad.write_text(
    json.dumps({'data': [{'title': 'Cid', 'paragraphs': paragraphs}]})
  )
  run([source, str(dump), str(squad)], tmp_path / 'corpus')
  corpus = Corpus.open(tmp_path / 'corpus')
  titles = list(dict.fromkeys(map(corpus.title, range(corpus.num_blocks))))
  assert titles == ['Ada', 'Eve', 'Bob', 'Cid']


def test_the_same_files_give_the_same_bytes(source, tmp_path):
  first, _ = run([source], tmp_path / 'a')
  second, _ = run([source], tmp_path / 'b')
  assert first == second


def test_a_given_vocabulary_is_used(source, tmp_path):
  wordpiece = WordPiece.train(['ab'], 150)
  wordpiece.save(tmp_path / 'vocab.txt')
  run([source], tmp_path / 'corpus', vocab=str(tmp_path / 'vocab.txt'))
  corpus = Corpus.open(tmp_path / 'corpus')
  assert corpus.wordpiece.fingerprint == wordpiece.fingerprint


def test_entities_can_be_left_out(source, tmp_path):
  manifest, _ = run([source], tmp_path / 'corpus', entities='none')
  assert manifest['num_spans'] == {'DATE': 1}


def test_blocks_below_the_least_length_are_left_out_and_counted(
  source, tmp_path
):
  run([source], tmp_path / 'all')
  lens = Corpus.open(tmp_path / 'all').block_lens.tolist()
  least = sorted(lens)[1]
  manifest, _ = run([source], tmp_path / 'corpus', min_block_len=least)
  corpus = Corpus.open(tmp_path / 'corpus')
  assert corpus.block_lens.tolist() == [n for n in lens if n >= least]
  assert manifest['num_short_blocks'] == lens.count(min(lens)) == 1


def test_articles_of_short_blocks_alone_are_counted(source, tmp_path):
  manifest, _ = run([source], tmp_path / 'corpus', min_block_len=40)
  assert manifest['num_articles'] == 1
  assert manifest['num_skipped'] == {'no text': 1, 'too short': 1}


def write_dump(path):
  pages = ''.join(
    f'<page><title>{title}</title><ns>0</ns><revision><timestamp>{day}T10:00:00Z'
    f'</timestamp><text>{text}</text></revision></page>'
    for title, day, text in (
      ('Bob', '2016-05-01', '== Life ==\nBob is a [[name]] of many.'),
      ('Cid', '2003-03-17', 'Cid is the name of few.'),
      ('Nil', '2020-01-01', '== See also ==\nIt has no text at all.'),
    )
  )
  path.write_text(f'<mediawiki>{pages}</mediawiki>')
  return str(path)


def test_the_edition_goes_into_the_manifest(source, tmp_path):
  dump = write_dump(tmp_path / 'dump.xml')
  manifest, printed = run([dump], tmp_path / 'corpus', since='20161220')
  # Of the articles that are kept: the last one has no text.
  assert manifest['edition'] == {
    'since': '2016-12-20',
    'oldest_revision': '2003-03-17',
    'newest_revision': '2016-05-01',
  }
  assert 'since 2016-12-20, revisions of 2003-03-17 to 2016-05-01' in printed
  assert 'Warning' not in printed
  _, printed = run([dump], tmp_path / 'earlier', since='2016-04-30')
  assert 'Warning: The newest revision is of 2016-05-01' in printed
  manifest, _ = run([source], tmp_path / 'no_dump', since='2016-12-20')
  assert manifest['edition'] == {
    'since': '2016-12-20',
    'oldest_revision': None,
    'newest_revision': None,
  }


def test_another_edition_is_another_corpus(source, tmp_path):
  first, _ = run([source], tmp_path / 'corpus', since='2018-12-20')
  assert run([source], tmp_path / 'corpus', since='2018-12-20')[0] == first
  for since, words in (('2020-12-20', '2020-12-20 here'), (None, 'None here')):
    with pytest.raises(UserError, match=f'since is 2018-12-20 there, {words}'):
      run([source], tmp_path / 'corpus', since=since)


def test_section_titles_are_kept_where_asked_for(tmp_path):
  dump = write_dump(tmp_path / 'dump.xml')
  run([dump], tmp_path / 'without')
  assert Corpus.open(tmp_path / 'without').text(0) == 'Bob is a name of many.'
  run([dump], tmp_path / 'with', section_titles='keep')
  corpus = Corpus.open(tmp_path / 'with')
  assert corpus.text(0) == 'Life\nBob is a name of many.'
  assert corpus.manifest['settings']['section_titles'] == 'keep'
  with pytest.raises(UserError, match="section_titles is 'all', expected one"):
    run([dump], tmp_path / 'more', section_titles='all')


def test_a_finished_folder_is_left_as_it_is(source, tmp_path):
  first, _ = run([source], tmp_path / 'corpus')
  times = [
    p.stat().st_mtime_ns for p in sorted((tmp_path / 'corpus').iterdir())
  ]
  second, printed = run([source], tmp_path / 'corpus')
  assert 'is already there' in printed
  assert second == first
  assert times == [
    p.stat().st_mtime_ns for p in sorted((tmp_path / 'corpus').iterdir())
  ]


def test_other_settings_or_files_are_refused_by_name(source, tmp_path):
  run([source], tmp_path / 'corpus')
  with pytest.raises(UserError, match='block_len is 60 there, 61 here'):
    run([source], tmp_path / 'corpus', block_len=61)
  with pytest.raises(UserError, match='entities is rules there, none here'):
    run([source], tmp_path / 'corpus', entities='none')
  with open(source, 'a') as stream:
    stream.write('{"title": "New", "text": "More."}\n')
  with pytest.raises(UserError, match=r'sources is articles.jsonl \('):
    run([source], tmp_path / 'corpus')


def test_an_unfinished_folder_is_made_again(source, tmp_path):
  expected, _ = run([source], tmp_path / 'whole')
  folder = tmp_path / 'corpus'
  folder.mkdir()
  (folder / 'blocks-00000.arrow').write_bytes(b'half')
  (folder / 'blocks-00007.arrow').write_bytes(b'left over')
  (folder / 'manifest.json.partial').write_bytes(b'{')
  manifest, _ = run([source], folder)
  assert manifest == expected
  assert not (folder / 'blocks-00007.arrow').exists()
  assert not list(folder.glob('*.partial'))
  Corpus.open(folder, verify=True)


def test_a_folder_of_other_things_is_not_touched(source, tmp_path):
  folder = tmp_path / 'mine'
  folder.mkdir()
  (folder / 'thesis.tex').write_text('precious')
  with pytest.raises(UserError, match=r'holds thesis.tex, which no corpus has'):
    run([source], folder)
  assert [path.name for path in folder.iterdir()] == ['thesis.tex']


@pytest.fixture
def small_shards(monkeypatch):
  """Shards of 40 blocks and chunks of 7 articles."""
  monkeypatch.setattr(corpus_writer, 'SHARD_SIZE', 40)
  monkeypatch.setattr(packing, '_CHUNK_ARTICLES', 7)


def many_articles(path, number=100):
  rows = ({'title': f'T{i}', 'text': f'It is {i}. ' * 9} for i in range(number))
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return str(path)


def test_a_stopped_run_goes_on_after_its_last_shard(
  tmp_path, small_shards, monkeypatch
):
  source = many_articles(tmp_path / 'many.jsonl')
  expected, _ = run([source], tmp_path / 'whole')
  assert len(expected['block_files']) > 2
  folder = tmp_path / 'corpus'
  write = corpus_writer.write_shard

  def interrupted(folder, number, *args):
    if number == 2:
      raise KeyboardInterrupt
    return write(folder, number, *args)

  monkeypatch.setattr(corpus_writer, 'write_shard', interrupted)
  with pytest.raises(KeyboardInterrupt):
    run([source], folder)
  assert not is_whole(folder)
  monkeypatch.setattr(corpus_writer, 'write_shard', write)
  first = folder / 'blocks-00000.arrow'
  written = first.stat().st_mtime_ns
  manifest, printed = run([source], folder)
  assert 'goes on after its first' in printed
  assert manifest == expected
  assert first.stat().st_mtime_ns == written
  assert sorted(p.name for p in folder.iterdir()) == sorted(
    p.name for p in (tmp_path / 'whole').iterdir()
  )


def test_a_run_stopped_before_its_manifest_repeats_no_block(
  tmp_path, small_shards, monkeypatch
):
  source = many_articles(tmp_path / 'many.jsonl')
  expected, _ = run([source], tmp_path / 'whole')
  folder = tmp_path / 'corpus'

  def interrupted(*_, **__):
    raise KeyboardInterrupt

  monkeypatch.setattr(corpus_writer, 'write_manifest', interrupted)
  with pytest.raises(KeyboardInterrupt):
    run([source], folder)
  monkeypatch.undo()
  # Its last shard is there, too: nothing is left to read.
  assert len(list(folder.glob('blocks-*'))) == len(expected['block_files'])
  manifest, _ = run([source], folder)
  assert manifest == expected
  Corpus.open(folder, verify=True)


def test_a_stopped_run_with_other_settings_starts_anew(
  tmp_path, small_shards, monkeypatch
):
  source = many_articles(tmp_path / 'many.jsonl')
  folder = tmp_path / 'corpus'
  monkeypatch.setattr(CorpusWriter, 'finish', lambda *_, **__: 1 / 0)
  with pytest.raises(ZeroDivisionError):
    run([source], folder)
  monkeypatch.undo()
  many_articles(tmp_path / 'many.jsonl', 50)
  manifest, printed = run([source], folder)
  assert 'goes on' not in printed
  assert manifest['num_articles'] == 50
  assert len(list(folder.glob('blocks-*'))) == len(manifest['block_files'])


_SAMPLE = (
  Path(__file__).resolve().parents[2]
  / '../shared/realtext/enwiki-sample.xml.bz2'
)
_SCRIPT = """
import sys
from realm_jax.data import corpus_writer
from realm_jax.runs.prepare import prepare
source, folder, shard_size, workers, runner = sys.argv[1:]
corpus_writer.SHARD_SIZE = int(shard_size)
if __name__ == '__main__':
  if runner == 'beam':
    from realm_jax.runs import prepare_beam
    prepare_beam.SHARD_SIZE = int(shard_size)
  prepare([source], folder, vocab_sample_chars=10_000, workers=int(workers),
          runner=runner)
"""


@pytest.mark.slow
@pytest.mark.parametrize('source', ['made up', 'real'])
def test_the_corpus_is_the_same_whoever_makes_it(tmp_path, source):
  """One worker, two, a killed run and another that ends it, and Beam."""
  shard_size = 1200
  if source == 'made up':
    path = many_articles(tmp_path / 'many.jsonl', 8_000)
  elif not _SAMPLE.is_file():
    pytest.skip('../shared/realtext is absent')
  else:
    path, shard_size = _SAMPLE, 300
  script = tmp_path / 'script.py'
  script.write_text(_SCRIPT)

  def start(folder, workers, runner='local'):
    arguments = (path, folder, shard_size, workers, runner)
    return subprocess.Popen(
      [sys.executable, script, *map(str, arguments)],
      stdout=subprocess.DEVNULL,
      start_new_session=True,
    )

  def kill_when_it_has_shards(process, folder):
    while not (folder / 'blocks-00001.arrow').exists():
      time.sleep(0.01)
      assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not is_whole(folder)

  kill_when_it_has_shards(start(tmp_path / 'killed', 2), tmp_path / 'killed')
  makers = {'one': (1,), 'two': (2,), 'killed': (1,)}
  if importlib.util.find_spec('apache_beam'):
    makers['beam'] = (1, 'beam')
  manifests = []
  for name, how in makers.items():
    assert start(tmp_path / name, *how).wait() == 0
    manifests.append(Corpus.open(tmp_path / name, verify=True).manifest)
  for manifest in manifests[1:]:
    assert manifest['fingerprint'] == manifests[0]['fingerprint']
    assert manifest['files'] == manifests[0]['files']


@pytest.mark.parametrize(
  'content, message',
  [
    (b'{"title": "A", "text": ""}\n', 'gave no block.*1 no text'),
    (b'', 'is empty'),
    (b'{"title": "A"}\n', 'line 1: "text" is missing'),
    (b'{"text": "A."}\n{"text": "caf\xe9"}\n', 'line 2: invalid UTF-8'),
    (b'{"text": "A."}\nnonsense\n', 'line 2: not JSON'),
    (bz2.compress(b'{"text": "A."}\n' * 99)[:-9], 'truncated or damaged'),
  ],
)
@pytest.mark.parametrize('has_vocab', [True, False])
def test_bad_sources_leave_no_corpus(tmp_path, content, message, has_vocab):
  source = tmp_path / 'bad'
  source.write_bytes(content)
  vocab = tmp_path / 'vocab.txt'
  WordPiece.train(['ab'], 150).save(vocab)
  with pytest.raises(UserError, match=f'(?s)bad.*{message}'):
    run([str(source)], tmp_path / 'c', vocab=str(vocab) if has_vocab else None)
  assert not is_whole(tmp_path / 'c')


def test_bad_arguments_are_refused(source, tmp_path):
  out = tmp_path / 'corpus'
  with pytest.raises(FileNotFoundError, match=r'none.jsonl does not exist'):
    run([source, 'none.jsonl'], out)
  with pytest.raises(FileNotFoundError, match=r'vocab.txt does not exist'):
    run([source], out, vocab='vocab.txt')
  with pytest.raises(
    UserError, match="entities is 'all', expected one of rules"
  ):
    run([source], out, entities='all')
  with pytest.raises(UserError, match="since is '2018'"):
    run([source], out, since='2018')
  with pytest.raises(UserError, match="-x, but runner is 'local', expected"):
    run([source], out, beam_options=['-x'])
  with pytest.raises(UserError, match='block_len is 3'):
    run([source], out, block_len=3)
  with pytest.raises(UserError, match='min_block_len is 99'):
    run([source], out, min_block_len=99)
  with pytest.raises(UserError, match='expected a list of files'):
    run(source, out)
  with pytest.raises(UserError, match='vocab_size is 20'):
    run([source], out, vocab_size=20)
  assert not out.exists()
