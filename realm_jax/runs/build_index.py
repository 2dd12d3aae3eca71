"""Embed all blocks of a corpus with a run's final parameters."""

from rich.console import Console
from rich.progress import Progress

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.eval.system import run_snapshot
from realm_jax.index.snapshot import Snapshot
from realm_jax.sharding import MeshConfig, make_layout
from realm_jax.train.run_folder import load_run


def build_index(
  run: str,
  *,
  corpus: str | None = None,
  mesh: MeshConfig | None = None,
  console: Console | None = None,
) -> Snapshot:
  """Makes the snapshot that evaluating and asking search.

  They make it themselves where it is missing; this does it ahead of time. Of a
  corpus that shares blocks with others of the run, such as an edited one, only
  the new blocks are embedded; the last line says how many.

  Args:
    run: folder of a finished run; the snapshot is kept there.
    corpus: folder of the corpus; None for the run's.
    mesh: devices that embed; None for one.
    console: where to print; None for the terminal.

  Returns:
    The snapshot.
  """
  console = console or Console()
  loaded = load_run(run)
  opened = Corpus.open(corpus or loaded.corpus_folder)
  loaded.check_vocabulary(opened)
  layout = make_layout(mesh, loaded.model)
  with Progress(console=console) as progress:
    task = progress.add_task('embedding blocks', total=opened.num_blocks)
    snapshot, num_embedded = run_snapshot(
      loaded,
      opened,
      Lengths(**loaded.settings['lengths']),
      lambda num_done: progress.update(task, completed=num_done),
      layout,
    )
    progress.update(task, completed=opened.num_blocks)
  console.print(
    f'{opened.num_blocks:,} blocks of {opened.folder} under {run}, step '
    f'{snapshot.index_step}.'
  )
  console.print(
    f'Embedded {num_embedded:,}, reused {opened.num_blocks - num_embedded:,}.'
  )
  return snapshot
