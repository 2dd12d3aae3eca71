"""The embedded corpus, prepared: what needs no documents of the user's."""

import dataclasses
from pathlib import Path

from rich.console import Console

from realm_jax.almanac import write_almanac
from realm_jax.errors import UserError
from realm_jax.folders import is_whole, read_manifest
from realm_jax.runs.prepare import prepare


@dataclasses.dataclass(frozen=True)
class AlmanacConfig:
  """Which almanac, and how it is cut.

  Attributes:
    num_documents: of the almanac.
    world_seed: of the almanac.
    vocab_size: of the vocabulary trained on it.
    block_len: most wordpieces of a block.
  """

  num_documents: int = 3000
  world_seed: int = 0
  vocab_size: int = 4000
  block_len: int = 64


def prepare_almanac(
  folder: Path, config: AlmanacConfig, console: Console
) -> Path:
  """Writes the almanac and its corpus, where missing.

  Args:
    folder: where 'almanac' and 'corpus' are to lie.
    config: of which size.
    console: what is told of the corpus.

  Returns:
    The almanac's folder.

  Raises:
    UserError: another almanac lies there.
  """
  almanac = folder / 'almanac'
  if not is_whole(almanac):
    write_almanac(almanac, config.world_seed, config.num_documents)
  made = read_manifest(almanac, 'almanac', 'realm-jax almanac')
  found = made['seed'], made['counts']['documents.jsonl']
  if found != (config.world_seed, config.num_documents):
    raise UserError(
      f'{almanac} has seed {found[0]} and {found[1]} documents, expected seed '
      f'{config.world_seed} and {config.num_documents} documents. Give another '
      'folder, or delete this one.'
    )
  prepare(
    [str(almanac / 'documents.jsonl')],
    str(folder / 'corpus'),
    vocab_size=config.vocab_size,
    block_len=config.block_len,
    console=console,
  )
  return almanac
