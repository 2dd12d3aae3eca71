"""Checkpoints of other programs -> runs, and runs -> theirs."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
from rich.console import Console

from realm_jax.checkpoints.hf_export import write_hf_realm
from realm_jax.checkpoints.hf_realm import read_hf_realm
from realm_jax.data.examples import Lengths
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.folders import is_whole
from realm_jax.models.bert_weights import encoder_config_from, load_bert
from realm_jax.models.realm import RealmConfig, init_params
from realm_jax.train.run_folder import NoCorpus, RunFolder, load_run

IMPORTS = ('bert', 'hf-realm')
EXPORTS = ('hf-realm',)


def import_checkpoint(
  kind: str,
  paths: Sequence[str],
  out: str,
  *,
  model: RealmConfig | None = None,
  lengths: Lengths | None = None,
  seed: int = 0,
) -> str:
  """Makes a finished run of a checkpoint: the `--init` of any stage.

  Args:
    kind: 'bert', one folder of BERT's weights with vocab.txt; or 'hf-realm',
      folders of Hugging Face REALM models: an embedder and an encoder to
      pre-train or fine-tune, an embedder and a reader to answer; or all that
      `export` wrote.
    paths: the folders.
    out: the run's folder.
    model: with 'bert', sizes of what BERT does not have.
    lengths: sequence lengths that a later stage or evaluation uses.
    seed: of parameters that the checkpoint does not have.

  Returns:
    out.

  Raises:
    FileNotFoundError: a folder or file is missing.
    UserError: the checkpoint is damaged, of another kind, or does not fit.
  """
  if kind == 'hf-realm':
    config, params, wordpiece = read_hf_realm(paths, seed)
  elif kind == 'bert':
    if len(paths) != 1:
      raise UserError(f'bert takes one folder, {len(paths)} are given.')
    (path,) = paths
    config = dataclasses.replace(
      model or RealmConfig(), encoder=encoder_config_from(path)
    )
    wordpiece = WordPiece.from_vocab_file(Path(path) / 'vocab.txt')
    params = init_params(config, jax.random.key(seed))
    params = load_bert(path, config, params, wordpiece=wordpiece)
  else:
    raise UserError(
      f'kind of checkpoint is {kind!r}, expected one of {", ".join(IMPORTS)}.'
    )
  run = RunFolder(
    out,
    'imported',
    config,
    NoCorpus(wordpiece),
    {'kind': kind, 'lengths': lengths or Lengths(), 'seed': seed},
  )
  if run.finished:
    raise UserError(
      f'{out} is a finished run. Give another folder, or delete this one.'
    )
  run.finish(params, num_steps=0)
  return out


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
