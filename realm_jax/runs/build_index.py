"""Embed all blocks of a corpus, with a finished run or along with one."""

from rich.console import Console

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.eval.system import run_snapshot
from realm_jax.index.snapshot import Snapshot
from realm_jax.runs.block_progress import block_progress
from realm_jax.runs.embedding_report import (
  embedding_report,
  stoppable,
)
from realm_jax.runs.follow_run import follow_run
from realm_jax.sharding import MeshConfig, make_layout
from realm_jax.train.run_folder import load_run


def build_index(
  run: str | None = None,
  *,
  follow: str | None = None,
  corpus: str | None = None,
  mesh: MeshConfig | None = None,
  console: Console | None = None,
) -> Snapshot | None:
  """Makes the snapshot that evaluating and asking search.

  They make it themselves where it is missing; this does it ahead of time. Of a
  corpus that shares blocks with others of the run, such as an edited one, only
  the new blocks are embedded; the last lines say how many, and how fast. When
  it is stopped, the next call goes on.

  Args:
    run: folder of a finished run; the snapshot is kept there.
    follow: folder of a run that trains meanwhile, in place of run: see
      runs.follow_run.
    corpus: folder of the corpus; None for the run's.
    mesh: devices that embed; None for one.
    console: where to print; None for the terminal.

  Returns:
    The snapshot; None after following.

  Raises:
    UserError: both a run and one to follow, or neither.
  """
  if (run is None) == (follow is None):
    raise UserError(
      f'--run is {run!r} and --follow {follow!r}, expected one of them: the '
      'folder of a finished run, or of one that trains meanwhile.'
    )
  console = console or Console(quiet=not hosts.is_first())
  if follow is not None:
    follow_run(follow, corpus=corpus, mesh=mesh, console=console)
    return None
  loaded = load_run(str(run))
  opened = Corpus.open(corpus or loaded.corpus_folder)
  loaded.check_vocabulary(opened)
  layout = make_layout(mesh, loaded.model)
  num_blocks = opened.num_blocks
  with (
    stoppable(),
    block_progress(console, 'embedding blocks', num_blocks) as on_progress,
  ):
    snapshot, throughput = run_snapshot(
      loaded,
      opened,
      Lengths(**loaded.settings['lengths']),
      on_progress,
      layout,
    )
  console.print(
    f'{num_blocks:,} blocks of {opened.folder} under {run}, step '
    f'{snapshot.index_step}.'
  )
  num_embedded = throughput.num_blocks
  console.print(
    f'Embedded {num_embedded:,}, reused {num_blocks - num_embedded:,}.'
  )
  if num_embedded:
    num_devices = layout.mesh.size if layout else 1
    console.print(embedding_report(throughput, loaded.model, num_devices))
  return snapshot
