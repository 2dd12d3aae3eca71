"""What a sweep keeps of its stages, which may then be deleted or lie elsewhere.

measurements/ in the sweep's folder has Parquet files, named after stages: of an
evaluation a row a question and a column a metric, of pretrain a row a record of
its metrics.jsonl. What is there is not run again.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from realm_jax import eval as eval_package
from realm_jax.errors import UserError
from realm_jax.eval.predictions import read_predictions, values_of
from realm_jax.folders import (
  MANIFEST,
  is_whole,
  make_folder,
  package_versions,
  read_json,
)
from realm_jax.sweeps.stages import CellRun, Stage
from realm_jax.train.reporting import read_metrics
from realm_jax.train.run_folder import index_folder

# What a metric's value depends on, in realm_jax/eval.
_METRIC_SOURCES = (
  'answers.py',
  'predictions.py',
  'retrieval.py',
  'verdicts.py',
)
# Key of the Parquet file's metadata.
_DESCRIBED = b'realm_jax'


class Evaluation(NamedTuple):
  """An evaluation, as far as a table needs it.

  Attributes:
    values: metric -> rows of the questions that have it, and its values.
    provenance: hashes of the corpus, of the file of questions, of the vectors
      with how they were searched, and of questions and answers as 'asked'.
    made_with: versions, and a hash of the code of the metrics.
  """

  values: Mapping[str, tuple[np.ndarray, np.ndarray]]
  provenance: Mapping[str, str]
  made_with: Mapping[str, str]


class Measurements(NamedTuple):
  """What has been measured of a sweep.

  Attributes:
    evaluations: name of the stage -> what it gave.
    records: name of a pretrain stage -> the records of its metrics.jsonl.
  """

  evaluations: Mapping[str, Evaluation]
  records: Mapping[str, Sequence[Mapping[str, float]]]

  def made_with(self) -> dict[str, str]:
    """Name -> version, or all that occur: the parts of a sweep may differ."""
    found: dict[str, set[str]] = {}
    for evaluation in self.evaluations.values():
      for name, version in evaluation.made_with.items():
        found.setdefault(name, set()).add(version)
    return {name: ' and '.join(sorted(all_)) for name, all_ in found.items()}


def keep(stage: Stage, stages: Path, folder: Path) -> None:
  """Writes what a stage has measured, if that is done and not yet kept.

  Args:
    stage: of any kind; only evaluations and pretrain measure.
    stages: folder of all stages.
    folder: of the measurements.
  """
  path = _path(stage, folder)
  made = stage.folder(stages)
  if path.is_file():
    return
  if stage.kind == 'evaluate' and (made / 'metrics.json').is_file():
    table = _table_of_evaluation(stage, stages)
  elif stage.kind == 'pretrain' and is_whole(made):
    records = read_metrics(made)
    names = dict.fromkeys(name for record in records for name in record)
    table = pa.table({n: [r.get(n) for r in records] for n in names})
  else:
    return
  make_folder(folder)
  partial = path.with_name(path.name + '.partial')
  pq.write_table(table, partial, compression='zstd')
  os.replace(partial, path)


def _table_of_evaluation(stage: Stage, stages: Path) -> pa.Table:
  predictions = read_predictions(stage.folder(stages))
  columns = {}
  for name, (rows, values) in values_of(predictions).items():
    column = np.full(len(predictions), np.nan)
    column[rows] = values
    # A question that a metric makes no sense for has a null.
    columns[name] = pa.array(column, from_pandas=True)
  asked = [[p['question'], p.get('answers')] for p in predictions]
  described = {
    'provenance': {**_provenance(stage, stages), 'asked': _hash(asked)},
    'made_with': _versions(),
  }
  return pa.table(columns).replace_schema_metadata(
    {_DESCRIBED: json.dumps(described)}
  )


def _provenance(stage: Stage, stages: Path) -> dict[str, str]:
  """What an evaluation searched, and with which questions and settings."""
  metrics = read_json(stage.folder(stages) / 'metrics.json')
  corpus = metrics['corpus_fingerprint']
  run = stage.inputs['run'].folder(stages)
  snapshot = index_folder(run, corpus) / MANIFEST
  embeds = (
    read_json(snapshot)['params_fingerprint'] if snapshot.is_file() else ''
  )
  return {
    'corpus': corpus,
    'questions': metrics['questions_sha256'],
    'index': json.dumps([embeds, corpus, metrics['index']], sort_keys=True),
  }


def _hash(value: Any) -> str:
  return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _versions() -> dict[str, str]:
  """A hash of the code of the metrics, and package versions."""
  digest = hashlib.sha256()
  for name in _METRIC_SOURCES:
    digest.update((Path(eval_package.__path__[0]) / name).read_bytes())
  return {'metrics': digest.hexdigest()[:12], **package_versions()}


def is_measured(run: CellRun, folder: Path) -> bool:
  """Whether nothing of a cell with a seed is left to run."""
  return all(_path(stage, folder).is_file() for stage in _measuring(run))


def read_measurements(runs: Sequence[CellRun], folder: Path) -> Measurements:
  """Reads what there is of some cells.

  Raises:
    UserError: a file is damaged.
  """
  tables = {
    stage.name: _read(path)
    for run in runs
    for stage in _measuring(run)
    if (path := _path(stage, folder)).is_file()
  }
  return Measurements(
    {n: _evaluation(t) for n, t in tables.items() if n.startswith('evaluate-')},
    {n: _records(t) for n, t in tables.items() if n.startswith('pretrain-')},
  )


def _measuring(run: CellRun) -> list[Stage]:
  pretrained = [] if run.pretrained is None else [run.pretrained]
  return [*run.evaluations.values(), *pretrained]


def _path(stage: Stage, folder: Path) -> Path:
  return folder / f'{stage.name}.parquet'


def _read(path: Path) -> pa.Table:
  try:
    table = pq.read_table(path)
    if path.name.startswith('evaluate-'):
      json.loads(table.schema.metadata[_DESCRIBED])
    return table
  except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
    raise UserError(
      f'{path} is no measurement of a sweep, or damaged: {error}. Delete it; '
      'its stage is then measured anew.'
    ) from error


def _evaluation(table: pa.Table) -> Evaluation:
  values = {}
  for name in table.column_names:
    column = table[name].to_numpy()
    rows = np.flatnonzero(~np.isnan(column))
    values[name] = rows, column[rows]
  described = json.loads(table.schema.metadata[_DESCRIBED])
  return Evaluation(values, described['provenance'], described['made_with'])


def _records(table: pa.Table) -> list[dict[str, float]]:
  return [
    {name: value for name, value in record.items() if value is not None}
    for record in table.to_pylist()
  ]
