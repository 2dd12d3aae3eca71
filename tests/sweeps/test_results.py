"""Figures of evaluations that were written by hand."""

import csv
import dataclasses
import io
import json
import shutil

import numpy as np
import pytest

from realm_jax.errors import UserError
from realm_jax.eval.tables import summary_cells
from realm_jax.sweeps import measurements, tables
from realm_jax.sweeps.cells import Cell, SweepConfig
from realm_jax.sweeps.results import collect
from realm_jax.sweeps.stages import CellRun, Stage

# cell -> seed -> verdicts on four questions
VERDICTS = {
  'full': {0: [1, 1, 1, 0], 1: [1, 1, 0, 0]},
  'no_span & 5 %': {0: [1, 0, 0, 0], 1: [1, 0, 0, 0]},
}
CONFIG = SweepConfig(
  axes={'row': dict.fromkeys(VERDICTS, ())},
  seeds=(0, 1, 2),
  metrics=('final/exact_match', 'start/recall_at_5'),
)


def write(folder, verdicts, questions='abcd'):
  folder.mkdir(parents=True)
  lines = [
    json.dumps(
      {'question': q, 'answers': ['x'], 'exact_match': bool(v), 'hits': [v] * 5}
    )
    for q, v in zip(questions, verdicts, strict=True)
  ]
  (folder / 'predictions.jsonl').write_text('\n'.join(lines) + '\n')
  (folder / 'metrics.json').write_text(
    json.dumps(
      {
        'corpus_fingerprint': 'c' * 64,
        'questions_sha256': 'd' * 64,
        'index': {'kind': 'exact'},
      }
    )
  )


def make_runs(stages_folder, verdicts=VERDICTS):
  runs = []
  for name, by_seed in verdicts.items():
    for seed in CONFIG.seeds:
      run = Stage('finetune', {'cell': name, 'seed': seed})
      stages = {
        evaluation: Stage('evaluate', {'of': evaluation}, {'run': run})
        for evaluation in ('start', 'final')
      }
      runs.append(
        CellRun(Cell(name, {}, ()), seed, list(stages.values()), stages, None)
      )
      if seed in by_seed:
        for stage in stages.values():
          write(stage.folder(stages_folder), by_seed[seed])
  return runs


def table_of(runs, folder, config=CONFIG):
  """The rows of what has been measured in `folder`."""
  for run in runs:
    for stage in (*run.evaluations.values(), run.pretrained):
      if stage is not None:
        measurements.keep(stage, folder, folder / 'measurements')
  measured = measurements.read_measurements(runs, folder / 'measurements')
  return collect(runs, config, measured)


@pytest.fixture
def rows(tmp_path):
  return table_of(make_runs(tmp_path), tmp_path)


def test_figures_are_worked_out_by_hand(rows):
  full, poor = rows
  figure = full.figures['final/exact_match']
  assert full.num_seeds == 2, 'the third seed has not been measured'
  assert figure.by_seed == {0: 0.75, 1: 0.5}
  assert figure.interval.mean == 0.625
  assert figure.deviation == pytest.approx(0.125 * np.sqrt(2))
  assert figure.difference is None
  difference = poor.figures['final/exact_match'].difference
  assert difference.mean == pytest.approx(-0.375)
  assert difference.low <= -0.375 <= difference.high <= 0
  assert poor.figures['start/recall_at_5'].interval.mean == 0.25
  assert poor.figures['final/exact_match'].deviation == 0


def test_what_pretraining_has_recorded_is_a_column(tmp_path):
  config = dataclasses.replace(
    CONFIG, metrics=('pretrain/index_age', 'pretrain/wait_seconds')
  )
  runs = []
  for run in make_runs(tmp_path):
    stage = Stage('pretrain', {'cell': run.cell.name, 'seed': run.seed})
    runs.append(dataclasses.replace(run, pretrained=stage))
    folder = stage.folder(tmp_path)
    folder.mkdir()
    # A mean leaves out the records that do not have it.
    records = [
      {'step': 1, 'index_age': 1, 'wait_seconds': 0.25},
      {'step': 2, 'index_age': 4 + run.seed, 'wait_seconds': 0.5},
      {'step': 3, 'loss': 1.0},
    ]
    (folder / 'metrics.jsonl').write_text(
      ''.join(json.dumps(record) + '\n' for record in records)
    )
    (folder / 'manifest.json').write_text('{}')
  full, poor = table_of(runs, tmp_path, config)
  assert full.figures['pretrain/index_age'].by_seed == {0: 2.5, 1: 3}
  assert full.figures['pretrain/wait_seconds'].by_seed == {0: 0.75, 1: 0.75}
  assert poor.figures['pretrain/index_age'].difference.mean == 0
  lines = tables.markdown([full, poor], config, {}).splitlines()
  assert lines[0] == (
    '| cell | seeds | index age (steps) | difference | wait (s) | difference |'
  )
  assert lines[2].startswith('| full | 2 | 2.8 ± 0.4 (')
  best = summary_cells(tables.summary_rows([full, poor], config))
  assert not any(cell.is_best for row in best for cell in row)


def test_a_difference_is_of_the_seeds_that_both_have(tmp_path):
  verdicts = {**VERDICTS, 'other': {1: [0, 0, 0, 0]}, 'none': {}}
  rows = table_of(make_runs(tmp_path, verdicts), tmp_path)
  other, nothing = rows[2:]
  figure = other.figures['final/exact_match']
  assert figure.difference.mean == pytest.approx(-0.5)
  assert np.isnan(figure.deviation)
  assert (nothing.num_seeds, nothing.figures, nothing.fingerprints) == (
    0,
    {},
    {},
  )
  text = tables.markdown(rows, CONFIG, {'jax': '1'})
  assert '| none | 0 | — |  | — |  |' in text


def test_a_column_with_fewer_seeds_than_its_row_says_so(tmp_path):
  runs = make_runs(tmp_path)
  seed = runs[1]
  assert (seed.cell.name, seed.seed) == ('full', 1)
  shutil.rmtree(seed.evaluations['final'].folder(tmp_path))
  rows = table_of(runs, tmp_path)
  full = tables.markdown(rows, CONFIG, {}).splitlines()[2]
  assert full.startswith('| full | 2 | ')
  assert full.count(', seeds: 1') == 1
  counts = {
    line.split(',')[1]: line.split(',')[2]
    for line in tables.comma_separated(rows, CONFIG).splitlines()
    if line.startswith('full,')
  }
  assert counts == {'final/exact_match': '1', 'start/recall_at_5': '2'}


def test_cells_of_different_questions_are_not_compared(tmp_path):
  runs = make_runs(tmp_path)
  folder = runs[-3].evaluations['final'].folder(tmp_path)
  for path in folder.iterdir():
    path.unlink()
  folder.rmdir()
  write(folder, [1, 1, 1, 1], 'abce')
  with pytest.raises(UserError, match="'no_span & 5 %' and 'full' were not"):
    table_of(runs, tmp_path)


def test_markdown_shows_values_differences_and_where_they_come_from(rows):
  text = tables.markdown(rows, CONFIG, {'metrics': 'm1', 'jax': '9.9'})
  lines = text.splitlines()
  assert lines[0] == (
    '| cell | seeds | EM (%) | difference | 0-shot R@5 (%) | difference |'
  )
  assert lines[2].startswith('| full | 2 | 62.5 ± 17.7 (')
  assert lines[3].startswith(r'| no\_span & 5 % | 2 | 25.0 ± 0.0 (')
  assert '-37.5 (' in lines[3]
  assert 'corpus cccccccccccc, questions dddddddddddd' in text
  assert 'metrics m1, jax 9.9' in text


def test_a_csv_has_every_number_unrounded(rows):
  text = tables.comma_separated(rows, CONFIG)
  read = list(csv.DictReader(io.StringIO(text)))
  assert [(r['cell'], r['metric']) for r in read] == [
    (cell, metric) for cell in VERDICTS for metric in CONFIG.metrics
  ]
  first, _, third, _ = read
  assert float(first['mean']) == 0.625
  assert first['difference'] == first['difference_low'] == ''
  assert float(third['difference']) == -0.375
  assert (
    float(third['low']) == rows[1].figures['final/exact_match'].interval.low
  )
  assert len(third['index']) == 12


def test_latex_is_escaped_and_complete(rows):
  text = tables.latex(rows, CONFIG, {'jax': '9.9'})
  assert text.startswith('% Made with')
  assert r'no\_span \& 5 \% & $25.0 \pm 0.0$' in text
  assert text.count(r'\\') == 3
  assert text.rstrip().endswith(r'\end{tabular}')
  body = text[text.index(r'\midrule') :]
  assert {
    line.count('&') - line.count(r'\&') for line in body.splitlines()[1:3]
  } == {4}


def test_a_report_has_the_differences_below_the_cells(rows):
  shown = tables.summary_rows(rows, CONFIG)
  assert [row.system for row in shown] == [
    'full',
    'no_span & 5 %',
    'no_span & 5 % over full',
  ]
  assert shown[-1].is_reference
  assert shown[-1].metrics['zero_shot_recall_at_5'].mean == pytest.approx(
    -0.375
  )
