"""Jobs that run at the same time have cores of their own."""

import contextlib
import importlib.util
import os
import sys
import threading

import pytest

from realm_jax.sweeps import cores
from realm_jax.sweeps.cores import Cores
from realm_jax.sweeps.jobs import Job, Processes

pytestmark = pytest.mark.skipif(
  not hasattr(os, 'sched_getaffinity'), reason='the system pins no process'
)


@pytest.fixture(autouse=True)
def only_cpu(monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', 'cpu')


def all_lent(num_jobs):
  """What so many jobs have that run at the same time."""
  shared = Cores(num_jobs)
  with contextlib.ExitStack() as stack:
    return [stack.enter_context(shared.lent()) for _ in range(num_jobs)]


def machine_of(monkeypatch, num_cores):
  usable = set(range(3, 3 + num_cores))
  monkeypatch.setattr(os, 'sched_getaffinity', lambda process: usable)
  return usable


@pytest.mark.parametrize(
  ('num_cores', 'num_jobs', 'size'), [(2, 2, 1), (7, 2, 3), (16, 4, 4)]
)
def test_each_has_as_many_and_nobody_elses(
  monkeypatch, num_cores, num_jobs, size
):
  usable = machine_of(monkeypatch, num_cores)
  lent = all_lent(num_jobs)
  assert [len(share) for share in lent] == [size] * num_jobs
  assert len(frozenset().union(*lent)) == size * num_jobs
  assert frozenset().union(*lent) <= usable


def test_more_jobs_than_cores_have_one_each(monkeypatch):
  usable = machine_of(monkeypatch, 2)
  lent = all_lent(5)
  assert [len(share) for share in lent] == [1] * 5
  assert frozenset().union(*lent) == usable


def test_what_was_lent_is_lent_again(monkeypatch):
  machine_of(monkeypatch, 2)
  shared = Cores(2)
  with shared.lent() as first, shared.lent() as second:
    assert first != second
  with shared.lent() as again:
    assert again in (first, second)


def test_jobs_elsewhere_are_lent_nothing(monkeypatch):
  machine_of(monkeypatch, 4)
  shared = Cores(2, pinned=False)
  with shared.lent() as first, shared.lent() as second:
    assert first == second == frozenset()


def test_one_job_has_all_cores(monkeypatch):
  machine_of(monkeypatch, 4)
  assert all_lent(1) == [frozenset()]


def test_an_accelerator_leaves_all_cores_to_all(monkeypatch):
  machine_of(monkeypatch, 4)
  monkeypatch.delenv('JAX_PLATFORMS')
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: name == 'libtpu' or None
  )
  assert all_lent(2) == [frozenset()] * 2


def test_a_process_that_has_ended_is_nothing_to_pin():
  cores.pin(2**22 + 1, frozenset({0}))  # above any process number


def test_processes_have_the_cores_that_they_are_lent(tmp_path, monkeypatch):
  code = (
    'import os, pathlib, sys, time; time.sleep(1); '
    'pathlib.Path(sys.argv[2]).write_text('
    'str(sorted(os.sched_getaffinity(0))))'
  )
  command = [sys.executable, '-c', code]
  usable = sorted(os.sched_getaffinity(0))

  def have(names, num_workers):
    processes = Processes(command, None, num_workers)
    threads = [
      threading.Thread(target=processes, args=(Job(name, (), frozenset()),))
      for name in names
    ]
    for thread in threads:
      thread.start()
    for thread in threads:
      thread.join()
    return [(tmp_path / name).read_text() for name in names]

  monkeypatch.chdir(tmp_path)
  assert have(['alone'], 1) == [str(usable)]
  if len(usable) > 1:
    one, other = have(['one', 'other'], 2)
    assert one != other
