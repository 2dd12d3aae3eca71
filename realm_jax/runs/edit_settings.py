"""What an edited corpus is made of, and how its new blocks are made."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from realm_jax.data.corpus import Corpus
from realm_jax.data.packing import ENTITIES, check_entities, make_tagger
from realm_jax.data.sources import identify_source
from realm_jax.errors import USER_ERRORS, UserError
from realm_jax.folders import identify_file

# Settings that are of the corpus, not of how articles become blocks.
_NOT_OF_BLOCKS = (
  'sources', 'since', 'vocab', 'vocab_size', 'vocab_sample_chars', 'entities',
  'edited_from', 'removed',
)  # fmt: skip


def how_blocks_are_made(parent: Corpus, entities: str | None) -> dict[str, Any]:
  """Arguments of prepare that make blocks as those of a corpus were made.

  Args:
    parent: the corpus.
    entities: where its tagger is; see edit.

  Raises:
    UserError: its manifest does not say it, or the tagger cannot be had.
  """
  settings = parent.manifest.get('settings') or {}
  if 'block_len' not in settings or 'entities' not in settings:
    raise UserError(
      f'The manifest of corpus {parent.folder} does not say how its blocks '
      'were made (block_len and entities), so that none can be added. Prepare '
      'it again.'
    )
  how = {k: v for k, v in settings.items() if k not in _NOT_OF_BLOCKS}
  made_with = settings['entities']
  who = f'The entities of corpus {parent.folder} were found by {made_with}'
  return {**how, 'entities': _find_tagger(made_with, entities, who)}


def _find_tagger(made_with: str, entities: str | None, who: str) -> str:
  """What make_tagger calls a tagger of some name; who begins the messages."""
  known = made_with.partition(' ')[0]
  if entities is None and known not in ENTITIES:
    raise UserError(
      f'{who}, and the manifest does not say where that lies. Say it with '
      '--entities: hf: and its folder or name.'
    )
  entities = entities or known
  check_entities(entities)
  try:
    tagger = make_tagger(entities)
  except USER_ERRORS as error:
    raise UserError(
      f'{who}, which is needed to add documents and cannot be had here: {error}'
    ) from error
  if (name := tagger.name if tagger else 'none') != made_with:
    raise UserError(
      f'{who}, but {entities} is {name} here: expected the same, or salient '
      'spans would differ between old and new blocks. Install that one, or '
      'prepare the corpus again.'
    )
  return entities


def edited_settings(
  parent: Corpus, add: Sequence[str], remove: str | None, since: str | None
) -> dict[str, Any]:
  """What an edited corpus is made of, for its manifest.

  Args:
    parent: the corpus it is made of.
    add: sources of what is added.
    remove: file of titles; None for none.
    since: the new stamp; None for the old one, unless something is added, which
      may be younger than that.
  """
  of_parent = parent.manifest.get('settings') or {}
  not_taken = 'since', 'removed', 'edited_from'
  settings = {k: v for k, v in of_parent.items() if k not in not_taken}
  sources = [identify_source(source) for source in add]
  settings['sources'] = [*settings.get('sources', []), *sources]
  settings['edited_from'] = parent.fingerprint
  if remove:
    settings['removed'] = identify_file(Path(remove))
  if since or (not add and (since := of_parent.get('since'))):
    settings['since'] = since
  return settings
