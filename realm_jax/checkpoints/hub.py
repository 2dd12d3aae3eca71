"""Repositories of the Hugging Face hub as folders."""

import re
from collections.abc import Sequence
from pathlib import Path

from realm_jax.errors import UserError

_NAME = re.compile(r'[\w-][\w.-]*/[\w-][\w.-]*')
_BESIDE = (
  'config.json',
  'vocab.txt',
  'model.safetensors.index.json',
  'pytorch_model.bin.index.json',
)
_WEIGHTS = ('*.safetensors', 'pytorch_model*.bin')


def local_path(path_or_name: str, also: Sequence[str] = ()) -> Path:
  """A path as it is; of the name of a repository, the downloaded folder.

  Only tensors, configuration and texts are downloaded, to the cache of the
  huggingface_hub library; with no network, what lies there already serves.

  Args:
    path_or_name: a path; or an owner and a name, such as
      google-bert/bert-base-uncased, where neither is a folder here.
    also: names of further files to download, where there are such.

  Raises:
    UserError: there is no such repository, it has no weights that are read
      here, or it cannot be reached.
  """
  path = Path(path_or_name)
  if path.parent.exists() or not _NAME.fullmatch(path_or_name):
    return path
  import huggingface_hub
  from huggingface_hub import errors

  try:
    for weights in _WEIGHTS:  # of repositories with both, the first
      folder = Path(
        huggingface_hub.snapshot_download(
          path_or_name, allow_patterns=[*_BESIDE, *also, weights]
        )
      )
      if any(folder.glob(weights)):
        return folder
  except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError) as error:
    raise UserError(
      f'{path_or_name} is no folder here, and could not be had from the '
      f'Hugging Face hub: {str(error).splitlines()[0]}'
    ) from error
  raise UserError(
    f'{path_or_name} on the Hugging Face hub has neither '
    f'{" nor ".join(_WEIGHTS)}.'
  )
