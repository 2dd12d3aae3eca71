"""Checkpoints of other programs -> runs, and runs -> theirs."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from realm_jax.checkpoints.hf_export import write_hf_realm
from realm_jax.checkpoints.hf_realm import read_hf_realm
from realm_jax.checkpoints.hub import local_path
from realm_jax.checkpoints.official import read_official
from realm_jax.checkpoints.realm_parts import ForeignModel
from realm_jax.checkpoints.tf_checkpoint import BLOCK_EMBEDS
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.index.snapshot import write_snapshot
from realm_jax.models.bert_weights import (
  encoder_config_from,
  find_vocab,
  load_bert,
)
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params
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
    lengths: sequence lengths that evaluating and asking use.
    seed: of parameters that the checkpoint does not have.
    console: where to print; None for the terminal.

  Returns:
    out.

  Raises:
    FileNotFoundError: a folder or file is missing.
    ImportError: TensorFlow is needed and not installed.
    UserError: the checkpoint is damaged, of another kind, or does not fit.
  """
  console = console or Console()
  folders = [local_path(path) for path in paths]
  if kind == 'hf-realm':
    foreign = read_hf_realm(folders, vocab, seed)
  elif kind == 'official':
    foreign = read_official(folders, vocab, num_heads, seed)
  elif kind == 'bert':
    foreign = _read_bert(folders, vocab, num_heads, model, seed)
  else:
    raise UserError(
      f'kind of checkpoint is {kind!r}, expected one of {", ".join(IMPORTS)}.'
    )
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
      'lengths': lengths or _lengths_for(foreign.config.encoder),
      'made_anew': foreign.made_anew,
      'seed': seed,
    },
  )
  if run.finished:
    raise UserError(
      f'{out} is a finished run. Give another folder, or delete this one.'
    )
  if isinstance(searched, Corpus):
    _save_block_embeds(run, foreign, searched, console)
  run.finish(foreign.params, num_steps=0)
  console.print(f'Run {out} is ready: it serves as --init and --run.')
  return out


def _lengths_for(encoder: EncoderConfig) -> Lengths:
  """The paper's lengths, or what an encoder with few positions can read."""
  lengths = Lengths()
  if lengths.joint_len <= encoder.max_positions:
    return lengths
  query_len = encoder.max_positions // 3
  return Lengths(query_len, encoder.max_positions - query_len)


def _read_bert(
  folders: Sequence[Path],
  vocab: str | None,
  num_heads: int | None,
  model: RealmConfig | None,
  seed: int,
) -> ForeignModel:
  if len(folders) != 1:
    raise UserError(f'bert takes one folder, {len(folders)} are given.')
  (folder,) = folders
  config = dataclasses.replace(
    model or RealmConfig(), encoder=encoder_config_from(folder, num_heads)
  )
  vocab_file = Path(vocab) if vocab else find_vocab(folder)
  if vocab_file is None:
    raise FileNotFoundError(
      f'{folder} has no vocab.txt. Name one with --vocab.'
    )
  params = load_bert(
    folder,
    config,
    init_params(config, jax.random.key(seed)),
    wordpiece=WordPiece.from_vocab_file(vocab_file),
  )
  # Of a BERT the span head, without which nothing is answered, is always new.
  return ForeignModel(config, params, vocab_file, ('reader/span_head',))


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
  if not is_whole(Path(corpus)):
    found = [path for path in folders if (path / BLOCK_RECORDS).is_file()]
    if not found:
      raise FileNotFoundError(
        f'{corpus} is no corpus, and none of {", ".join(map(str, folders))} '
        f'has a {BLOCK_RECORDS} to make it of. Make it with: realm-jax prepare '
        'BLOCKS.tfr --vocab VOCAB.'
      )
    prepare(
      [str(found[0] / BLOCK_RECORDS)],
      corpus,
      vocab=str(foreign.vocab),
      entities=entities,
      console=console,
    )
  opened = Corpus.open(corpus)
  opened.check_vocabulary(
    WordPiece.from_vocab_file(foreign.vocab), str(foreign.vocab)
  )
  shape = foreign.block_embeds.shape(BLOCK_EMBEDS)
  expected = opened.num_blocks, foreign.config.embed_dim
  if shape != expected:
    raise UserError(
      f'{foreign.block_embeds.folder} has block embeddings {list(shape)}, '
      f'expected {list(expected)}: a row for each block of {corpus}, as long '
      "as the embedder's vectors."
    )
  return opened


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

  write_snapshot(
    index_folder(run.path, corpus.fingerprint),
    parts(),
    (corpus.num_blocks, foreign.config.embed_dim),
    index_step=0,
    corpus_fingerprint=corpus.fingerprint,
  )


def export_checkpoint(
  kind: str, run: str, out: str, *, console: Console | None = None
) -> list[Path]:
  """Writes the parameters of a run as another program reads them.

  Args:
    kind: 'hf-realm': a folder for each class of transformers; see
      checkpoints.hf_export.write_hf_realm.
    run: folder of a finished run.
    out: folder to write to.
    console: where to print; None for the terminal.

  Returns:
    The folders written.
  """
  if kind not in EXPORTS:
    raise UserError(
      f'kind of checkpoint is {kind!r}, expected one of {", ".join(EXPORTS)}.'
    )
  if is_whole(Path(out)):
    raise UserError(f'{out} holds something else. Give another folder.')
  loaded = load_run(run)
  folders = write_hf_realm(out, loaded.model, loaded.params, loaded.wordpiece)
  console = console or Console()
  for folder in folders:
    console.print(f'Wrote {folder}')
  console.print('All of them, imported, are the run again.')
  return folders
