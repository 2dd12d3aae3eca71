"""Ways to refresh the index, at equal cost: see README.md beside this file.

  python experiments/refresh_policies/run.py --parallel 4

Each cell, a policy with a seed, is a process of its own; all cells of a seed
start from one run of ict. Stopped and started again it goes on where it was.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from rich.console import Console

from realm_jax.runs.almanac_corpus import prepare_almanac
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.ict import ict
from realm_jax.runs.pretrain import pretrain
from realm_jax.runs.quickstart import QuickstartConfig
from realm_jax.train.reporting import read_metrics

EVERY = (50, 200)
POLICIES: dict[str, str] = {'off': 'off'} | {
  f'{name}_{every}': schedule.format(every)
  for every in EVERY
  for name, schedule in (
    ('synchronous', 'synchronous(every={})'),
    ('rolling', 'rolling(pass_every={})'),
    ('second_mesh', 'second_mesh(every={})'),
  )
}
# figure -> heading
COLUMNS = {
  'recall_at_5': 'R@5, all embedded anew',
  'probe_recall_at_5': 'R@5, as searched at the end',
  'index_age': 'mean age (steps)',
  'index_overlap': 'overlap',
  'refresh_seconds': 'refresh (s)',
  'refresh_wait_seconds': 'stall (s)',
  'step_seconds': 'step (s)',
}


def quickstart_config(args: argparse.Namespace) -> QuickstartConfig:
  """The quickstart's, with the sizes of the command line."""
  config = QuickstartConfig(num_documents=args.num_documents)
  optimizer = config.pretrain_optimizer
  if args.learning_rate:
    optimizer = dataclasses.replace(optimizer, learning_rate=args.learning_rate)
  return dataclasses.replace(
    config,
    ict_loop=dataclasses.replace(config.ict_loop, num_steps=args.ict_steps),
    pretrain_loop=dataclasses.replace(
      config.pretrain_loop, num_steps=args.num_steps, log_every=1
    ),
    pretrain_optimizer=optimizer,
  )


def warm_start(args: argparse.Namespace, seed: int) -> None:
  """The run of ict that all cells of a seed start from."""
  config = quickstart_config(args)
  ict(
    str(args.out / 'corpus'),
    str(args.out / f'seed{seed}' / 'ict'),
    model=config.model,
    config=config.ict,
    lengths=config.lengths,
    loop=dataclasses.replace(config.ict_loop, seed=seed),
    optimizer=config.ict_optimizer,
  )


def run_cell(args: argparse.Namespace, policy: str, seed: int) -> dict:
  """Trains with one policy and one seed, and measures."""
  config = quickstart_config(args)
  questions = {
    split: str(args.out / 'almanac' / f'questions.{split}.jsonl')
    for split in ('dev', 'test')
  }
  run = args.out / f'seed{seed}' / policy
  is_new = not run.exists()
  start = time.perf_counter()
  pretrain(
    str(args.out / 'corpus'),
    str(run),
    str(args.out / f'seed{seed}' / 'ict'),
    probe_questions=questions['dev'],
    config=dataclasses.replace(config.pretrain, refresh=POLICIES[policy]),
    lengths=config.lengths,
    loop=dataclasses.replace(config.pretrain_loop, seed=seed),
    optimizer=config.pretrain_optimizer,
  )
  seconds = time.perf_counter() - start
  metrics = evaluate(
    str(run),
    questions['test'],
    str(run) + '_evaluation',
    console=Console(quiet=True),
  )['metrics']
  records = read_metrics(run)

  def values(name: str) -> list[float]:
    return [record[name] for record in records if name in record]

  stall = sum(values('refresh_wait_seconds'))
  return {
    'policy': policy,
    'refresh': POLICIES[policy],
    'seed': seed,
    'num_steps': args.num_steps,
    'recall_at_5': metrics['recall_at_5']['mean'],
    'probe_recall_at_5': values('probe_recall@5')[-1],
    'index_age': statistics.fmean(values('index_age')),
    'index_overlap': _mean(values('index_overlap')),
    'refresh_seconds': sum(values('refresh_seconds')),
    'refresh_wait_seconds': stall,
    # Of a cell that was stopped the whole time is not known.
    'step_seconds': (seconds - stall) / args.num_steps if is_new else None,
  }


def _mean(values: list[float]) -> float | None:
  return statistics.fmean(values) if values else None


def start_process(args: argparse.Namespace, what: str, cores: list[int]) -> Any:
  """Runs this file for one cell or warm start, on some of the cores."""
  command = [sys.executable, __file__, '--only', what]
  for name in ('out', 'num_documents', 'ict_steps', 'num_steps'):
    command += [f'--{name.replace("_", "-")}', str(getattr(args, name))]
  if args.learning_rate:
    command += ['--learning-rate', str(args.learning_rate)]
  finished = subprocess.run(
    command,
    # Two devices for all, so that all train alike; one of them may embed.
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '2', 'CORES': json.dumps(cores)},
    capture_output=True,
    text=True,
  )
  if finished.returncode:
    raise RuntimeError(f'{what} failed:\n{finished.stderr[-3000:]}')
  return json.loads(finished.stdout.splitlines()[-1])


def run_all(args: argparse.Namespace) -> list[dict]:
  """What results.jsonl holds, with the cells that it lacked."""
  path = args.out / 'results.jsonl'
  text = path.read_text().splitlines() if path.is_file() else []
  results = [json.loads(line) for line in text]
  done = {(r['policy'], r['seed']) for r in results if _is_of(r, args)}
  prepare_almanac(args.out, quickstart_config(args), Console(quiet=True))
  cores = sorted(os.sched_getaffinity(0))
  share = max(len(cores) // args.parallel, 1)
  free: SimpleQueue[list[int]] = SimpleQueue()
  for number in range(args.parallel):
    free.put(cores[number * share : (number + 1) * share] or cores)

  def work(what: str) -> Any:
    mine = free.get()
    try:
      return start_process(args, what, mine)
    finally:
      free.put(mine)

  cells = [
    f'{policy}:{seed}'
    for seed in range(args.seeds)
    for policy in args.policies
    if (policy, seed) not in done
  ]
  with ThreadPoolExecutor(args.parallel) as pool:
    list(pool.map(work, [f'ict:{seed}' for seed in range(args.seeds)]))
    for future in as_completed([pool.submit(work, cell) for cell in cells]):
      result = future.result()
      results.append(result)
      with open(path, 'a', encoding='utf-8') as stream:
        stream.write(json.dumps(result) + '\n')
      print(json.dumps(result), flush=True)
  return [r for r in results if _is_of(r, args)]


def _is_of(result: dict, args: argparse.Namespace) -> bool:
  return result['num_steps'] == args.num_steps


def show(results: list[dict], policies: list[str]) -> None:
  """Means and standard errors over seeds, and differences to synchronous."""

  def of(policy: str, column: str) -> dict[int, float]:
    return {
      r['seed']: r[column]
      for r in results
      if r['policy'] == policy and r[column] is not None
    }

  print('| policy | ' + ' | '.join(COLUMNS.values()) + ' |')
  print('| --- ' * (len(COLUMNS) + 1) + '|')
  for policy in policies:
    cells = [_text(list(of(policy, c).values()), c) for c in COLUMNS]
    print(f'| {policy} | ' + ' | '.join(cells) + ' |')
  print(
    '\n| over synchronous | ' + ' | '.join(list(COLUMNS.values())[:2]) + ' |'
  )
  print('| --- ' * 3 + '|')
  for policy in policies:
    every = policy.rsplit('_', 1)[-1] if '_' in policy else str(EVERY[0])
    reference = f'synchronous_{every}'
    if policy == reference:
      continue
    cells = []
    for column in list(COLUMNS)[:2]:
      ours, theirs = of(policy, column), of(reference, column)
      seeds = sorted(ours.keys() & theirs.keys())
      differences = [ours[s] - theirs[s] for s in seeds]
      cells.append(_text(differences, column, '+'))
    print(f'| {policy} - {reference} | ' + ' | '.join(cells) + ' |')


def _text(values: list[float], column: str, sign: str = '') -> str:
  """Mean ± standard error; recalls and overlaps in percent."""
  if not values:
    return '-'
  factor = 100 if 'recall' in column or 'overlap' in column else 1
  digits = 1 if factor == 100 else 3 if column == 'step_seconds' else 1
  scaled = factor * np.array(values)
  text = f'{scaled.mean():{sign}.{digits}f}'
  if len(values) > 1:
    error = scaled.std(ddof=1) / np.sqrt(len(values))
    text += f' ± {error:.{digits}f}'
  return text


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=Path, default=Path('runs/refresh_policies'))
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument(
    '--policies', nargs='+', default=list(POLICIES), choices=POLICIES
  )
  parser.add_argument('--num-steps', type=int, default=600)
  parser.add_argument('--ict-steps', type=int, default=1200)
  parser.add_argument('--num-documents', type=int, default=3000)
  parser.add_argument('--learning-rate', type=float)
  parser.add_argument('--parallel', type=int, default=1)
  parser.add_argument('--only', help=argparse.SUPPRESS)
  args = parser.parse_args()
  if args.only is None:
    show(run_all(args), args.policies)
    return
  if 'CORES' in os.environ:
    os.sched_setaffinity(0, json.loads(os.environ['CORES']))
  name, seed = args.only.split(':')
  if name == 'ict':
    warm_start(args, int(seed))
    print(json.dumps(None))
  else:
    print(json.dumps(run_cell(args, name, int(seed))))


if __name__ == '__main__':
  main()
