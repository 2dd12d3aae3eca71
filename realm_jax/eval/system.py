"""A run, its corpus and its index: what evaluating and asking start from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.refresh.throughput import Throughput
from realm_jax.sharding import Layout
from realm_jax.train.run_folder import (
  LoadedRun,
  index_folder,
  known_snapshots,
  load_run,
)


@dataclass(frozen=True)
class System:
  """A run that is ready to answer.

  Attributes:
    run: the run.
    corpus: what it searches.
    lengths: as it was trained.
    retriever: with its index.
  """

  run: LoadedRun
  corpus: Corpus
  lengths: Lengths
  retriever: Retriever


def open_system(
  run: str, corpus: str | None = None, index: IndexConfig | None = None
) -> System:
  """Opens a finished run with its corpus.

  Its snapshot is made of its final parameters and kept in the run's folder; a
  closed-book run has none.

  Args:
    run: folder of a finished run.
    corpus: folder of the corpus; None for the one it was trained on.
    index: what to search with.

  Raises:
    FileNotFoundError: no such run or corpus.
    UserError: the corpus has another vocabulary than the run, or is not the
      one it was trained on though none was given.
  """
  loaded = load_run(run)
  opened = Corpus.open(corpus) if corpus else _own_corpus(loaded)
  loaded.check_vocabulary(opened)
  lengths = Lengths(**loaded.settings['lengths'])
  snapshot = None
  if loaded.stage != 'closed_book':
    snapshot, _ = run_snapshot(loaded, opened, lengths)
  retriever = Retriever(
    make_embed(loaded.model, Realm.embed_queries),
    opened,
    lengths,
    index,
    snapshot,
  )
  return System(loaded, opened, lengths, retriever)


def _own_corpus(run: LoadedRun) -> Corpus:
  """The corpus that a run was trained on, if it is still there."""
  if not run.corpus_folder:
    raise UserError(
      f'Run {run.path} was imported and has no corpus of its own. Give one '
      'with --corpus.'
    )
  if not Path(run.corpus_folder).is_dir():
    raise FileNotFoundError(
      f'The corpus of run {run.path} was at {run.corpus_folder}, which does '
      'not exist any more. Give the folder where it lies now with --corpus.'
    )
  corpus = Corpus.open(run.corpus_folder)
  if corpus.fingerprint != run.corpus_fingerprint:
    raise UserError(
      f'Corpus {corpus.folder} is not the one that run {run.path} was trained '
      f'on: its fingerprint is {corpus.fingerprint[:12]}, expected '
      f'{run.corpus_fingerprint[:12]}. To search it all the same, name it with '
      '--corpus.'
    )
  return corpus


def run_snapshot(
  run: LoadedRun,
  corpus: Corpus,
  lengths: Lengths,
  on_progress: Callable[[int], None] = lambda num_done: None,
  layout: Layout | None = None,
) -> tuple[Snapshot, Throughput]:
  """The embeddings of a corpus under a run's final parameters.

  Made once for each corpus, and kept in the run's folder. Blocks that another
  corpus has as well are embedded once.

  Args:
    run: whose parameters embed.
    corpus: its blocks.
    lengths: document_len and multiple are used.
    on_progress: called with the number of blocks done so far.
    layout: of the devices that embed; None for one.

  Returns:
    The snapshot, and what was embedded for it, how fast.
  """
  folder = index_folder(run.path, corpus.fingerprint)
  maker = SnapshotMaker(
    make_embed(run.model, Realm.embed_documents, layout),
    corpus,
    lengths,
    on_progress,
    known_snapshots(run.path),
    layout,
  )
  snapshot, _ = maker.snapshot(folder, run.params, run.num_steps)
  return snapshot, maker.throughput
