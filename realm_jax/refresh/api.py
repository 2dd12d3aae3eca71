"""A schedule -> the refresher that keeps it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, RealmConfig
from realm_jax.refresh.refresher import Refresher
from realm_jax.refresh.rolling import RollingRefresher
from realm_jax.refresh.schedule import (
  Rolling,
  SecondMesh,
  SeparateProcess,
  Synchronous,
  parse_schedule,
)
from realm_jax.refresh.second_mesh import SecondMeshRefresher, set_aside
from realm_jax.refresh.separate_process import SeparateProcessRefresher
from realm_jax.refresh.served import Served, ServedLog
from realm_jax.refresh.snapshots import SnapshotMaker
from realm_jax.refresh.synchronous import SynchronousRefresher
from realm_jax.sharding import Layout
from realm_jax.train.run_folder import RunFolder


class Searching(NamedTuple):
  """What finds blocks for the batches of a run.

  Attributes:
    retriever: searches an index, which it has from the first step on.
    snapshots: makes the snapshots that training waits for.
    refresher: decides which is searched.
  """

  retriever: Retriever
  snapshots: SnapshotMaker
  refresher: Refresher


def schedule_of_replay(lines: Sequence[Served]) -> str:
  """How a run must refresh that follows the log of another.

  Rolling is the same whenever it is done; of all else the log says enough.
  """
  refresh = lines[0].refresh or 'off'
  return refresh if isinstance(parse_schedule(refresh), Rolling) else 'off'


def divide_devices(
  refresh: str,
) -> tuple[list[jax.Device], list[jax.Device]]:
  """The devices that train, and those that a schedule sets aside.

  Raises:
    UserError: none would be left to train; or there are several processes,
      which would not agree on when a snapshot has come.
  """
  schedule = parse_schedule(refresh)
  if jax.process_count() > 1 and isinstance(
    schedule, SecondMesh | SeparateProcess
  ):
    raise UserError(
      f'The refresh {refresh!r} is for one process that trains, but there are '
      f'{jax.process_count()}. Take rolling or synchronous.'
    )
  if isinstance(schedule, SecondMesh):
    return set_aside(schedule)
  return jax.devices(), []


def make_searching(
  refresh: str,
  run: RunFolder,
  corpus: Corpus,
  lengths: Lengths,
  index: IndexConfig,
  layout: Layout | None = None,
  *,
  builders: Sequence[jax.Device] = (),
  reuse_from: Sequence[Path] = (),
  seed: int = 0,
  replay: Sequence[Served] | None = None,
  warn: Callable[[str], None] = print,
) -> Searching:
  """Makes what finds blocks for the batches of a run.

  Args:
    refresh: a schedule; see refresh.schedule.
    run: its folder and model.
    corpus: whose blocks are searched.
    lengths: of queries and documents.
    index: what to search with.
    layout: of the devices that train; None for one.
    builders: as make_refresher has it.
    reuse_from: folders of snapshots, of the run that this one starts from for
      example; blocks in one of the same parameters are not embedded again.
    seed: as make_refresher has it.
    replay: as make_refresher has it.
    warn: says something to the user.

  Raises:
    UserError: this index cannot be refreshed so.
  """
  embed_documents = make_embed(run.model, Realm.embed_documents, layout)
  retriever = Retriever(
    make_embed(run.model, Realm.embed_queries, layout),
    corpus,
    lengths,
    index,
    mesh=layout.mesh if layout else None,
  )
  snapshots = SnapshotMaker(
    embed_documents, corpus, lengths, reuse_from=reuse_from, layout=layout
  )
  refresher = make_refresher(
    refresh,
    run.path,
    run.model,
    retriever,
    snapshots,
    embed_documents,
    num_devices=layout.mesh.size if layout else 1,
    builders=builders,
    seed=seed,
    replay=replay,
    warn=warn,
  )
  return Searching(retriever, snapshots, refresher)


def make_refresher(
  refresh: str,
  folder: Path,
  model: RealmConfig,
  retriever: Retriever,
  snapshots: SnapshotMaker,
  embed_documents: Callable,
  *,
  num_devices: int = 1,
  builders: Sequence[jax.Device] = (),
  seed: int = 0,
  replay: Sequence[Served] | None = None,
  warn: Callable[[str], None] = print,
) -> Refresher:
  """Makes the refresher of a run.

  Args:
    refresh: a schedule; see refresh.schedule.
    folder: of the run.
    model: what is trained.
    retriever: whose index is refreshed.
    snapshots: makes the snapshots that training waits for.
    embed_documents: what it makes them with.
    num_devices: that train.
    builders: those that second_mesh has set aside.
    seed: of the order in which rolling goes through the corpus.
    replay: the log of another run to follow, in place of `refresh`.
    warn: says something to the user.

  Raises:
    UserError: this index cannot be refreshed so.
  """
  if replay is not None:
    log = ServedLog(folder)
    if not log.lines:
      log.copy(list(replay))
    refresh = schedule_of_replay(replay)
  schedule = parse_schedule(refresh)
  common = folder, retriever, snapshots, refresh, warn
  match schedule:
    case Synchronous():
      return SynchronousRefresher(schedule, *common)
    case Rolling():
      return RollingRefresher(
        schedule, embed_documents, *common, seed=seed, num_devices=num_devices
      )
    case SecondMesh():
      return SecondMeshRefresher(schedule, list(builders), model, *common)
    case SeparateProcess():
      return SeparateProcessRefresher(schedule, *common)
  return Refresher(*common)


def check_index(refresh: str, kind: str) -> None:
  """Raises UserError if an index of a kind cannot be refreshed so."""
  if isinstance(parse_schedule(refresh), Rolling) and kind != 'exact':
    raise UserError(
      f'The refresh {refresh!r} changes rows in place, but IndexConfig.kind '
      f'is {kind!r}, whose partitions are made of all rows at once. Take '
      "IndexConfig.kind 'exact', or synchronous(every=...)."
    )
