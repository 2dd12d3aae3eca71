import threading
import time

import pytest

from realm_jax.errors import UserError
from realm_jax.sweeps.cells import Cell
from realm_jax.sweeps.jobs import Job, Processes, jobs_of, run_jobs
from realm_jax.sweeps.stages import CellRun, Stage


def make_runs():
  """Two cells of two seeds: a corpus of all, warm starts of each seed."""
  corpus = Stage('almanac', {})
  runs = []
  for name in ('A', 'B'):
    for seed in (0, 1):
      warm = Stage('ict', {'seed': seed}, {'almanac': corpus})
      tuned = Stage('finetune', {'cell': name}, {'init': warm})
      measured = Stage('evaluate', {}, {'run': tuned})
      runs.append(
        CellRun(
          Cell(name, {}, ()),
          seed,
          [corpus, warm, tuned, measured],
          {'final': measured},
          None,
        )
      )
  return runs


def test_what_is_shared_is_a_job_and_the_rest_of_a_cell_is_one():
  jobs = {job.name: job for job in jobs_of(make_runs())}
  kinds = {name: [s.kind for s in job.stages] for name, job in jobs.items()}
  shared = [name for name in jobs if not name.startswith(('a.', 'b.'))]
  assert sorted(kinds[name] for name in shared) == [
    ['almanac'],
    ['ict'],
    ['ict'],
  ]
  for name in ('a.seed0', 'a.seed1', 'b.seed0', 'b.seed1'):
    assert kinds[name] == ['finetune', 'evaluate']
    (need,) = jobs[name].needs
    assert need.startswith('ict-')
  stages = [stage.name for job in jobs.values() for stage in job.stages]
  assert len(stages) == len(set(stages)) == 11
  done = set()
  for job in jobs.values():
    assert job.needs <= done
    done.add(job.name)


@pytest.mark.parametrize('num_workers', [1, 3])
def test_each_job_runs_once_after_those_it_needs(num_workers, tmp_path):
  jobs = jobs_of(make_runs())
  started, ended, lock = [], [], threading.Lock()

  def start(job):
    with lock:
      assert job.needs <= set(ended)
      started.append(job.name)
    with lock:
      ended.append(job.name)

  told = []
  failed = run_jobs(
    jobs, start, num_workers, tmp_path, lambda job, _: told.append(job.name)
  )
  assert failed == {}
  assert sorted(started) == sorted(told) == sorted(job.name for job in jobs)


@pytest.mark.parametrize('num_workers', [1, 3])
def test_what_fails_leaves_out_those_that_need_it(num_workers, tmp_path):
  jobs = jobs_of(make_runs())
  broken = next(job.name for job in jobs if job.name.startswith('ict-'))
  (tmp_path / 'a.seed0.txt').write_text('of an earlier try')

  def start(job):
    if job.name == broken:
      raise UserError('batch_size is 3.\nLower it.')
    if job.name == 'a.seed1':
      raise KeyError('a bug')

  failed = run_jobs(jobs, start, num_workers, tmp_path, lambda *_: None)
  of_broken = {job.name for job in jobs if broken in job.needs}
  assert failed.keys() == {broken, 'a.seed1', *of_broken}
  assert failed[broken].message == 'Lower it.'
  assert failed[broken].log.read_text() == 'batch_size is 3.\nLower it.\n'
  for name in of_broken - {'a.seed1'}:
    assert failed[name] == (
      f'not started, as it needs {broken}, which failed',
      None,
    )
  if 'a.seed1' not in of_broken:
    assert 'Traceback' in failed['a.seed1'].log.read_text()


def test_a_log_of_an_earlier_failure_goes_when_the_job_is_done(tmp_path):
  log = tmp_path / 'x.txt'
  log.write_text('old')
  job = Job('x', (), frozenset())
  assert run_jobs([job], lambda _: None, 1, tmp_path, lambda *_: None) == {}
  assert not log.exists()


def test_a_launcher_is_given_the_name_of_the_job(tmp_path):
  job = Job('a.seed0', (), frozenset())
  out = tmp_path / 'x y'
  Processes(['false'], f"cp /dev/null '{out}.{{cell}}'")(job)
  assert (tmp_path / 'x y.a.seed0').exists()
  Processes(['true'], None)(job)
  with pytest.raises(RuntimeError, match=r'a\.seed0(?s:.*)ended with status 1'):
    Processes(['false'], None)(job)


@pytest.mark.parametrize('chosen', [None, 'true'])
def test_jobs_leave_each_other_memory_of_an_accelerator(
  tmp_path, monkeypatch, chosen
):
  name = 'XLA_PYTHON_CLIENT_PREALLOCATE'
  monkeypatch.delenv(name, raising=False)
  if chosen:
    monkeypatch.setenv(name, chosen)
  out = tmp_path / 'environment'
  Processes(['sh', '-c', f'echo ${name} > {out}'], None)(
    Job('a', (), frozenset())
  )
  assert out.read_text().strip() == (chosen or 'false')


@pytest.mark.parametrize(
  ('launcher', 'message'),
  [
    ('srun realm-jax', 'with {cell} in it'),
    ("'{cell}", 'No closing quotation'),
  ],
)
def test_a_launcher_that_names_no_job_is_refused(launcher, message):
  with pytest.raises(UserError, match=message):
    Processes([], launcher)


def test_what_runs_is_stopped_when_the_sweep_is_interrupted(tmp_path):
  job = Job('a', (), frozenset())
  processes = Processes(['sh', '-c', 'sleep 600'], None)

  def tell(job, failure):
    del failure
    assert job.name == 'b'
    raise KeyboardInterrupt

  def start(job):
    if job.name == 'a':
      return processes(job)
    while not processes._running:
      time.sleep(0.01)
    return None

  began = time.monotonic()
  with pytest.raises(KeyboardInterrupt):
    run_jobs(
      [job, Job('b', (), frozenset())], start, 2, tmp_path, tell, processes.stop
    )
  assert time.monotonic() - began < 60
  assert not processes._running
