"""A corpus made by an Apache Beam pipeline (extra `data`).

The same functions as on one machine, and the same corpus byte for byte. A
first pipeline reads each source and packs its chunks, a second one joins them
to shards; between the two it is known which chunks a shard takes. All workers
must see the sources and the corpus folder under the same paths.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from realm_jax.data.corpus import VOCAB
from realm_jax.data.corpus_writer import (
  CHUNKS,
  SHARD_SIZE,
  check_vocab_size,
  clear_unfinished,
  finish_corpus,
  write_shard,
)
from realm_jax.data.editions import describe_edition
from realm_jax.data.packing import PackedChunk, Packer, chunked
from realm_jax.data.sources import Article, read_source
from realm_jax.data.wordpiece import WordPiece
from realm_jax.folders import make_folder, read_json, write_json
from realm_jax.optional import require
from realm_jax.runs.prepare import check_not_empty, skipped_by_packers

_SKIPPED = 'skipped-{:05d}.json'
_SHARD = 'shard-{:05d}.json'
_MADE_OF = 'made_of.json'


class _Chunk(NamedTuple):
  """Where a chunk comes from; sorted, they are in the corpus's order."""

  source: int
  number: int

  def path(self, folder: Path) -> Path:
    return folder / f'chunk-{self.source:05d}-{self.number:09d}.arrow'


class _Shard(NamedTuple):
  """What is to be written as one shard."""

  number: int
  chunks: tuple[Path, ...]
  first_article: int
  first_block: int


def write_with_beam(
  sources: Sequence[str],
  folder: Path,
  wordpiece: WordPiece,
  kinds: Sequence[str],
  make_packer: Callable[[], Packer],
  settings: dict[str, Any],
  options: Sequence[str] = (),
) -> dict[str, Any]:
  """Makes a corpus folder with two pipelines.

  Run again after it was stopped, it packs no chunk twice.

  Args:
    sources: files of articles.
    folder: of the corpus.
    wordpiece: what blocks are encoded with.
    kinds: every kind a span may have.
    make_packer: () -> what packs a chunk; called once in each worker.
    settings: what the corpus is made of, for the manifest.
    options: of the pipelines, as on Beam's command line; the DirectRunner where
      they name no other.

  Returns:
    The manifest.
  """
  beam: Any = require('apache_beam', 'data')
  check_vocab_size(wordpiece)
  chunks_folder = make_folder(folder / CHUNKS)
  made_of = {'settings': settings, 'vocab': wordpiece.fingerprint}
  path = chunks_folder / _MADE_OF
  if not path.is_file() or read_json(path) != made_of:
    for old in chunks_folder.iterdir():
      old.unlink()
    write_json(path, made_of)
  clear_unfinished(folder, keep=CHUNKS)
  wordpiece.save(folder / VOCAB)

  with beam.Pipeline(argv=list(options)) as pipeline:
    _ = (
      pipeline
      | beam.Create(list(enumerate(map(str, sources))))
      | beam.FlatMap(_read_chunks, folder=chunks_folder)
      | beam.Reshuffle()
      | beam.ParDo(_pack_fn(beam, make_packer, chunks_folder))
    )
  shards, counts = _plan(chunks_folder)
  with beam.Pipeline(argv=list(options)) as pipeline:
    _ = (
      pipeline
      | beam.Create(shards)
      | beam.Reshuffle()
      | beam.Map(_write_shard, folder=folder)
    )
  skipped = skipped_by_packers(counts)
  for number in range(len(sources)):
    skipped.update(read_json(chunks_folder / _SKIPPED.format(number)))
  check_not_empty(counts['blocks'], sources, skipped)
  del counts['blocks']
  return finish_corpus(
    folder,
    wordpiece,
    kinds,
    [read_json(chunks_folder / _SHARD.format(s.number)) for s in shards],
    counts,
    settings=settings,
    edition=describe_edition(settings.get('since'), counts),
    num_skipped=dict(sorted(skipped.items())),
  )


def _read_chunks(
  numbered: tuple[int, str], folder: Path
) -> Iterator[tuple[_Chunk, list[Article]]]:
  """The chunks of a source that are not packed yet."""
  number, source = numbered
  skipped: Counter[str] = Counter()
  articles = read_source(source, skipped, with_wikitext=True)
  for i, part in enumerate(chunked(articles)):
    chunk = _Chunk(number, i)
    if not chunk.path(folder).is_file():
      yield chunk, part
  write_json(folder / _SKIPPED.format(number), dict(skipped))


def _pack_fn(beam: Any, make_packer: Callable[[], Packer], folder: Path) -> Any:
  """A DoFn that packs chunks, each into a file."""

  class Pack(beam.DoFn):
    def setup(self) -> None:  # loads the tagger, once a worker
      self._packer = make_packer()

    def process(self, element: tuple[_Chunk, list[Article]]) -> None:
      chunk, articles = element
      _save(_Chunk(*chunk).path(folder), self._packer(articles))

  return Pack()


def _save(path: Path, packed: PackedChunk) -> None:
  """Writes a chunk so that a reader sees all of it or nothing."""
  digests = pa.FixedSizeBinaryArray.from_buffers(
    pa.binary(32), packed.blocks.num_rows, [None, pa.py_buffer(packed.digests)]
  )
  blocks = packed.blocks.append_column('digest', digests)
  sentences = packed.sentences.replace_schema_metadata(
    {'counts': json.dumps({**packed.counts, 'blocks': blocks.num_rows})}
  )
  partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
  with pa.OSFile(str(partial), 'wb') as stream:
    for batch in (sentences, blocks):
      with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
  os.replace(partial, path)


def _counts(path: Path) -> Counter[str]:
  with pa.OSFile(str(path)) as stream:
    metadata = pa.ipc.open_stream(stream).schema.metadata
  return Counter(json.loads(metadata[b'counts']))


def _load(path: Path) -> PackedChunk:
  with pa.OSFile(str(path)) as stream:
    # One batch each; to the end, where the next stream begins.
    (sentences,), (blocks,) = (list(pa.ipc.open_stream(stream)) for _ in '12')
  counts = Counter(json.loads(sentences.schema.metadata[b'counts']))
  digests = b''.join(blocks.column('digest').to_pylist())
  return PackedChunk(
    blocks.drop_columns(['digest']),
    sentences.replace_schema_metadata(None),
    digests,
    counts,
  )


def _plan(folder: Path) -> tuple[list[_Shard], Counter[str]]:
  """Which chunks make which shard, as CorpusWriter has it; counts of all."""
  total: Counter[str] = Counter()
  shards: list[_Shard] = []
  waiting: list[Path] = []
  first = Counter(total)
  for path in sorted(folder.glob('chunk-*.arrow')):
    waiting.append(path)
    total += _counts(path)
    if total['blocks'] - first['blocks'] >= SHARD_SIZE:
      shards.append(_shard(len(shards), waiting, first))
      waiting, first = [], Counter(total)
  if total['blocks'] > first['blocks']:
    shards.append(_shard(len(shards), waiting, first))
  return shards, total


def _shard(number: int, chunks: Sequence[Path], before: Counter[str]) -> _Shard:
  return _Shard(number, tuple(chunks), before['articles'], before['blocks'])


def _write_shard(shard: _Shard, folder: Path) -> None:
  number, paths, first_article, first_block = shard
  chunks = [_load(path) for path in paths]
  written = write_shard(folder, number, chunks, first_article, first_block)
  write_json(folder / CHUNKS / _SHARD.format(number), written)
