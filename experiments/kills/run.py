"""Kills runs at random moments and compares how they end: see README.md.

  python experiments/kills/run.py --out runs/kills --num-kills 100 --parallel 4

A line is printed for each kill, and written to kills.jsonl; started again it
goes on behind the last.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SCHEDULES = {
  'off': 'off',
  'synchronous': 'synchronous(every=4)',
  'rolling': 'rolling(pass_every=7)',
  'second_mesh': 'second_mesh(every=4)',
  'separate_process': 'separate_process(every=4, at_most_late=100)',
}
# What they search depends on how fast others are; a replay of their log tells
# whether they did what it says.
TIMED = ('second_mesh', 'separate_process')
# Who is killed, and when.
MOMENTS = {
  'off': ('any', 'save'),
  'synchronous': ('any', 'save', 'refresh'),
  'rolling': ('any', 'save', 'refresh'),
  'second_mesh': ('any', 'save', 'refresh'),
  'separate_process': ('builder', 'any', 'save', 'refresh'),
}
# In turn, so that a few are of all policies and of different moments.
KINDS = list(
  dict.fromkeys(
    (policy, moments[(turn + number) % len(moments)])
    for turn in range(max(map(len, MOMENTS.values())))
    for number, (policy, moments) in enumerate(MOMENTS.items())
  )
)
NUM_STEPS, TIMED_STEPS = 14, 30
# A step of these takes at least so long, so that others have time to embed.
STEP_SECONDS = 0.05


def set_environment(out: Path) -> None:
  """For this process and those it starts: before JAX is imported."""
  os.environ.update(
    JAX_NUM_CPU_DEVICES='2',
    JAX_PLATFORMS='cpu',
    JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS='0',
    JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES='-1',
    TF_CPP_MIN_LOG_LEVEL='3',
    TOKENIZERS_PARALLELISM='false',
    PYTHONPATH=f'{REPOSITORY / "tests"}{os.pathsep}{REPOSITORY}',
  )
  os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(out / 'jax_cache'))
  os.environ.setdefault('JAX_DISABLE_MOST_OPTIMIZATIONS', '1')
  sys.path[:0] = [str(REPOSITORY / 'tests'), str(REPOSITORY)]


def prepare(out: Path) -> None:
  """The corpus, and the run that all start from."""
  import tiny

  if not is_whole(out / 'start'):
    shutil.rmtree(out / 'start', ignore_errors=True)
    tiny.make_untrained_run(out / 'start', tiny.make_corpus(out))


def train(
  out: Path, run: Path, policy: str, replay: Path | None = None
) -> None:
  """Trains in this process, from wherever the run stands, to the end."""
  _redirect(run)
  import dataclasses

  import tiny

  from realm_jax.runs.pretrain import pretrain
  from realm_jax.train.pretrain_source import PretrainSource

  if policy in TIMED and replay is None:
    finish = PretrainSource.finish

    def slow(source: Any, begun: Any) -> Any:
      time.sleep(STEP_SECONDS)
      return finish(source, begun)

    PretrainSource.finish = slow  # type: ignore[method-assign]
  settings = dict(tiny.PRETRAIN)
  settings['config'] = dataclasses.replace(
    settings['config'], refresh=SCHEDULES[policy], num_held_out=0
  )
  settings['loop'] = dataclasses.replace(
    settings['loop'],
    num_steps=TIMED_STEPS if policy in TIMED else NUM_STEPS,
    retrieve_ahead=1,
  )
  pretrain(
    str(out / 'corpus'),
    str(run),
    str(out / 'start'),
    replay=replay and str(replay),
    **settings,
  )


def build(run: Path) -> None:
  """Follows a run in this process, until it is finished."""
  _redirect(run)
  from realm_jax.refresh import follow
  from realm_jax.runs.build_index import build_index

  follow._POLL_SECONDS = 0.02
  build_index(follow=str(run))


def _redirect(run: Path) -> None:
  """What this process says goes to a file beside the run."""
  flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
  log = os.open(run.with_name(f'{run.name}.log'), flags)
  for stream in (1, 2):
    os.dup2(log, stream)


def is_saving(run: Path) -> bool:
  """Whether a checkpoint is being written."""
  return any(
    'tmp' in path.name for path in (run / 'checkpoints').glob('[0-9]*')
  ) or any((run / 'checkpoints').glob('*tmp*'))


def is_refreshing(run: Path) -> bool:
  """Whether a snapshot or published parameters are being written."""
  snapshots = (run / 'snapshots').glob('[0-9]*')
  return any(not is_whole(path) for path in snapshots) or any(
    (run / 'published').glob('*.partial')
  )


class Killer:
  """Starts trainers and builders, kills them, and compares."""

  def __init__(self, out: Path):
    """Keeps the folder."""
    self.out = out
    self._context = multiprocessing.get_context('forkserver')
    # Imports take longer than the runs: they are done once.
    self._context.set_forkserver_preload(
      ['tiny', 'realm_jax.runs.pretrain', 'realm_jax.runs.build_index']
    )
    self.seconds: dict[str, float] = {}

  def start(self, function: Callable, *args: Any) -> Any:
    process = self._context.Process(target=function, args=args, daemon=True)
    process.start()
    return process

  def finish(self, made: Path, function: Callable, *args: Any) -> None:
    """Runs to the end; raises RuntimeError if a folder is not made then.

    The exit code says nothing: multiprocessing may lose it when several
    threads start processes.
    """
    self.start(function, *args).join()
    if not is_whole(made):
      raise RuntimeError(f'{made} was not finished; see the log beside it.')

  def reference(self, policy: str) -> None:
    """A run that is not killed, and how long one takes."""
    run = self.out / 'reference' / policy
    timing = run.with_name(f'{policy}.json')
    if not timing.is_file():
      self.train_to_end(run, policy)
      again = run.with_name(f'{policy}_warm')
      shutil.rmtree(again, ignore_errors=True)
      start = time.monotonic()
      self.train_to_end(again, policy)  # with everything compiled
      timing.write_text(json.dumps(time.monotonic() - start))
    self.seconds[policy] = json.loads(timing.read_text())

  def train_to_end(self, run: Path, policy: str) -> None:
    """Trains, with a builder beside it where the policy needs one."""
    if policy != 'separate_process':
      self.finish(run, train, self.out, run, policy)
      return
    run.mkdir(parents=True, exist_ok=True)
    builder = self.start(build, run)
    try:
      self.finish(run, train, self.out, run, policy)
    finally:
      self.end(builder)

  def end(self, process: Any) -> None:
    """Kills a process of ours, if it is there."""
    if process.is_alive():
      process.kill()
    process.join()

  def kill_once(self, number: int) -> dict[str, Any]:
    """One kill, the run resumed to its end, and the comparison."""
    policy, moment = KINDS[number % len(KINDS)]
    rng = random.Random(number)
    run = self.out / 'runs' / f'{number:03d}'
    start = time.monotonic()
    while True:
      shutil.rmtree(run, ignore_errors=True)
      step = self._kill(run, policy, moment, rng)
      if step is not None:
        break
    self.train_to_end(run, policy)
    expected = self.out / 'reference' / policy
    if policy in TIMED:
      expected = self.out / 'runs' / f'{number:03d}_replay'
      shutil.rmtree(expected, ignore_errors=True)
      self.finish(expected, train, self.out, expected, policy, run)
    record = {
      'number': number,
      'policy': policy,
      'moment': moment,
      'killed_after_step': step,
      'num_served': len((run / 'served.jsonl').read_text().splitlines()),
      'same': have_same_params(run, expected),
      'seconds': round(time.monotonic() - start, 2),
    }
    if record['same']:
      for path in (run.parent).glob(f'{number:03d}*'):
        path.unlink() if path.is_file() else shutil.rmtree(path)
    return record

  def _kill(
    self, run: Path, policy: str, moment: str, rng: random.Random
  ) -> int | None:
    """Kills once.

    Returns:
      The last step in metrics.jsonl, -1 for none; None if the run was at its
      end before.
    """
    run.mkdir(parents=True, exist_ok=True)
    builder = self.start(build, run) if policy == 'separate_process' else None
    trainer = self.start(train, self.out, run, policy)
    victim = builder if moment == 'builder' else trainer
    begun = {'save': is_saving, 'refresh': is_refreshing}.get(moment)
    if begun is not None:
      wait_for(begun, rng.randrange(1, 5), victim, run)
      victim.join(rng.uniform(0, 0.03))
    elif rng.random() < 0.25:  # most of that is starting
      victim.join(rng.uniform(0, self.seconds[policy]))
    else:
      step = rng.randrange(NUM_STEPS)
      wait_for(lambda run: last_step(run) >= step, 1, victim, run)
      victim.join(rng.uniform(0, 2 * STEP_SECONDS))
    was_alive = victim.is_alive() and not is_whole(run)
    if was_alive:
      os.kill(victim.pid, signal.SIGKILL)
      victim.join()
    step = last_step(run)
    if moment == 'builder' and was_alive:
      again = self.start(build, run)  # as whoever looks after it would
      trainer.join()
      self.end(again)
    for process in (trainer, builder):
      if process is not None:
        self.end(process)
    return step if was_alive else None


def wait_for(
  begun: Callable[[Path], bool], times: int, process: Any, run: Path
) -> None:
  """Waits until something has begun so many times, or a process ended."""
  was = False
  while times and process.is_alive():
    now = begun(run)
    times -= now and not was
    was = now
    time.sleep(0.0005)


def is_whole(folder: Path) -> bool:
  """Whether there is a manifest; JAX is not imported for this."""
  return (folder / 'manifest.json').is_file()


def last_step(run: Path) -> int:
  """Of the metrics; -1 where there are none."""
  from realm_jax.train.reporting import read_metrics

  return int(max((r['step'] for r in read_metrics(run)), default=-1))


def have_same_params(run: Path, expected: Path) -> bool:
  """Whether two finished runs have the same parameters, bit for bit."""
  import jax
  import numpy as np

  from realm_jax.train.run_folder import load_run

  params = [jax.tree.leaves(load_run(path).params) for path in (run, expected)]
  return all(
    np.asarray(a).tobytes() == np.asarray(b).tobytes()
    for a, b in zip(*params, strict=True)
  )


def kill_all(
  out: Path, num_kills: int, parallel: int, say: Callable = print
) -> list[dict[str, Any]]:
  """Kills so many times, less those in kills.jsonl; returns all its lines."""
  out.mkdir(parents=True, exist_ok=True)
  path = out / 'kills.jsonl'
  lines = path.read_text().splitlines() if path.is_file() else []
  records = [json.loads(line) for line in lines]
  done = {record['number'] for record in records}
  numbers = [number for number in range(num_kills) if number not in done]
  for name in ('runs', 'reference'):
    (out / name).mkdir(exist_ok=True)
  killer = Killer(out)
  killer.finish(out / 'start', prepare, out)
  with ThreadPoolExecutor(parallel) as pool:
    policies = {KINDS[number % len(KINDS)][0] for number in numbers}
    list(pool.map(killer.reference, sorted(policies)))
    futures = [pool.submit(killer.kill_once, number) for number in numbers]
    for future in as_completed(futures):
      record = future.result()
      records.append(record)
      with open(path, 'a', encoding='utf-8') as stream:
        stream.write(json.dumps(record) + '\n')
      say(json.dumps(record), flush=True)
  return records


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=Path, default=Path('runs/kills'))
  parser.add_argument('--num-kills', type=int, default=100)
  parser.add_argument('--parallel', type=int, default=os.cpu_count())
  args = parser.parse_args()
  args.out = args.out.resolve()
  set_environment(args.out)
  start = time.monotonic()
  records = kill_all(args.out, args.num_kills, args.parallel)
  num_same = sum(record['same'] for record in records)
  print(
    f'{len(records)} kills, {num_same} runs ended with the same parameters, '
    f'bit for bit; {time.monotonic() - start:.0f} s.'
  )
  sys.exit(num_same != len(records))


if __name__ == '__main__':
  main()
