"""What is kept of stages is what they measured, whole or not at all."""

import json
import shutil

import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.eval.predictions import read_predictions, values_of
from realm_jax.sweeps.cells import Cell
from realm_jax.sweeps.measurements import (
  is_measured,
  keep,
  read_measurements,
)
from realm_jax.sweeps.stages import CellRun, Stage

PREDICTIONS = [
  {
    'question': 'who?',
    'answers': ['x'],
    'exact_match': True,
    'f1': 1 / 3,
    'retrieval_utility': -0.1,
    'hits': [False, True] * 3,
  },
  {
    'question': 'when?',
    'answers': ['y'],
    'exact_match': False,
    'f1': 0.1 + 0.2,
    'hits': [False] * 6,
  },
]
RECORDS = [
  {'step': 20, 'loss': 1.1, 'index_age': 3},
  {'step': 40, 'loss': 0.3, 'probe_recall@5': 2 / 7},
]


@pytest.fixture
def run(tmp_path):
  """A cell whose stages, in tmp_path/stages, have done their work."""
  pretrain = Stage('pretrain', {'seed': 0})
  evaluate = Stage('evaluate', {}, {'run': Stage('finetune', {'seed': 0})})
  for stage, name, lines in (
    (evaluate, 'predictions.jsonl', PREDICTIONS),
    (pretrain, 'metrics.jsonl', RECORDS),
  ):
    folder = stage.folder(tmp_path / 'stages')
    folder.mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / name).write_text(text)
  described = {
    'corpus_fingerprint': 'c' * 64,
    'questions_sha256': 'd' * 64,
    'index': {'kind': 'exact'},
  }
  for stage, name in ((evaluate, 'metrics.json'), (pretrain, 'manifest.json')):
    path = stage.folder(tmp_path / 'stages') / name
    path.write_text(json.dumps(described))
  stages = [pretrain, evaluate]
  return CellRun(Cell('A', {}, ()), 0, stages, {'final': evaluate}, pretrain)


def keep_all(run, tmp_path):
  for stage in run.stages:
    keep(stage, tmp_path / 'stages', tmp_path / 'kept')


def test_what_is_kept_is_bit_for_bit_what_was_measured(run, tmp_path):
  expected = values_of(
    read_predictions(run.evaluations['final'].folder(tmp_path / 'stages'))
  )
  keep_all(run, tmp_path)
  shutil.rmtree(tmp_path / 'stages')
  measured = read_measurements([run], tmp_path / 'kept')
  (evaluation,) = measured.evaluations.values()
  assert evaluation.values.keys() == expected.keys()
  for metric, (rows, values) in expected.items():
    np.testing.assert_array_equal(evaluation.values[metric][0], rows)
    np.testing.assert_array_equal(evaluation.values[metric][1], values)
  assert evaluation.provenance['questions'] == 'd' * 64
  assert measured.records == {run.pretrained.name: RECORDS}


def test_a_cell_is_measured_when_all_of_it_is_kept(run, tmp_path):
  assert not is_measured(run, tmp_path / 'kept')
  keep(run.evaluations['final'], tmp_path / 'stages', tmp_path / 'kept')
  assert not is_measured(run, tmp_path / 'kept'), 'without its pre-training'
  keep_all(run, tmp_path)
  assert is_measured(run, tmp_path / 'kept')


def test_what_is_not_finished_is_not_kept(run, tmp_path):
  for name in ('metrics.json', 'manifest.json'):
    for path in (tmp_path / 'stages').rglob(name):
      path.unlink()
  keep_all(run, tmp_path)
  assert not (tmp_path / 'kept').exists()


def test_versions_of_all_parts_are_told(run, tmp_path):
  keep_all(run, tmp_path)
  measured = read_measurements([run], tmp_path / 'kept')
  made_with = measured.made_with()
  assert len(made_with['metrics']) == 12
  assert {'jax', 'python', 'numpy'} <= made_with.keys()
  (one,) = measured.evaluations.values()
  other = one._replace(made_with={'jax': '9.9'})
  both = measured._replace(evaluations={'a': one, 'b': other})
  assert both.made_with()['jax'] == f'{one.made_with["jax"]} and 9.9'


@pytest.mark.parametrize('stage', ['pretrain', 'evaluate'])
def test_a_damaged_file_is_told_with_what_to_do(run, tmp_path, stage):
  keep_all(run, tmp_path)
  (path,) = (tmp_path / 'kept').glob(f'{stage}-*')
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(UserError, match=f'{stage}.*or damaged.*Delete it'):
    read_measurements([run], tmp_path / 'kept')
