"""A tiny sweep for real: whole, refused, launched, killed."""

import io
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import tiny
from rich.console import Console

from realm_jax.errors import UserError
from realm_jax.sweeps.stages import Stage
from realm_jax.sweeps.sweep import sweep
from realm_jax.train.reporting import read_metrics

pytestmark = pytest.mark.slow

GIN = [str(Path(__file__).parent / 'tiny.gin')]
# Two cells of one seed: seven stages that train or measure, two of them shared.
LEFT_OUT = {'row': ['swapped', 'random & 100% new', 'never refreshed']}
FEW = [
  'cells.SweepConfig.seeds=(3,)',
  f'cells.SweepConfig.leave_out=({LEFT_OUT},)',
]
TABLES = ('table.md', 'table.csv', 'table.tex')


def arguments(out, *more):
  settings = [word for setting in FEW for word in ('--set', setting)]
  return [
    *(sys.executable, '-m', 'realm_jax.cli', 'sweep'),
    *('--gin', GIN[0], *settings, '--out', str(out), *more),
  ]


def stage_names(folder):
  return {path.name for path in folder.glob('[!.]*')}


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """Folder of a sweep of two cells, and how often each stage was run."""
  out = tmp_path_factory.mktemp('sweep') / 'out'
  counts = Counter()
  run = Stage.run

  def counted(self, folder):
    counts[self.name] += 1
    run(self, folder)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(Stage, 'run', counted)
    sweep(str(out), GIN, FEW, console=tiny.quiet())
  return out, counts


def test_shared_stages_run_once(finished):
  out, counts = finished
  assert set(counts.values()) == {1}
  kinds = Counter(name.rpartition('-')[0] for name in counts)
  assert kinds == {
    'almanac': 1,
    'ict': 1,
    'pretrain': 1,
    'finetune': 2,
    'evaluate': 4,
  }
  assert stage_names(out / 'stages') == counts.keys()


def test_tables_plots_and_report_are_there(finished):
  out, _ = finished
  for name in TABLES:
    assert 'warm start' in (out / name).read_text()
  plots = {path.name for path in (out / 'plots').iterdir()}
  for quantity in ('loss', 'probe_recall@5', 'gradient_norm_reader'):
    assert {f'{quantity}.png', f'{quantity}.svg'} <= plots
  page = (out / 'report.html').read_text()
  assert 'A tiny sweep' in page
  assert 'warm start over REALM' in page
  assert '<svg role="img"' in page


def test_run_again_it_measures_nothing_and_writes_the_same(
  finished, monkeypatch
):
  out, _ = finished
  before = {name: (out / name).read_bytes() for name in TABLES}
  stages = {p: p.stat().st_mtime_ns for p in (out / 'stages').rglob('*.json*')}
  sweep(str(out), GIN, FEW, console=tiny.quiet())
  assert before == {name: (out / name).read_bytes() for name in TABLES}
  assert stages == {
    p: p.stat().st_mtime_ns for p in (out / 'stages').rglob('*.json*')
  }


def test_what_is_measured_needs_no_stages_and_may_come_from_elsewhere(
  finished, tmp_path, monkeypatch
):
  out, _ = finished
  ran = []
  monkeypatch.setattr(Stage, 'run', lambda self, _: ran.append(self.name))
  target = tmp_path / 'out'
  shutil.copytree(out / 'measurements', target / 'measurements')
  sweep(str(target), GIN, FEW, console=tiny.quiet())
  assert not ran
  for name in TABLES:
    assert (target / name).read_bytes() == (out / name).read_bytes()
  settings = ['cells.SweepConfig.seeds=(3, 4)', FEW[1]]
  sweep(str(target), GIN, settings, collect_only=True, console=tiny.quiet())
  assert not ran, 'seed 4 is not measured, and not asked for'
  assert '| REALM | 1 |' in (target / 'table.md').read_text()
  # Of another seed, only what that needs is run; here it comes to nothing.
  sweep(str(target), GIN, settings, console=tiny.quiet())
  assert Counter(name.rpartition('-')[0] for name in ran) == {
    'almanac': 1,
    'ict': 1,
    'pretrain': 1,
    'finetune': 2,
    'evaluate': 4,
  }


def test_other_settings_are_refused_and_other_seeds_are_not(finished):
  out, _ = finished
  before = (out / 'sweep.json').read_text()
  with pytest.raises(UserError, match=r'cells .* are of other settings'):
    sweep(
      str(out),
      GIN,
      [*FEW, 'finetune.FinetuneConfig.beam_size=9'],
      console=tiny.quiet(),
    )
  assert (out / 'sweep.json').read_text() == before


def test_a_cell_that_fails_is_told_and_does_not_end_the_sweep(
  finished, tmp_path
):
  out, _ = finished
  axes = {
    'row': {
      'good': [],
      'bad': ['finetune.FinetuneConfig.beam_size=1'],
    }
  }
  target = tmp_path / 'out'
  # What another sweep has done need not be done again.
  shared = str(out / 'stages')
  with pytest.raises(UserError, match=r"Cell 'bad': .*num_read is 2"):
    sweep(
      str(target),
      GIN,
      [FEW[0], f'cells.SweepConfig.axes={axes}'],
      stages=shared,
      console=tiny.quiet(),
    )
  axes['row']['bad'] = ['pretrain.PretrainConfig.num_candidates=5000']
  with pytest.raises(
    UserError, match='1 of 2 cells and seeds are not done'
  ) as e:
    sweep(
      str(target),
      GIN,
      [FEW[0], f'cells.SweepConfig.axes={axes}'],
      stages=shared,
      console=tiny.quiet(),
    )
  assert 'bad.seed3.txt' in str(e.value)
  assert (target / 'failed' / 'bad.seed3.txt').is_file()
  table = (target / 'table.md').read_text()
  assert '| good | 1 |' in table
  assert '| bad | 0 | — |' in table


def test_the_folder_of_something_else_is_refused(tmp_path):
  (tmp_path / 'thesis.tex').write_text('')
  with pytest.raises(UserError, match='holds something else than a sweep'):
    sweep(str(tmp_path), GIN, FEW, console=tiny.quiet())
  with pytest.raises(UserError, match='There is no job'):
    sweep(str(tmp_path / 'new'), GIN, FEW, only='x', console=tiny.quiet())
  with pytest.raises(UserError, match='jobs is 0'):
    sweep(str(tmp_path / 'new'), GIN, FEW, jobs=0, console=tiny.quiet())


def test_a_dry_run_shows_cells_jobs_and_cost_and_makes_nothing(tmp_path):
  console = Console(file=io.StringIO(), record=True, width=100)
  sweep(
    str(tmp_path / 'out'),
    GIN,
    FEW,
    dry_run=True,
    accelerator='h100',
    console=console,
  )
  text = console.export_text()
  assert not (tmp_path / 'out').exists()
  for words in (
    '2 cells',
    'warm start',
    'realm.seed3',
    '1 pretrain',
    '2 finet',
  ):
    assert words in text


@pytest.mark.long
def test_launched_processes_give_the_same_table(finished, tmp_path):
  out, _ = finished
  words = shlex.join(arguments(tmp_path / 'out'))
  launcher = f'env MARK=1 {words} --only {{cell}}'
  finished_process = subprocess.run(
    arguments(tmp_path / 'out', '--jobs', '2', '--launcher', launcher),
    capture_output=True,
    text=True,
  )
  assert finished_process.returncode == 0, finished_process.stdout[-3000:]
  for name in TABLES:
    assert (tmp_path / 'out' / name).read_bytes() == (out / name).read_bytes()


@pytest.mark.long
def test_killed_ten_times_it_ends_with_the_same_table(finished, tmp_path):
  out, counts = finished
  rng = random.Random(5)
  killed = 0
  for _ in range(10):
    process = subprocess.Popen(
      arguments(tmp_path / 'out'),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    time.sleep(rng.uniform(3, 9))
    killed += process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
  assert killed >= 5, 'it ended too soon to be killed'
  ended = subprocess.run(arguments(tmp_path / 'out'), capture_output=True)
  assert ended.returncode == 0, ended.stderr[-3000:]
  for name in TABLES:
    assert (tmp_path / 'out' / name).read_bytes() == (out / name).read_bytes()
  stages = tmp_path / 'out' / 'stages'
  assert stage_names(stages) == counts.keys()
  for run in stages.glob('pretrain-*'):
    steps = [r['step'] for r in read_metrics(run) if 'loss' in r]
    assert sorted(set(steps)) == [1, 2, 3, 4]
