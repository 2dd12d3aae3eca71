"""Corpus -> corpus: documents removed, replaced and added."""

import shutil
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from realm_jax.data.corpus import KIND, MADE_BY, VOCAB, Corpus
from realm_jax.data.corpus_edit import (
  Choice,
  choose_blocks,
  copied_chunks,
  missing_titles,
  read_titles,
)
from realm_jax.data.corpus_writer import CorpusWriter, check_unfinished
from realm_jax.data.editions import (
  REVISED,
  check_since,
  describe_edition,
  edition_text,
  edition_warning,
)
from realm_jax.errors import UserError
from realm_jax.folders import (
  is_whole,
  make_folder,
  read_json,
  read_manifest,
  write_json,
)
from realm_jax.runs.edit_settings import edited_settings, how_blocks_are_made
from realm_jax.runs.prepare import prepare

_WORK = 'unfinished-edit'  # in out, until the corpus is whole
_MADE_OF = 'made_of.json'
_ADDED = 'added'
# Of these a corpus has as many as all that was read for it gave, kept or not:
# it is not known which articles they are of.
_CUT = {
  'num_sentences_cut': 'sentences cut',
  'num_titles_cut': 'titles cut',
  'num_short_blocks': 'short blocks',
}


def edit(
  corpus: str,
  out: str,
  *,
  add: Sequence[str] = (),
  remove: str | None = None,
  ignore_missing: bool = False,
  entities: str | None = None,
  since: str | None = None,
  workers: int | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Makes a corpus of another one, which is left as it is.

  Blocks of articles that stay are the same, in the same order, and are neither
  encoded nor tagged again; new articles follow them, made into blocks as those
  were. A new article replaces those that have its title: all of them, if there
  are several. Articles without a title replace none and are never removed. A
  new article that gives no block replaces nothing either.

  Stopped before its end it leaves a folder without a manifest; called again it
  goes on. A folder already made of the same is left as it is.

  Args:
    corpus: folder of the corpus.
    out: folder of the new one.
    add: files of articles, as prepare reads them.
    remove: a file of titles, one a line, UTF-8.
    ignore_missing: titles to remove that no article has are counted; else they
      are an error.
    entities: where the tagger is with which the corpus was made, if it was a
      token classifier: hf: and its folder or name. None elsewhere.
    since: stamp of the new edition; see prepare. None for the corpus's own
      where nothing is added, and for none where something is.
    workers: processes that make blocks of what is added; see prepare.
    console: where to print; None for the terminal.

  Returns:
    The manifest. num_articles_edited and num_blocks_edited count what was
    'kept', 'removed' and 'replaced', together the old corpus; and 'added', with
    what was kept the new one.

  Raises:
    FileNotFoundError: there is no such corpus, source or file of titles.
    UserError: there is nothing to do, a title is missing, nothing would be
      left, the tagger cannot be had, a file is damaged, or out is the corpus or
      holds something else.
  """
  console = console or Console()
  started = time.monotonic()
  if isinstance(add, str):
    raise UserError(f'add is {add!r}, expected a list of files.')
  if not add and not remove:
    raise UserError(
      'There is nothing to do: expected documents to add (--add), a file of '
      'titles to remove (--remove), or both.'
    )
  parent, folder = Corpus.open(corpus), Path(out)
  _check_place(folder, parent)
  how = how_blocks_are_made(parent, entities) if add else {}
  titles = read_titles(remove) if remove else []
  settings = edited_settings(parent, add, remove, check_since(since))
  if is_whole(folder):
    return _already_made(folder, settings, console)
  missing = missing_titles(parent, titles)
  if missing and not ignore_missing:
    raise UserError(
      f'{remove} names {_some(missing)}, which no article of corpus '
      f'{parent.folder} is called: expected titles of the corpus, one a line. '
      'Correct them, or pass over them with --ignore-missing.'
    )
  added = None
  if add:
    where = _work_folder(folder, settings) / _ADDED
    how = {**how, 'vocab': str(parent.folder / VOCAB), 'workers': workers}
    prepare(add, str(where), console=console, **how)
    added = _open_added(where, parent)
  choice = choose_blocks(parent, titles, added)
  if not choice.num_blocks['kept'] and added is None:
    raise UserError(
      f'{remove} names every article of corpus {parent.folder}: nothing would '
      'be left. Expected at least one article that stays, or --add.'
    )
  manifest = _write(parent, choice, added, folder, settings, console)
  shutil.rmtree(folder / _WORK, ignore_errors=True)
  _print_summary(manifest, parent, missing, console)
  console.print(f'{time.monotonic() - started:.1f} s')
  return manifest


def _check_place(folder: Path, parent: Corpus) -> None:
  """Raises UserError if a folder is none to write the new corpus to."""
  if folder.resolve().is_relative_to(parent.folder.resolve()):
    raise UserError(
      f'out is {folder}, the corpus itself or a folder in it, which are left '
      'as they are. Give a new folder.'
    )
  if not is_whole(folder):
    check_unfinished(folder, also=_WORK)


def _already_made(
  folder: Path, settings: dict[str, Any], console: Console
) -> dict[str, Any]:
  manifest = read_manifest(folder, KIND, MADE_BY)
  if (found := manifest.get('settings', {})) != settings:
    names = sorted({*found, *settings})
    other = [n for n in names if found.get(n) != settings.get(n)]
    raise UserError(
      f'{folder} is a corpus that was made of something else: it differs in '
      f'{", ".join(other)}. Give another folder, or delete this one.'
    )
  shutil.rmtree(folder / _WORK, ignore_errors=True)
  console.print(
    f'Corpus {folder} is already there: {manifest["num_blocks"]:,} blocks, '
    'edited from the same corpus in the same way.'
  )
  return manifest


def _work_folder(folder: Path, settings: dict[str, Any]) -> Path:
  """Where a stopped edit left what it had, if it was the same edit."""
  work = make_folder(folder) / _WORK
  path = work / _MADE_OF
  if not path.is_file() or read_json(path) != settings:
    shutil.rmtree(work, ignore_errors=True)
    write_json(make_folder(work) / _MADE_OF, settings)
  return work


def _open_added(folder: Path, parent: Corpus) -> Corpus:
  added = Corpus.open(folder)
  kinds = parent.manifest['span_kinds']
  if added.manifest['span_kinds'] != kinds:
    raise UserError(
      f'The spans of corpus {parent.folder} are of the kinds '
      f'{", ".join(kinds)}, those of new documents '
      f'{", ".join(added.manifest["span_kinds"])}: an earlier version of this '
      'program made it. Prepare it again.'
    )
  return added


def _write(
  parent: Corpus,
  choice: Choice,
  added: Corpus | None,
  folder: Path,
  settings: dict[str, Any],
  console: Console,
) -> dict[str, Any]:
  kinds = parent.manifest['span_kinds']
  writer = CorpusWriter(folder, parent.wordpiece, kinds, settings=settings)
  parts = [(parent, choice)]
  if added is not None:
    parts.append((added, choose_blocks(added)))
  total = sum(part.num_blocks['kept'] for _, part in parts)
  if writer.num_blocks:
    console.print(
      f'Corpus {folder} goes on after its first {writer.num_blocks:,} blocks.'
    )
  with Progress(console=console, transient=True) as progress:
    task = progress.add_task('checking the old corpus', total=None)
    Corpus.open(parent.folder, verify=True)
    progress.update(task, description='copying blocks', total=total)
    num_done = writer.cursor or 0
    chunks = copied_chunks(parts, num_done)
    for number, chunk in enumerate(chunks, num_done + 1):
      writer.add(chunk, number)
      progress.update(task, completed=writer.num_blocks)
    progress.update(task, description='closing the corpus')
    return _finish(writer, parts, choice, settings)


def _finish(
  writer: CorpusWriter,
  parts: Sequence[tuple[Corpus, Choice]],
  choice: Choice,
  settings: dict[str, Any],
) -> dict[str, Any]:
  manifests = [part.manifest for part, _ in parts]
  for name, counted in _CUT.items():
    writer.counts[counted] = sum(m.get(name, 0) for m in manifests)
  skipped: Counter[str] = Counter()
  days: Counter[str] = Counter()
  for manifest in manifests:
    skipped.update(manifest.get('num_skipped') or {})
    edition = manifest.get('edition') or {}
    for name in ('oldest_revision', 'newest_revision'):
      if day := edition.get(name):
        days[REVISED + day] += 1
  names = 'kept', 'removed', 'replaced'
  added = [part for _, part in parts[1:]]
  return writer.finish(
    settings=settings,
    edition=describe_edition(settings.get('since'), days),
    num_skipped=dict(sorted(skipped.items())),
    edited_from=settings['edited_from'],
    num_articles_edited={
      **{name: choice.num_articles[name] for name in names},
      'added': sum(part.num_articles['kept'] for part in added),
    },
    num_blocks_edited={
      **{name: choice.num_blocks[name] for name in names},
      'added': sum(part.num_blocks['kept'] for part in added),
    },
  )


def _some(titles: Sequence[str]) -> str:
  """The first of some titles, and how many there are."""
  shown = ', '.join(map(repr, titles[:5]))
  more = len(titles) - 5
  return f'{shown} and {more:,} more' if more > 0 else shown


def _print_summary(
  manifest: dict[str, Any],
  parent: Corpus,
  missing: Sequence[str],
  console: Console,
) -> None:
  table = Table('', 'articles', 'blocks', title=f'Edited from {parent.folder}')
  articles = manifest['num_articles_edited']
  for name, num_blocks in manifest['num_blocks_edited'].items():
    table.add_row(name, f'{articles[name]:,}', f'{num_blocks:,}')
  table.add_section()
  num_blocks = manifest['num_blocks']
  table.add_row('corpus', f'{manifest["num_articles"]:,}', f'{num_blocks:,}')
  console.print(table)
  if missing:
    line = f'Not in the corpus, and passed over: {_some(missing)}.'
    console.print(line, markup=False)
  stamp = (parent.manifest.get('edition') or {}).get('since')
  if stamp and not manifest['edition']['since']:
    console.print(
      f'The stamp of the old corpus, since {stamp}, says nothing of what was '
      'added and is left out: --since gives the new one.'
    )
  console.print(
    f'Edition: {edition_text(manifest)}. Fingerprint: '
    f'{manifest["fingerprint"][:16]}.'
  )
  if warning := edition_warning(manifest['edition']):
    console.print(f'[bold yellow]Warning:[/] {warning}')
