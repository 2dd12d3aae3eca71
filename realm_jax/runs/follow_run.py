"""The separate index builder: embed what a training run publishes."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from realm_jax import hosts
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm
from realm_jax.refresh.follow import follow, only_builder, wait_for_config
from realm_jax.refresh.publishing import Published, load_published
from realm_jax.refresh.schedule import SeparateProcess, parse_schedule
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.runs.block_progress import block_progress
from realm_jax.runs.embedding_report import (
  embedding_report,
  stoppable,
)
from realm_jax.sharding import MeshConfig, make_layout
from realm_jax.train.run_folder import model_of


def follow_run(
  run: str,
  *,
  corpus: str | None = None,
  mesh: MeshConfig | None = None,
  console: Console | None = None,
) -> None:
  """Embeds the newest published parameters of a run until it has finished.

  The run may not have started yet. May be stopped and started at any time.

  Args:
    run: folder of a run of pretrain or finetune that publishes its parameters.
    corpus: where the run's corpus lies here; None for where the run has it.
    mesh: devices that embed; None for one.
    console: where to print; None for the terminal.

  Raises:
    UserError: this is no run, or one that publishes nothing; the corpus is
      another; another builder follows the run; there are several processes.
  """
  if hosts.are_several():
    raise UserError(
      f'--follow is run by {hosts.name()}, expected a single one. Start it on '
      'one host, without --hosts or --coordinator; it embeds on all devices of '
      'that.'
    )
  console = console or Console()
  folder = Path(run)

  def tell(line: str) -> None:
    now = datetime.now().strftime('%H:%M:%S')
    console.print(f'{now} {line}', highlight=False, soft_wrap=True)

  with stoppable():
    config = wait_for_config(folder, tell)
    check_publishes(run, config)
    opened = open_corpus(run, config, corpus)
    with only_builder(folder):
      tell(f'Following {run}, {opened.num_blocks:,} blocks of {opened.folder}.')
      follow(folder, _Builder(config, opened, mesh, console), tell)


class _Builder:
  """build(published, folder), as refresh.follow calls it."""

  def __init__(
    self,
    config: dict[str, Any],
    corpus: Corpus,
    mesh: MeshConfig | None,
    console: Console,
  ):
    self._model = model_of(config)
    layout = make_layout(mesh, self._model)
    self._num_devices = layout.mesh.size if layout else 1
    self._num_blocks = corpus.num_blocks
    self._console = console
    self._show: Callable[[int], None] = lambda num_done: None
    self._maker = SnapshotMaker(
      make_embed(self._model, Realm.embed_documents, layout),
      corpus,
      Lengths(**config['settings']['lengths']),
      lambda num_done: self._show(num_done),
      layout=layout,
    )

  def __call__(self, published: Published, folder: Path) -> str:
    params = load_published(published.folder, self._model)
    with block_progress(
      self._console, 'embedding blocks', self._num_blocks
    ) as self._show:
      self._maker.snapshot(folder, params, published.step)
    throughput = self._maker.throughput
    return embedding_report(throughput, self._model, self._num_devices)


# Stages that can have refresh separate_process.
_PUBLISHING = ('pretrain', 'finetune')


def check_publishes(run: str, config: dict[str, Any]) -> None:
  """Raises UserError if a run leaves nothing for a builder to embed."""
  if config['stage'] not in _PUBLISHING:
    raise UserError(
      f'Run {run} is one of {config["stage"]}, expected one of '
      f'{" or ".join(_PUBLISHING)}: only these publish parameters while they '
      'train. Embed the blocks of a '
      'finished run with: realm-jax build-index --run RUN'
    )
  refresh = config['settings']['config'].get('refresh', 'off')
  if not isinstance(parse_schedule(refresh), SeparateProcess):
    raise UserError(
      f'Run {run} has refresh {refresh!r}, expected '
      "'separate_process(every=500, at_most_late=500)': as it is, it publishes "
      'no parameters and needs no builder. Set PretrainConfig.refresh, or '
      'FinetuneConfig.refresh, when starting it.'
    )


def open_corpus(run: str, config: dict[str, Any], corpus: str | None) -> Corpus:
  """The corpus of a run, wherever it lies; raises UserError for another."""
  folder = corpus or config['corpus']['folder']
  if not Path(folder).is_dir():
    raise FileNotFoundError(
      f'The corpus of run {run} is not at {folder}. Give the folder where it '
      'lies here with --corpus.'
    )
  opened = Corpus.open(folder)
  expected = config['corpus']['fingerprint']
  if opened.fingerprint != expected:
    raise UserError(
      f'Corpus {opened.folder} has fingerprint {opened.fingerprint[:12]}, but '
      f'run {run} trains on one with {expected[:12]}: its blocks or its '
      'vocabulary differ. Give the folder of that one with --corpus.'
    )
  return opened
