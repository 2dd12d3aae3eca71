"""Parameters that a training run hands to a separate index builder.

published/00000500/ in the run's folder holds the document embedder of step 500.
The trainer writes it; the builder (refresh.follow) embeds all blocks with it.
They meet nowhere else but in the snapshot that the builder leaves.
"""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from realm_jax.folders import (
  MANIFEST,
  is_whole,
  read_json,
  read_manifest,
  write_manifest,
)
from realm_jax.models.realm import RealmConfig, abstract_params
from realm_jax.refresh.reuse import document_embedder, params_fingerprint
from realm_jax.train.checkpoint import load_params, save_params

_KIND = 'published parameters'
_MADE_BY = 'realm-jax pretrain or finetune, with refresh separate_process'
_FOLDER = 'published'
_PARAMS = 'params'
_PARTIAL = '.partial'


class Published(NamedTuple):
  """Parameters that were published.

  Attributes:
    step: training step that they are of.
    folder: where they lie.
    params_fingerprint: see refresh.reuse.
  """

  step: int
  folder: Path
  params_fingerprint: str


def publish(run: Path, step: int, params: Any) -> str:
  """Writes the document embedder of a step for the index builder.

  It is there as a whole or not at all. Where it is there already, as after a
  restart, nothing is written; other parameters of the same step are replaced.

  Args:
    run: the run's folder.
    step: updates done.
    params: of the model, spread in any way over devices that this process
      reads. Of several processes one alone may publish.

  Returns:
    Their params_fingerprint.

  Raises:
    OSError: they cannot be written; what was begun is gone again.
  """
  fingerprint = params_fingerprint(params)
  folder = run / _FOLDER / f'{step:08d}'
  if is_whole(folder):
    if read_json(folder / MANIFEST)['params_fingerprint'] == fingerprint:
      return fingerprint
    _delete(folder)
  partial = folder.with_name(folder.name + _PARTIAL)
  shutil.rmtree(partial, ignore_errors=True)
  try:
    partial.mkdir(parents=True)
    # On the host: how the trainer spreads them is not the builder's concern.
    embedder = jax.tree.map(np.asarray, document_embedder(params))
    save_params(partial / _PARAMS, embedder)
    files = [path for path in partial.rglob('*') if path.is_file()]
    write_manifest(
      partial,
      _KIND,
      sorted(str(path.relative_to(partial)) for path in files),
      step=step,
      params_fingerprint=fingerprint,
    )
    shutil.rmtree(folder, ignore_errors=True)  # of a deletion that was stopped
    partial.rename(folder)
  except BaseException:
    shutil.rmtree(partial, ignore_errors=True)
    raise
  return fingerprint


def published(run: Path) -> list[Published]:
  """What a run has published and not deleted, the oldest first."""
  found = []
  for folder in sorted((run / _FOLDER).glob('*')):
    if folder.name.isdigit() and is_whole(folder):
      try:
        manifest = read_json(folder / MANIFEST)
      except FileNotFoundError:
        continue  # deleted meanwhile
      found.append(
        Published(int(folder.name), folder, manifest['params_fingerprint'])
      )
  return found


def load_published(folder: Path, model: RealmConfig) -> dict[str, Any]:
  """Reads published parameters: of the document embedder alone, on one device.

  Args:
    folder: of Published.
    model: whose they are.

  Raises:
    FileNotFoundError: they are not there, or not any more.
    UserError: they are damaged.
  """
  read_manifest(folder, _KIND, _MADE_BY, verify=True)
  embedder = document_embedder(abstract_params(model))
  return load_params(folder / _PARAMS, embedder)


def prune_published(run: Path, oldest_needed: int) -> None:
  """Deletes what was published before a step, and what was begun in vain.

  A builder that is reading it goes on to the next.
  """
  for folder in (run / _FOLDER).glob('[0-9]*'):
    number = folder.name.removesuffix(_PARTIAL)
    if number != folder.name or int(number) < oldest_needed:
      _delete(folder)


def _delete(folder: Path) -> None:
  """The manifest first: what is left of it is no whole folder."""
  (folder / MANIFEST).unlink(missing_ok=True)
  shutil.rmtree(folder, ignore_errors=True)
