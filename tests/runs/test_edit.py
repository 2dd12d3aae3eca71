"""Documents added, replaced and removed; only what is new is embedded."""

import contextlib
import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from pyarrow import ipc
from rich.console import Console

from realm_jax import cli
from realm_jax.data import corpus_edit, corpus_writer, packing
from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.folders import is_whole, read_json
from realm_jax.index.exact_index import ExactIndex
from realm_jax.runs.build_index import build_index
from realm_jax.runs.edit import edit
from realm_jax.runs.inspect_corpus import inspect_corpus
from realm_jax.runs.prepare import prepare

ROWS = [
  {
    'title': f'T {n}',
    'text': f'Ada Quist came to Arnby in {1800 + n}. She left at once. ' * 2,
  }
  for n in range(20)
]
ROWS.append({'title': 'V', 'text': 'Dora Ulm built the bridge of Belton.'})
NEW = [
  {'title': 'T 3', 'text': 'Bela Rook never came.'},
  {'title': 'Nil', 'text': ' '},
  {'title': 'U', 'text': 'Caro Stahl sailed from Corva in 1871. ' * 9},
  {'title': 'X', 'text': 'Emil Tarn was a baker of Dunholm.'},
]


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  folder = tmp_path_factory.mktemp('corpus')
  source = tiny.write_lines(folder / 'articles.jsonl', ROWS)
  options = {'vocab_size': 200, 'block_len': 30, 'min_block_len': 8}
  prepare(
    [str(source)], str(folder / 'c'), **options, since='2018-12-20',
    console=tiny.quiet(),
  )  # fmt: skip
  return folder / 'c'


@pytest.fixture
def source(tmp_path):
  return str(tiny.write_lines(tmp_path / 'new.jsonl', NEW))


@pytest.fixture
def titles(tmp_path):
  path = tmp_path / 'titles.txt'
  path.write_text('T 7\n\nV\n', encoding='utf-8')
  return str(path)


def run(corpus, out, **options):
  """The manifest, and what was printed."""
  printed = io.StringIO()
  console = Console(file=printed, width=200)
  manifest = edit(str(corpus), str(out), console=console, **options)
  return manifest, printed.getvalue()


def titles_of(corpus):
  titles = map(corpus.title, range(corpus.num_blocks))
  return list(dict.fromkeys(titles))


def test_documents_are_added_replaced_and_removed(
  corpus, source, titles, tmp_path
):
  old = Corpus.open(corpus)
  before = {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
  manifest, printed = run(corpus, tmp_path / 'c', add=[source], remove=titles)
  new = Corpus.open(tmp_path / 'c', verify=True)
  kept = [row['title'] for row in ROWS if row['title'] != 'T 3']
  kept = [title for title in kept if title not in ('T 7', 'V')]
  assert titles_of(new) == [*kept, 'T 3', 'U', 'X']
  assert manifest['edited_from'] == old.fingerprint
  assert manifest['num_articles_edited'] == {
    'kept': 18,
    'removed': 2,
    'replaced': 1,
    'added': 3,
  }
  num_blocks = manifest['num_blocks_edited']
  assert num_blocks['kept'] + num_blocks['added'] == new.num_blocks
  num_old = num_blocks['kept'] + num_blocks['removed'] + num_blocks['replaced']
  assert num_old == old.num_blocks
  assert manifest['num_articles'] == 21 == len(set(new.article_ids.tolist()))
  assert manifest['num_skipped'] == {'no text': 1}
  assert before == {path: path.stat().st_mtime_ns for path in corpus.iterdir()}
  for words in ('replaced', 'Edition: not known', 'since 2018-12-20, says'):
    assert words in printed
  assert all(path.is_file() for path in (tmp_path / 'c').iterdir())
  inspect_corpus(str(tmp_path / 'c'), console=tiny.quiet())


def test_kept_and_added_blocks_are_those_of_prepare(corpus, source, tmp_path):
  """The new documents are packed and tagged as the old ones were."""
  run(corpus, tmp_path / 'c', add=[source])
  new = Corpus.open(tmp_path / 'c')
  rows = [row for row in ROWS if row['title'] != 'T 3']
  whole = tiny.write_lines(tmp_path / 'whole.jsonl', [*rows, *NEW])
  prepare(
    [str(whole)],
    str(tmp_path / 'fresh'),
    vocab=str(corpus / 'vocab.txt'),
    block_len=30,
    min_block_len=8,
    console=tiny.quiet(),
  )
  fresh = Corpus.open(tmp_path / 'fresh')
  assert new.fingerprint == fresh.fingerprint
  assert new.article_ids.tolist() == fresh.article_ids.tolist()
  assert list(new.sentences) == list(fresh.sentences)
  assert new.manifest['num_spans'] == fresh.manifest['num_spans']
  settings = new.manifest['settings']
  for name in ('block_len', 'min_block_len', 'entities'):
    assert settings[name] == fresh.manifest['settings'][name]
  assert [s['name'] for s in settings['sources']] == [
    'articles.jsonl',
    'new.jsonl',
  ]


def test_every_setting_of_the_corpus_holds_for_what_is_added(tmp_path):
  """Also what sections of MediaWiki pages are called."""
  page = (
    '<mediawiki><page><title>{}</title><ns>0</ns><revision>'
    '<timestamp>{}T10:00:00Z</timestamp><text>== Life ==\nHe is a name of many.'
    '</text></revision></page></mediawiki>'
  )
  for name, day in (('Bob', '2016-05-01'), ('Cid', '2020-03-17')):
    (tmp_path / f'{name}.xml').write_text(page.format(name, day))
  prepare(
    [str(tmp_path / 'Bob.xml')], str(tmp_path / 'c'), vocab_size=150,
    entities='none', section_titles='keep', since='2016-12-20',
    console=tiny.quiet(),
  )  # fmt: skip
  added = [str(tmp_path / 'Cid.xml')]
  manifest, printed = run(
    tmp_path / 'c', tmp_path / 'new', add=added, since='2019-01-01'
  )
  assert Corpus.open(tmp_path / 'new').text(1).startswith('Life\nHe is')
  assert manifest['edition'] == {
    'since': '2019-01-01',
    'oldest_revision': '2016-05-01',
    'newest_revision': '2020-03-17',
  }
  assert 'Warning: The newest revision is of 2020-03-17' in printed


def test_removing_keeps_the_edition(corpus, titles, tmp_path):
  manifest, printed = run(corpus, tmp_path / 'c', remove=titles)
  assert manifest['edition']['since'] == '2018-12-20'
  assert 'Edition: since 2018-12-20' in printed


def test_an_edited_corpus_can_be_edited(corpus, source, titles, tmp_path):
  first, _ = run(corpus, tmp_path / 'a', remove=titles)
  second, _ = run(tmp_path / 'a', tmp_path / 'b', add=[source])
  at_once, _ = run(corpus, tmp_path / 'c', add=[source], remove=titles)
  assert second['edited_from'] == first['fingerprint']
  assert second['fingerprint'] == at_once['fingerprint']
  assert 'removed' not in second['settings']


def test_nothing_removed_is_the_same_corpus(corpus, tmp_path):
  empty = tmp_path / 'none.txt'
  empty.write_text('\n')
  manifest, _ = run(corpus, tmp_path / 'c', remove=str(empty))
  old = read_json(corpus / 'manifest.json')
  for name in ('fingerprint', 'num_spans', 'num_sentences', 'num_short_blocks'):
    assert manifest[name] == old[name]
  assert manifest['num_articles_edited']['kept'] == 21


def test_missing_titles_are_refused_by_name_or_passed_over(corpus, tmp_path):
  path = tmp_path / 'titles.txt'
  path.write_text(''.join(f'[/W {n}]\n' for n in range(7)) + 'T 2\n')
  with pytest.raises(
    UserError, match=r"names '\[/W 0\]', .*'\[/W 4\]' and 2 mo"
  ):
    run(corpus, tmp_path / 'c', remove=str(path))
  assert not (tmp_path / 'c').exists()
  manifest, printed = run(
    corpus, tmp_path / 'c', remove=str(path), ignore_missing=True
  )
  assert manifest['num_articles_edited']['removed'] == 1
  assert "passed over: '[/W 0]'" in printed


def test_a_finished_folder_is_left_as_it_is(corpus, source, titles, tmp_path):
  first, _ = run(corpus, tmp_path / 'c', add=[source])
  second, printed = run(corpus, tmp_path / 'c', add=[source])
  assert second == first
  assert 'is already there' in printed
  with pytest.raises(UserError, match='differs in removed, since, sources'):
    run(corpus, tmp_path / 'c', remove=titles)
  with pytest.raises(UserError, match='made with other settings'):
    prepare([source], str(tmp_path / 'c'), console=tiny.quiet())


@pytest.fixture
def small_shards(monkeypatch):
  """Shards of 8 blocks, copied 3 at a time, and chunks of 1 article."""
  monkeypatch.setattr(corpus_writer, 'SHARD_SIZE', 8)
  monkeypatch.setattr(corpus_edit, '_PIECE', 3)
  monkeypatch.setattr(packing, '_CHUNK_ARTICLES', 1)


@contextlib.contextmanager
def stopped_at(function, folder, call):
  """Interrupts a call of a function of corpus_writer for a folder."""
  proceed, calls = getattr(corpus_writer, function), []

  def stop(path, *args, **kwargs):
    calls.append(path.name)
    if calls.count(folder) > call:
      raise KeyboardInterrupt
    return proceed(path, *args, **kwargs)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(corpus_writer, function, stop)
    yield


@pytest.mark.parametrize(
  ('function', 'folder', 'call', 'goes_on'),
  [
    ('write_shard', 'added', 0, False),
    ('write_manifest', 'added', 0, False),
    ('write_shard', 'c', 2, True),
    ('write_manifest', 'c', 0, True),
  ],
)
def test_a_stopped_edit_goes_on(
  corpus,
  source,
  titles,
  tmp_path,
  small_shards,
  function,
  folder,
  call,
  goes_on,
):
  options = {'add': [source], 'remove': titles}
  expected, _ = run(corpus, tmp_path / 'whole', **options)
  assert len(expected['block_files']) > 3
  last = ipc.open_file(tmp_path / 'whole' / expected['block_files'][-1])
  assert last.get_batch(0).num_rows < 8  # it was written when all was closed
  with (
    stopped_at(function, folder, call),
    pytest.raises(KeyboardInterrupt),
  ):
    run(corpus, tmp_path / 'c', **options)
  with pytest.raises(FileNotFoundError, match='was never finished'):
    Corpus.open(tmp_path / 'c')
  manifest, printed = run(corpus, tmp_path / 'c', **options)
  assert manifest == expected
  assert ('c goes on after its first' in printed) == goes_on
  names = [
    sorted(path.name for path in (tmp_path / name).iterdir())
    for name in ('c', 'whole')
  ]
  assert names[0] == names[1]


def test_a_stopped_edit_of_something_else_is_not_gone_on_with(
  corpus, source, titles, tmp_path, small_shards
):
  expected, _ = run(corpus, tmp_path / 'whole', remove=titles, add=[source])
  with stopped_at('write_shard', 'c', 1), pytest.raises(KeyboardInterrupt):
    run(corpus, tmp_path / 'c', add=[str(corpus.parent / 'articles.jsonl')])
  manifest, printed = run(corpus, tmp_path / 'c', remove=titles, add=[source])
  assert manifest == expected
  assert 'goes on' not in printed


def test_places_that_are_not_written_to(corpus, source, tmp_path):
  link = tmp_path / 'folder' / 'link'
  link.parent.mkdir()
  link.symlink_to(corpus)
  for out in (corpus, corpus / 'new', link):
    with pytest.raises(UserError, match='the corpus itself or a folder in it'):
      run(corpus, out, add=[source])
  with pytest.raises(UserError, match=r'holds folder, new.jsonl, which no'):
    run(corpus, tmp_path, add=[source])
  with pytest.raises(UserError, match='expected a folder to write to'):
    run(corpus, source, add=[source])


def test_edits_that_make_no_sense(corpus, titles, tmp_path):
  out = tmp_path / 'c'
  with pytest.raises(UserError, match='nothing to do: expected documents'):
    run(corpus, out)
  with pytest.raises(UserError, match='expected a list of files'):
    run(corpus, out, add='new.jsonl')
  with pytest.raises(FileNotFoundError, match=r'none\.txt does not exist'):
    run(corpus, out, remove=str(tmp_path / 'none.txt'))
  with pytest.raises(FileNotFoundError, match=r'none\.jsonl does not exist'):
    run(corpus, out, add=[str(tmp_path / 'none.jsonl')])
  with pytest.raises(UserError, match="since is '2018'"):
    run(corpus, out, remove=titles, since='2018')
  everything = tmp_path / 'all.txt'
  everything.write_text(''.join(f'{row["title"]}\n' for row in ROWS))
  with pytest.raises(UserError, match='nothing would be left'):
    run(corpus, out, remove=str(everything))
  empty = tiny.write_lines(tmp_path / 'empty.jsonl', NEW[1:2])
  with pytest.raises(UserError, match='gave no block'):
    run(corpus, out, add=[str(empty)])
  assert not is_whole(out)


@pytest.mark.parametrize(
  ('made_with', 'entities', 'words'),
  [
    ('spacy en_core_web_sm 0.0.1', None, '(is spacy .* here|cannot be had)'),
    ('token classifier NER 12345678', None, 'Say it with --entities'),
    ('token classifier NER 12345678', 'hf:none', 'cannot be had here: .*none'),
    ('token classifier NER 12345678', 'rules', 'but rules is rules here'),
    ('rules', 'none', 'but none is none here'),
    ('rules', 'rule', "entities is 'rule', expected one of"),
  ],
)
def test_a_tagger_that_cannot_be_had(
  corpus, source, titles, tmp_path, made_with, entities, words
):
  folder = tmp_path / 'old'
  shutil.copytree(corpus, folder)
  manifest = read_json(folder / 'manifest.json')
  manifest['settings']['entities'] = made_with
  (folder / 'manifest.json').write_text(json.dumps(manifest))
  with pytest.raises(UserError, match=words):
    run(folder, tmp_path / 'c', add=[source], entities=entities)
  assert not (tmp_path / 'c').exists()
  # Nothing is tagged to remove documents.
  run(folder, tmp_path / 'c', remove=titles)


def test_a_damaged_corpus_is_not_copied(corpus, titles, tmp_path):
  folder = tmp_path / 'old'
  shutil.copytree(corpus, folder)
  path = folder / 'sentences-00000.arrow'
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)
  with pytest.raises(UserError, match='has checksum'):
    run(folder, tmp_path / 'c', remove=titles)
  assert not is_whole(tmp_path / 'c')


def test_from_the_command_line(corpus, source, titles, tmp_path, capsys):
  command = ['edit', '--corpus', str(corpus), '--out', str(tmp_path / 'c')]
  manifest = cli.run([*command, '--add', source, '--remove', titles])
  assert manifest['num_articles_edited']['added'] == 3
  Path(titles).write_text('T 77\n')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr('sys.argv', ['realm-jax', *command, '--remove', titles])
    patch.setenv('COLUMNS', '200')
    with pytest.raises(SystemExit) as stopped:
      cli.main()
  assert stopped.value.code == 2
  message = capsys.readouterr().err
  assert message.startswith('realm-jax: ') and 'differs in' in message


def index_lines(run_folder, corpus):
  printed = io.StringIO()
  console = Console(file=printed, width=200)
  snapshot = build_index(str(run_folder), corpus=str(corpus), console=console)
  lines = printed.getvalue().splitlines()
  return snapshot, next(line for line in lines if line.startswith('Embedded'))


def found_title(corpus, snapshot, query_embed):
  """The title of the block that is found first."""
  found = ExactIndex(snapshot).search(query_embed[None], 1)
  return corpus.title(int(found.block_ids[0, 0]))


@pytest.mark.slow
def test_only_new_blocks_are_embedded(corpus, source, titles, tmp_path):
  # Weights large enough to tell blocks apart: a layer norm ends the embedder,
  # so that a block's own embedding finds it.
  encoder = dataclasses.replace(tiny.ENCODER, initializer_range=0.5)
  model = dataclasses.replace(tiny.MODEL, encoder=encoder)
  run_folder = tiny.make_untrained_run(tmp_path / 'run', corpus, model)
  old = Corpus.open(corpus)
  old_snapshot, line = index_lines(run_folder, corpus)
  assert line == f'Embedded {old.num_blocks}, reused 0.'
  manifest, _ = run(corpus, tmp_path / 'c', add=[source], remove=titles)
  num_blocks = manifest['num_blocks_edited']
  snapshot, line = index_lines(run_folder, tmp_path / 'c')
  expected = num_blocks['added'], num_blocks['kept']
  assert line == 'Embedded {}, reused {}.'.format(*expected)
  _, line = index_lines(run_folder, tmp_path / 'c')
  assert line == f'Embedded 0, reused {manifest["num_blocks"]}.'

  # The index finds the new document, and the removed one no longer.
  new = Corpus.open(tmp_path / 'c')
  added, removed = snapshot.block_embeds[-1], old_snapshot.block_embeds[-1]
  assert found_title(new, snapshot, added) == 'X'
  assert found_title(old, old_snapshot, added) != 'X'
  assert found_title(old, old_snapshot, removed) == 'V'
  assert found_title(new, snapshot, removed) != 'V'


@pytest.mark.slow
def test_an_edit_is_embedded_as_if_all_were_new(
  corpus, source, titles, tmp_path
):
  run_folder = tiny.make_untrained_run(tmp_path / 'run', corpus)
  run(corpus, tmp_path / 'c', add=[source], remove=titles)
  all_new, line = index_lines(run_folder, tmp_path / 'c')
  assert line.endswith('reused 0.')
  other = tiny.make_untrained_run(tmp_path / 'other', corpus)
  index_lines(other, corpus)
  reused, line = index_lines(other, tmp_path / 'c')
  assert not line.endswith('reused 0.')
  np.testing.assert_allclose(
    reused.block_embeds, all_new.block_embeds, atol=1e-5
  )
