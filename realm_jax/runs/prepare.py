"""Documents -> corpus: articles, blocks, sentences and their salient spans."""

import dataclasses
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

from realm_jax.data.blocks import MIN_BLOCK_LEN
from realm_jax.data.corpus import KIND, MADE_BY
from realm_jax.data.corpus_writer import CorpusWriter, check_unfinished
from realm_jax.data.editions import (
  check_since,
  describe_edition,
  edition_text,
  edition_warning,
)
from realm_jax.data.packing import (
  MODEL_PREFIX,
  SKIPPED,
  Packer,
  check_entities,
  chunked,
  make_tagger,
  span_kinds,
)
from realm_jax.data.pool import num_cores, ordered_map
from realm_jax.data.sources import Article, identify_source, read_source
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import is_whole, read_manifest

RUNNERS = ('local', 'beam')
SECTION_TITLES = ('drop', 'keep')
# Starting a process costs a second or two, which fewer bytes are not worth.
_MIN_BYTES_FOR_WORKERS = 8 << 20


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
  section_titles: str = 'drop',
  since: str | None = None,
  workers: int | None = None,
  runner: str = 'local',
  beam_options: Sequence[str] = (),
  console: Console | None = None,
) -> dict[str, Any]:
  """Makes a corpus folder of some files.

  The corpus is the same whatever the runner and the number of workers. Stopped
  before its end it leaves a folder without a manifest; called again it goes on
  after the last shard. A folder already made of the same files with the same
  settings is left as it is.

  Args:
    sources: files of articles; see data.sources for the formats. Of block
      records every one becomes a block, whatever block_len says.
    out: the corpus folder.
    vocab: a vocab.txt; None to train a vocabulary on the articles.
    vocab_size: most tokens of a trained vocabulary.
    vocab_sample_chars: characters to train it on, from the first article on.
    block_len: most wordpieces of a block, title and special tokens included.
    min_block_len: shorter blocks are left out, and counted.
    entities: how entities are found, one of packing.ENTITIES, or hf: and
      the folder or name of a token classifier; dates always are.
    section_titles: of MediaWiki pages. A title is no sentence, so 'drop' leaves
      it out; 'keep' puts it on a line of its own before the section's first
      prose, where it is a sentence of the block.
      Sections that only list things are left out whole either way.
    since: stamp of the edition, YYYY-MM-DD: the day since which the documents
      say what they say, such as that of the dump. It goes into the manifest,
      beside the oldest and the newest revision of the articles where a dump
      tells them, and leaves nothing out; a newer revision is warned of.
    workers: processes; None for one a core, or one where the files are small
      or a token classifier reads them.
      More than one import the calling script again, as multiprocessing does:
      guard it with `if __name__ == '__main__':`.
    runner: 'local', or 'beam' for an Apache Beam pipeline; see prepare_beam.
    beam_options: of the pipeline, such as '--runner=FlinkRunner'.
    console: where to print; None for the terminal.

  Returns:
    The manifest.

  Raises:
    FileNotFoundError: a source or the vocabulary is missing.
    UserError: a source is damaged or of no known format, since is no day, there
      is no block to keep, the folder holds something else, or a worker was
      killed.
  """
  console = console or Console()
  started = time.monotonic()
  folder = Path(out)
  _check_arguments(
    sources, vocab_size, block_len, min_block_len, entities, workers
  )
  if runner not in RUNNERS:
    raise UserError(
      f'runner is {runner!r}, expected one of {", ".join(RUNNERS)}.'
    )
  if beam_options and runner != 'beam':
    raise UserError(
      f'beam_options are {", ".join(beam_options)}, but runner is {runner!r}, '
      "expected 'beam'."
    )
  if section_titles not in SECTION_TITLES:
    raise UserError(
      f'section_titles is {section_titles!r}, expected one of '
      f'{", ".join(SECTION_TITLES)}.'
    )
  since = check_since(since)
  keeps_titles = section_titles == 'keep'
  wordpiece = WordPiece.from_vocab_file(vocab) if vocab else None
  tagger = make_tagger(entities)
  identified = [identify_source(source) for source in sources]
  settings: dict[str, Any] = {
    'block_len': block_len,
    'min_block_len': min_block_len,
    'entities': tagger.name if tagger else 'none',
    'sources': identified,
  }
  # Only what was asked for: corpora that were made before stay the same.
  if keeps_titles:
    settings['section_titles'] = section_titles
  if since:
    settings['since'] = since
  if wordpiece:
    settings['vocab'] = wordpiece.fingerprint
  else:
    settings['vocab'] = 'trained'
    settings['vocab_size'] = vocab_size
    settings['vocab_sample_chars'] = vocab_sample_chars
  if is_whole(folder):
    return _already_made(folder, settings, console)
  check_unfinished(folder)
  if workers is None:
    workers = _num_workers(identified, entities)
  with _progress(console) as progress:
    if wordpiece is None:
      wordpiece = _train(
        sources, vocab_size, vocab_sample_chars, keeps_titles, progress
      )
    make_packer = _PackerMaker(
      wordpiece, entities, block_len, min_block_len, keeps_titles
    )
    kinds = span_kinds(tagger)
    if runner == 'beam':
      from realm_jax.runs.prepare_beam import write_with_beam

      manifest = write_with_beam(
        sources, folder, wordpiece, kinds, make_packer, settings, beam_options
      )
    else:
      writer = CorpusWriter(folder, wordpiece, kinds, settings=settings)
      if writer.num_blocks:
        console.print(
          f'Corpus {folder} goes on after its first {writer.num_blocks:,} '
          'blocks.'
        )
      manifest = _write_corpus(
        sources, writer, make_packer, workers, settings, progress
      )
  _print_summary(manifest, folder, time.monotonic() - started, console)
  return manifest


@dataclasses.dataclass(frozen=True)
class _PackerMaker:
  """Makes the packer of a process: what is sent there instead of the packer."""

  wordpiece: WordPiece
  entities: str
  block_len: int
  min_block_len: int
  section_titles: bool

  def __call__(self) -> Packer:
    return Packer(
      self.wordpiece,
      make_tagger(self.entities),
      self.block_len,
      self.min_block_len,
      self.section_titles,
    )


def _check_arguments(
  sources: Sequence[str],
  vocab_size: int,
  block_len: int,
  min_block_len: int,
  entities: str,
  workers: int | None,
) -> None:
  if isinstance(sources, str) or not sources:
    raise UserError(f'sources are {sources!r}, expected a list of files.')
  check_entities(entities)
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
  if workers is not None and workers < 1:
    raise UserError(f'workers is {workers}, expected at least 1.')


def _num_workers(sources: Sequence[dict[str, Any]], entities: str) -> int:
  num_bytes = sum(source['bytes'] for source in sources)
  # JAX has all cores already, and a GPU has memory for one process.
  if num_bytes < _MIN_BYTES_FOR_WORKERS or entities.startswith(MODEL_PREFIX):
    return 1
  return num_cores()


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


def _read_chunks(
  sources: Iterable[str], skipped: Counter[str]
) -> Iterator[list[Article]]:
  # None goes beyond its source, which a Beam pipeline reads apart.
  for source in sources:
    yield from chunked(read_source(source, skipped, with_wikitext=True))


def _train(
  sources: Sequence[str],
  size: int,
  sample_chars: int,
  section_titles: bool,
  progress: Progress,
) -> WordPiece:
  task = progress.add_task('reading for the vocabulary', total=None, counts='')
  texts: list[str] = []
  num_chars = 0
  chunks = _read_chunks(sources, Counter())
  for article in itertools.chain.from_iterable(chunks):
    text = article.plain(section_titles).text
    texts.append(f'{article.title}\n{text}')
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
  writer: CorpusWriter,
  make_packer: _PackerMaker,
  workers: int,
  settings: dict[str, Any],
  progress: Progress,
) -> dict[str, Any]:
  task = progress.add_task('packing blocks', total=None, counts='')
  skipped: Counter[str] = Counter()
  num_done: int = writer.cursor or 0
  chunks = itertools.islice(_read_chunks(sources, skipped), num_done, None)
  for _, packed in ordered_map(make_packer, chunks, workers):
    num_done += 1
    writer.add(packed, num_done)
    num_articles = writer.counts['articles']
    progress.update(
      task, counts=f'{num_articles:,} articles, {writer.num_blocks:,} blocks'
    )
  skipped += skipped_by_packers(writer.counts)
  check_not_empty(writer.num_blocks, sources, skipped)
  return writer.finish(
    settings=settings,
    edition=describe_edition(settings.get('since'), writer.counts),
    num_skipped=dict(sorted(skipped.items())),
  )


def skipped_by_packers(counts: Counter[str]) -> Counter[str]:
  """What packers left out, by reason."""
  return Counter(
    {
      name.removeprefix(SKIPPED): number
      for name, number in counts.items()
      if name.startswith(SKIPPED)
    }
  )


def check_not_empty(
  num_blocks: int, sources: Sequence[str], skipped: Counter[str]
) -> None:
  """Raises UserError, with the reasons, if nothing is left of the sources."""
  if not num_blocks:
    reasons = ', '.join(f'{n} {why}' for why, n in skipped.items()) or 'none'
    raise UserError(
      f'{", ".join(map(str, sources))} gave no block: expected articles with '
      f'text. Left out: {reasons}.'
    )


def _print_summary(
  manifest: dict[str, Any], folder: Path, seconds: float, console: Console
) -> None:
  num_spans = manifest['num_spans']
  table = Table(title=f'Corpus {folder}', show_header=False)
  rows = [
    ('articles', f'{manifest["num_articles"]:,}'),
    *((f'left out: {w}', f'{n:,}') for w, n in manifest['num_skipped'].items()),
    ('edition', edition_text(manifest)),
    ('blocks', f'{manifest["num_blocks"]:,}'),
    ('left out: short blocks', f'{manifest["num_short_blocks"]:,}'),
    ('sentences', f'{manifest["num_sentences"]:,}'),
    (
      'sentences without a span',
      f'{manifest["num_sentences_without_spans"]:,}',
    ),
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
  if warning := edition_warning(manifest['edition']):
    console.print(f'[bold yellow]Warning:[/] {warning}')
