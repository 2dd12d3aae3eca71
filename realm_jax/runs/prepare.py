"""Documents -> corpus: articles, blocks, sentences and their salient spans."""

import itertools
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
  BarColumn,
  Progress,
  SpinnerColumn,
  TextColumn,
  TimeElapsedColumn,
)
from rich.table import Table

from realm_jax.data.blocks import (
  MIN_BLOCK_LEN,
  Block,
  clean_text,
  pack_blocks,
  whole_block,
)
from realm_jax.data.corpus import KIND, MADE_BY, VOCAB
from realm_jax.data.corpus_writer import CorpusWriter
from realm_jax.data.dates import DATE
from realm_jax.data.rule_tagger import RuleTagger
from realm_jax.data.salient_spans import EntityTagger, find_salient_spans
from realm_jax.data.sources import Article, read_source
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import MANIFEST, file_checksum, is_whole, read_manifest

ENTITIES = ('rules', 'spacy', 'none')
_BATCH = 64  # articles handed on at once
_OWN_FILES = (VOCAB, 'blocks-*.arrow', 'sentences-*.arrow', f'{MANIFEST}.*')


def prepare(
  sources: Sequence[str],
  out: str,
  *,
  vocab: str | None = None,
  vocab_size: int = 8192,
  vocab_sample_chars: int = 50_000_000,
  block_len: int = 288,
  min_block_len: int = 0,
  entities: str = 'rules',
  console: Console | None = None,
) -> dict[str, Any]:
  """Makes a corpus folder of some files.

  Stopped before its end it leaves a folder without a manifest, and starts
  again when called again. A folder already made of the same files with the
  same settings is left as it is.

  Args:
    sources: files of articles; see data.sources for the formats. Of block
      records every one becomes a block, whatever block_len says.
    out: the corpus folder.
    vocab: a vocab.txt; None to train a vocabulary on the articles.
    vocab_size: most tokens of a trained vocabulary.
    vocab_sample_chars: characters to train it on, from the first article on.
    block_len: most wordpieces of a block, title and special tokens included.
    min_block_len: shorter blocks are left out, and counted.
    entities: how entities are found, one of ENTITIES; dates always are.
    console: where to print; None for the terminal.

  Returns:
    The manifest.

  Raises:
    FileNotFoundError: a source or the vocabulary is missing.
    UserError: a source is damaged or of no known format, there is no block to
      keep, or the folder holds something else.
  """
  console = console or Console()
  started = time.monotonic()
  folder = Path(out)
  _check_arguments(sources, vocab_size, block_len, min_block_len, entities)
  wordpiece = WordPiece.from_vocab_file(vocab) if vocab else None
  tagger = _make_tagger(entities)
  settings = {
    'block_len': block_len,
    'min_block_len': min_block_len,
    'entities': tagger.name if tagger else 'none',
    'sources': [_identify(Path(source)) for source in sources],
  }
  if wordpiece:
    settings['vocab'] = wordpiece.fingerprint
  else:
    settings['vocab'] = 'trained'
    settings['vocab_size'] = vocab_size
    settings['vocab_sample_chars'] = vocab_sample_chars
  if is_whole(folder):
    return _already_made(folder, settings, console)
  _clear_unfinished(folder, console)
  with _progress(console) as progress:
    if wordpiece is None:
      wordpiece = _train(sources, vocab_size, vocab_sample_chars, progress)
    manifest = _write_corpus(
      sources, folder, wordpiece, tagger, settings, progress
    )
  _print_summary(manifest, folder, time.monotonic() - started, console)
  return manifest


def _check_arguments(
  sources: Sequence[str],
  vocab_size: int,
  block_len: int,
  min_block_len: int,
  entities: str,
) -> None:
  if isinstance(sources, str) or not sources:
    raise UserError(f'sources are {sources!r}, expected a list of files.')
  if entities not in ENTITIES:
    raise UserError(
      f'entities is {entities!r}, expected one of {", ".join(ENTITIES)}.'
    )
  if block_len < MIN_BLOCK_LEN:
    raise UserError(
      f'block_len is {block_len}, expected at least {MIN_BLOCK_LEN}.'
    )
  if not 0 <= min_block_len <= block_len:
    raise UserError(
      f'min_block_len is {min_block_len}, expected 0 to block_len, {block_len}.'
    )
  if vocab_size < 1:
    raise UserError(f'vocab_size is {vocab_size}, expected a positive number.')


def _identify(source: Path) -> dict[str, Any]:
  """What a source is, whatever folder it lies in; also checks its format."""
  read_source(source)
  return {
    'name': source.name,
    'bytes': source.stat().st_size,
    'sha256': file_checksum(source),
  }


def _already_made(
  folder: Path, settings: dict[str, Any], console: Console
) -> dict[str, Any]:
  manifest = read_manifest(folder, KIND, MADE_BY)
  made_with = manifest.get('settings', {})
  differences = [
    f'{name} is {_short(made_with.get(name))} there, {_short(value)} here'
    for name in sorted({*made_with, *settings})
    if (value := settings.get(name)) != made_with.get(name)
  ]
  if differences:
    raise UserError(
      f'{folder} is a corpus made with other settings: '
      f'{"; ".join(differences)}. Give another folder, or delete this one.'
    )
  console.print(
    f'Corpus {folder} is already there: {manifest["num_blocks"]:,} blocks of '
    'the same files with the same settings.'
  )
  return manifest


def _short(value: Any) -> str:
  if isinstance(value, list):  # sources
    return ', '.join(f'{s["name"]} ({s["sha256"][:8]})' for s in value)
  return value[:12] if isinstance(value, str) else str(value)


def _clear_unfinished(folder: Path, console: Console) -> None:
  if not folder.exists():
    return
  if not folder.is_dir():
    raise UserError(f'{folder} is a file, expected a folder to write to.')
  own = {path for pattern in _OWN_FILES for path in folder.glob(pattern)}
  foreign = sorted(path.name for path in {*folder.iterdir()} - own)
  if foreign:
    raise UserError(
      f'{folder} holds {", ".join(foreign[:3])}, which no corpus has. Give an '
      'empty or a new folder.'
    )
  if own:
    console.print(f'Corpus {folder} was not finished: starting it again.')
  for path in own:
    path.unlink()


def _make_tagger(entities: str) -> EntityTagger | None:
  if entities == 'spacy':
    from realm_jax.data.ner import SpacyTagger

    return SpacyTagger()
  tagger: EntityTagger | None = RuleTagger() if entities == 'rules' else None
  return tagger


def _progress(console: Console) -> Progress:
  return Progress(
    SpinnerColumn(),
    TextColumn('{task.description}'),
    BarColumn(bar_width=20),
    TextColumn('{task.fields[counts]}'),
    TimeElapsedColumn(),
    console=console,
    transient=True,
  )


def _read_articles(
  sources: Iterable[str], skipped: Counter[str]
) -> Iterator[Article]:
  for source in sources:
    for article in read_source(source, skipped):
      if article.is_block:
        yield article
      else:
        yield Article(
          clean_text(article.title).replace('\n', ' '),
          clean_text(article.text),
        )


def _train(
  sources: Sequence[str], size: int, sample_chars: int, progress: Progress
) -> WordPiece:
  task = progress.add_task('reading for the vocabulary', total=None, counts='')
  texts: list[str] = []
  num_chars = 0
  for article in _read_articles(sources, Counter()):
    texts.append(f'{article.title}\n{article.text}')
    num_chars += len(texts[-1])
    progress.update(task, counts=f'{len(texts):,} articles')
    if num_chars >= sample_chars:
      break
  progress.update(task, description='training the vocabulary')
  wordpiece = WordPiece.train(texts, size)
  progress.remove_task(task)
  return wordpiece


def _write_corpus(
  sources: Sequence[str],
  folder: Path,
  wordpiece: WordPiece,
  tagger: EntityTagger | None,
  settings: dict[str, Any],
  progress: Progress,
) -> dict[str, Any]:
  task = progress.add_task('packing blocks', total=None, counts='')
  kinds = (DATE, *(tagger.kinds if tagger else ()))
  writer = CorpusWriter(folder, wordpiece, kinds)
  skipped: Counter[str] = Counter()
  counts: Counter[str] = Counter()
  articles = _read_articles(sources, skipped)
  while batch := list(itertools.islice(articles, _BATCH)):
    kept = _pack_batch(batch, wordpiece, settings, skipped, counts)
    blocks = [block for packed in kept for block in packed]
    spans = iter(
      find_salient_spans(
        [block.text for block in blocks],
        [block.sentences for block in blocks],
        tagger,
      )
    )
    for packed in kept:
      for block in packed:
        writer.add(counts['articles'], block, next(spans))
      counts['articles'] += 1
    progress.update(
      task,
      counts=f'{counts["articles"]:,} articles, {writer.num_blocks:,} blocks',
    )
  if not writer.num_blocks:
    reasons = ', '.join(f'{n} {why}' for why, n in skipped.items()) or 'none'
    raise UserError(
      f'{", ".join(map(str, sources))} gave no block: expected articles with '
      f'text. Left out: {reasons}.'
    )
  return writer.finish(
    settings=settings,
    num_articles=counts['articles'],
    num_skipped=dict(sorted(skipped.items())),
    num_sentences_cut=counts['sentences cut'],
    num_titles_cut=counts['titles cut'],
    num_short_blocks=counts['short blocks'],
  )


def _pack_batch(
  articles: Sequence[Article],
  wordpiece: WordPiece,
  settings: dict[str, Any],
  skipped: Counter[str],
  counts: Counter[str],
) -> list[list[Block]]:
  """The blocks of each article that has some to keep."""
  kept = []
  for article in articles:
    if article.is_block:
      kept.append([whole_block(article.text, wordpiece)])
      continue
    packed = pack_blocks(
      article.title, article.text, wordpiece, settings['block_len']
    )
    blocks = [
      block
      for block in packed.blocks
      if block.block_len >= settings['min_block_len']
    ]
    counts['sentences cut'] += packed.num_cut_sentences
    counts['titles cut'] += packed.title_was_cut
    counts['short blocks'] += len(packed.blocks) - len(blocks)
    if blocks:
      kept.append(blocks)
    else:
      skipped['too short' if packed.blocks else 'no text'] += 1
  return kept


def _print_summary(
  manifest: dict[str, Any], folder: Path, seconds: float, console: Console
) -> None:
  num_spans = manifest['num_spans']
  table = Table(title=f'Corpus {folder}', show_header=False)
  rows = [
    ('articles', f'{manifest["num_articles"]:,}'),
    *((f'left out: {w}', f'{n:,}') for w, n in manifest['num_skipped'].items()),
    ('blocks', f'{manifest["num_blocks"]:,}'),
    ('left out: short blocks', f'{manifest["num_short_blocks"]:,}'),
    ('sentences', f'{manifest["num_sentences"]:,}'),
    (
      'sentences cut, longer than a block',
      f'{manifest["num_sentences_cut"]:,}',
    ),
    ('titles cut', f'{manifest["num_titles_cut"]:,}'),
    *((f'spans: {kind}', f'{n:,}') for kind, n in num_spans.items()),
    ('vocabulary', f'{manifest["vocab_size"]:,} tokens'),
    ('fingerprint', manifest['fingerprint'][:16]),
    (
      'time',
      f'{seconds:.1f} s, {manifest["num_blocks"] / seconds:,.0f} blocks/s',
    ),
  ]
  for name, value in rows:
    table.add_row(name, value)
  console.print(table)
