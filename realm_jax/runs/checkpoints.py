"""Checkpoints of other programs -> runs, and runs -> theirs."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from realm_jax.checkpoints.bert import read_bert
from realm_jax.checkpoints.hf_export import write_hf_realm
from realm_jax.checkpoints.hf_realm import read_hf_realm
from realm_jax.checkpoints.hub import local_path
from realm_jax.checkpoints.official import read_official
from realm_jax.checkpoints.realm_parts import ForeignModel
from realm_jax.checkpoints.tf_checkpoint import BLOCK_EMBEDS
from realm_jax.data.block_records import count_block_records, read_block_records
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.packing import check_entities
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import check_kind, identify_file, is_whole, make_folder
from realm_jax.index.snapshot import Snapshot, finish_snapshot, write_shard
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.prepare import prepare
from realm_jax.train.run_folder import (
  NoCorpus,
  RunFolder,
  index_folder,
  load_run,
)

IMPORTS = ('bert', 'hf-realm', 'official')
EXPORTS = ('hf-realm',)
BLOCK_RECORDS = 'block_records.npy'
_ROWS = 1 << 18  # of block embeddings copied at once: 128 MiB of 128 floats
_NUM_COMPARED = 1000  # blocks of a corpus that is held against block records


def import_checkpoint(
  kind: str,
  paths: Sequence[str],
  out: str,
  *,
  corpus: str | None = None,
  entities: str = 'rules',
  vocab: str | None = None,
  num_heads: int | None = None,
  model: RealmConfig | None = None,
  lengths: Lengths | None = None,
  seed: int = 0,
  console: Console | None = None,
) -> str:
  """Makes a finished run of a checkpoint: the `--init` of any stage.

  Block embeddings that a checkpoint has become the run's index of a corpus,
  and block_records.npy beside them becomes that corpus where it is missing.
  Stopped before its end it may be called again; a corpus that is whole stays.

  Args:
    kind: 'bert', the weights of a BERT; 'hf-realm', Hugging Face REALM models:
      an embedder and an encoder to pre-train or fine-tune, an embedder and a
      reader to answer, or all that `export` wrote; 'official', modules or
      checkpoints of the original programs, which need TensorFlow.
    paths: its folders, or names on the Hugging Face hub.
    out: the run's folder.
    corpus: folder of the corpus that block embeddings belong to; None to leave
      them out.
    entities: how they are found in a corpus made here; as `prepare` has it.
    vocab: its vocab.txt; None to find it in the folders.
    num_heads: attention heads, where no configuration tells.
    model: with 'bert', sizes of what BERT does not have.
    lengths: sequence lengths that evaluating and asking use; None for the
      checkpoint's own, or the paper's where it does not tell.
    seed: of parameters that the checkpoint does not have.
    console: where to print; None for the terminal.

  Returns:
    out.

  Raises:
    FileNotFoundError: a folder or file is missing.
    ImportError: TensorFlow is needed and not installed.
    UserError: the checkpoint is damaged, of another kind, or does not fit; the
      corpus has other blocks; out is a finished run, or the unfinished one of
      another checkpoint.
  """
  console = console or Console()
  _check_arguments(kind, paths, out, entities)
  needs_blocks = corpus is not None and not is_whole(Path(corpus))
  also = (BLOCK_RECORDS,) if needs_blocks and kind != 'bert' else ()
  folders = [local_path(path, also) for path in paths]
  if kind == 'hf-realm':
    foreign = read_hf_realm(folders, vocab, seed)
  elif kind == 'official':
    foreign = read_official(folders, vocab, num_heads, seed)
  else:
    foreign = read_bert(folders[0], vocab, num_heads, model, seed)
  wordpiece = WordPiece.from_vocab_file(foreign.vocab)
  searched: Corpus | NoCorpus = NoCorpus(wordpiece)
  if corpus is not None:
    searched = _corpus_of(foreign, folders, corpus, entities, console)
  elif foreign.block_embeds is not None:
    console.print(
      f'{foreign.block_embeds.folder} has block embeddings, which are left '
      'out: --corpus FOLDER names the corpus they belong to, or where to make '
      'it of block_records.npy.'
    )
  run = RunFolder(
    out,
    'imported',
    foreign.config,
    searched,
    {
      'kind': kind,
      'lengths': lengths or _lengths_for(foreign),
      'made_anew': foreign.made_anew,
      'seed': seed,
      'sources': [identify_file(path) for path in foreign.paths],
    },
  )
  if isinstance(searched, Corpus):
    _save_block_embeds(run, foreign, searched, console)
  run.finish(foreign.params, num_steps=0)
  console.print(f'Run {out} is ready: it serves as --init and --run.')
  return out


def _check_arguments(
  kind: str, paths: Sequence[str], out: str, entities: str
) -> None:
  """Raises UserError for what would fail only after hours of work."""
  if kind not in IMPORTS:
    raise UserError(
      f'kind of checkpoint is {kind!r}, expected one of {", ".join(IMPORTS)}.'
    )
  if kind == 'bert' and len(paths) != 1:
    raise UserError(f'bert takes one folder, {len(paths)} are given.')
  check_entities(entities)
  check_kind(Path(out), 'run')
  if is_whole(Path(out)):
    raise UserError(
      f'{out} is a finished run. Give another folder, or delete this one.'
    )


def _lengths_for(foreign: ForeignModel) -> Lengths:
  """Its own lengths, the paper's, or what few positions can read."""
  lengths = foreign.lengths or Lengths()
  max_positions = foreign.config.encoder.max_positions
  if lengths.joint_len <= max_positions:
    return lengths
  query_len = max_positions // 3
  return Lengths(query_len, max_positions - query_len)


def _corpus_of(
  foreign: ForeignModel,
  folders: Sequence[Path],
  corpus: str,
  entities: str,
  console: Console,
) -> Corpus:
  """The corpus of a checkpoint's block embeddings, made where it is missing."""
  if foreign.block_embeds is None:
    raise UserError(
      'The checkpoint has no block embeddings (block_emb), so that --corpus '
      'has no use here. Evaluating and asking take --corpus as well.'
    )
  found = [path for path in folders if (path / BLOCK_RECORDS).is_file()]
  records = found[0] / BLOCK_RECORDS if found else None
  if records is not None:
    _check_shape(foreign, count_block_records(records), str(records))
  is_there = is_whole(Path(corpus))
  if not is_there:
    if records is None:
      raise FileNotFoundError(
        f'{corpus} is no corpus, and none of {", ".join(map(str, folders))} '
        f'has a {BLOCK_RECORDS} to make it of. Make it with: realm-jax prepare '
        'BLOCKS.tfr --vocab VOCAB.'
      )
    prepare(
      [str(records)],
      corpus,
      vocab=str(foreign.vocab),
      entities=entities,
      console=console,
    )
  opened = Corpus.open(corpus)
  opened.check_vocabulary(
    WordPiece.from_vocab_file(foreign.vocab), str(foreign.vocab)
  )
  _check_shape(foreign, opened.num_blocks, corpus)
  if is_there and records is not None:
    _compare_blocks(opened, records)
  elif is_there:
    console.print(
      f'There is no {BLOCK_RECORDS} beside the model: that the blocks of '
      f'{corpus} are those of its embeddings, one by one, was not checked.'
    )
  return opened


def _check_shape(foreign: ForeignModel, num_blocks: int, source: str) -> None:
  """Raises UserError unless there is an embedding for each block."""
  assert foreign.block_embeds is not None
  shape = foreign.block_embeds.shape(BLOCK_EMBEDS)
  expected = num_blocks, foreign.config.embed_dim
  if shape != expected:
    raise UserError(
      f'{foreign.block_embeds.folder} has block embeddings {list(shape)}, '
      f'expected {list(expected)}: a row for each block of {source}, as long '
      "as the embedder's vectors."
    )


def _compare_blocks(corpus: Corpus, records: Path) -> None:
  """Raises UserError if the first blocks of a corpus are not those of a file.

  Texts are compared, not checksums: the same blocks come as TFRecords, too.
  """
  texts = itertools.islice(read_block_records(records), _NUM_COMPARED)
  for block_id, text in enumerate(texts):
    if corpus.text(block_id) != text:
      raise UserError(
        f'Block {block_id} of corpus {corpus.folder} is not that of {records}: '
        'the block embeddings belong to other texts. Name a new folder, to '
        'have it made, or the corpus that was made of this file.'
      )


def _save_block_embeds(
  run: RunFolder, foreign: ForeignModel, corpus: Corpus, console: Console
) -> None:
  """Copies block embeddings to the run, some rows at a time."""
  files = foreign.block_embeds
  assert files is not None

  def parts() -> Iterator[np.ndarray]:
    for start in track(
      range(0, corpus.num_blocks, _ROWS),
      'copying block embeddings',
      console=console,
      transient=True,
    ):
      yield files.read(BLOCK_EMBEDS, slice(start, start + _ROWS))

  shape = (corpus.num_blocks, foreign.config.embed_dim)
  folder = make_folder(index_folder(run.path, corpus.fingerprint))
  write_shard(folder, 0, 1, parts(), shape, 'float32')
  # Theirs may be of other parameters than those beside them.
  snapshot = Snapshot(None, corpus_fingerprint=corpus.fingerprint)
  finish_snapshot(folder, snapshot, shape, 'float32')


def export_checkpoint(
  kind: str, run: str, out: str, *, console: Console | None = None
) -> list[Path]:
  """Writes the parameters of a run as another program reads them.

  Parts that were never trained are left out.

  Args:
    kind: 'hf-realm': a folder for each class of transformers; see
      checkpoints.hf_export.write_hf_realm.
    run: folder of a finished run.
    out: folder to write to, empty or new.
    console: where to print; None for the terminal.

  Returns:
    The folders written.

  Raises:
    FileNotFoundError: there is no such run.
    UserError: kind is unknown, out is not empty, or nothing was trained.
  """
  if kind not in EXPORTS:
    raise UserError(
      f'kind of checkpoint is {kind!r}, expected one of {", ".join(EXPORTS)}.'
    )
  _check_empty(Path(out))
  loaded = load_run(run)
  lengths = loaded.settings.get('lengths')
  folders, left_out = write_hf_realm(
    out,
    loaded.model,
    loaded.params,
    loaded.wordpiece,
    loaded.untrained,
    Lengths(**lengths) if lengths else None,
  )
  if not folders:
    raise UserError(
      f'Run {run} has no trained part: there is nothing to write.'
    )
  console = console or Console()
  for folder in folders:
    console.print(f'Wrote {folder}')
  if left_out:
    console.print(
      f'Left out, for it was never trained: {", ".join(left_out)}. Imported, '
      'the others are the run again but for that, which is made anew.'
    )
  else:
    console.print('All of them, imported, are the run again.')
  return folders


def _check_empty(out: Path) -> None:
  """Raises UserError if a folder to write to holds anything."""
  found = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
  if found:
    raise UserError(
      f'{out} holds {", ".join(found[:3])}. Give an empty or a new folder; '
      'what a stopped export has left must be deleted.'
    )
