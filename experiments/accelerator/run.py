"""BERT-base pre-training on one accelerator: see README.md beside this file.

  python experiments/accelerator/run.py --out DIR

Every variant compiles in a process of its own, all at the same time, and then
waits for its turn on the device. Writes results.json and, of one variant, the
operations that took most time.
"""

import argparse
import collections
import contextlib
import dataclasses
import fcntl
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Not installed where it runs; and several processes share the memory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.bench.floors import PRODUCT, READ, Probes
from realm_jax.bench.steps import MadeUpBatches
from realm_jax.bench.timing import machine
from realm_jax.costs.accelerators import find
from realm_jax.costs.estimate import estimate
from realm_jax.costs.work import embedder_work
from realm_jax.data.examples import Lengths
from realm_jax.index.config import IndexConfig
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, RealmConfig, init_params
from realm_jax.runs.plan import workload
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.train.optimizer import make_optimizer
from realm_jax.train.state import create_state
from realm_jax.train.step import make_pretrain_step
from realm_jax.types import TextInputs

PAPER_BLOCKS = 13_353_718
LENGTHS = Lengths(query_len=96, document_len=288, max_masks=10)
# The datasheet's dense bfloat16 products of H100 and H200 (SXM).
PEAK = 989e12
CALLS = 10


@dataclasses.dataclass(frozen=True)
class Variant:
  """What is measured: a step, unless num_texts says embedding."""

  batch_size: int = 16
  rng: str = 'rbg'
  num_texts: int = 0
  search: bool = False
  profile: bool = False
  telemetry: bool = True
  encoder: dict[str, Any] = dataclasses.field(default_factory=dict)


UNROLLED = {'attention_dropout_rate': 0.0}
FUSED = UNROLLED | {'scan_layers': True}
VARIANTS = {
  'fused, batch 16': Variant(encoder=FUSED),
  'unrolled, batch 16': Variant(profile=True, encoder=UNROLLED),
  'unrolled, batch 16, no telemetry': Variant(
    telemetry=False, encoder=UNROLLED
  ),
  'fused, batch 32': Variant(32, encoder=FUSED, profile=True),
  'fused, batch 64, remat dots': Variant(64, encoder=FUSED | {'remat': 'dots'}),
  'fused, batch 16, threefry': Variant(rng='threefry2x32', encoder=FUSED),
  'xla, batch 12': Variant(12, encoder={'attention': 'xla'}),
  'embed 512': Variant(num_texts=512),
  'search': Variant(search=True),
}


@contextlib.contextmanager
def turn(lock: Path) -> Iterator[None]:
  with open(lock, 'w') as stream:
    fcntl.flock(stream, fcntl.LOCK_EX)
    yield


def model_of(variant: Variant) -> RealmConfig:
  return RealmConfig(EncoderConfig(dtype='bfloat16', **variant.encoder))


def seconds(call: Callable[[], Any], rounds: int) -> float:
  """Median seconds a call, of calls sent ten at a time."""
  times = []
  jax.block_until_ready(call())
  for _ in range(rounds):
    start = time.perf_counter()
    for _ in range(CALLS):
      result = call()
    jax.block_until_ready(result)
    times.append((time.perf_counter() - start) / CALLS)
  return float(np.median(times))


def machine_rates(rounds: int) -> dict[str, float]:
  probes = Probes(jax.default_backend(), 'bfloat16')
  taken = {name: seconds(call, rounds) for name, call in probes.calls.items()}
  return probes.rates(taken[PRODUCT], taken[READ])


def measure_step(name: str, args: argparse.Namespace) -> dict[str, Any]:
  variant = VARIANTS[name]
  model = model_of(variant)
  work = workload(
    model,
    PretrainConfig(batch_size=variant.batch_size, num_candidates=8),
    LENGTHS,
  )
  params = init_params(model, jax.random.key(0))
  transformation, _ = make_optimizer(work.optimizer, params)
  state = create_state(params, transformation)
  batch = MadeUpBatches(work.shape, model.encoder.vocab_size)()
  batch = jax.device_put(batch)
  rng = jax.random.key(1, impl=variant.rng)
  start = time.perf_counter()
  step = make_pretrain_step(model, transformation, telemetry=variant.telemetry)
  compiled = step.lower(state, batch, rng).compile()
  result: dict[str, Any] = {'compile_seconds': time.perf_counter() - start}
  holder = [state]

  def call() -> Any:
    holder[0], metrics = compiled(holder[0], batch, rng)
    return metrics['loss']

  with turn(args.lock):
    rates = machine_rates(args.rounds)
    taken = seconds(call, args.rounds)
    stats = jax.local_devices()[0].memory_stats() or {}
    if variant.profile:
      result['costs'] = costly(call, args.out / 'trace')
  plan = estimate(work, find(args.accelerator))
  flops = sum(part['flops'] for part in plan['step'].values())
  found = compiled.memory_analysis()
  return {
    **result,
    'step_seconds': taken,
    'tokens_per_second': work.shape.num_tokens / taken,
    'flops': flops,
    'utilisation_of_peak': flops / taken / PEAK,
    'utilisation_of_products': flops / taken / rates['flops_per_second'],
    'rates': rates,
    'planned_seconds': plan['run']['step_seconds'],
    'ratio_to_plan': taken / plan['run']['step_seconds'],
    'planned_memory': plan['memory'],
    'memory_bytes': found.temp_size_in_bytes + found.argument_size_in_bytes,
    'peak_bytes': stats.get('peak_bytes_in_use'),
    'loss': float(call()),
    'fused_calls': compiled.as_text().count('__cudnn$fmha'),
  }


def costly(call: Callable[[], Any], folder: Path) -> list[tuple[str, float]]:
  """Operations and the milliseconds a step that the device spent in them."""
  num_steps = 3
  with jax.profiler.trace(str(folder)):
    for _ in range(num_steps):
      jax.block_until_ready(call())
  path = next(folder.rglob('*.xplane.pb'))
  data = jax.profiler.ProfileData.from_file(str(path))
  totals: collections.Counter = collections.Counter()
  for plane in data.planes:
    if 'GPU' not in plane.name and 'TPU' not in plane.name:
      continue
    for line in plane.lines:
      if not line.name.startswith('Stream'):
        continue
      for event in line.events:
        totals[event.name] += event.duration_ns / 1e6 / num_steps
  return totals.most_common(60)


def measure_embedding(name: str, args: argparse.Namespace) -> dict[str, Any]:
  variant = VARIANTS[name]
  model = model_of(variant)
  params = init_params(model, jax.random.key(0))
  shape = (variant.num_texts, LENGTHS.document_len)
  ids = np.random.default_rng(0).integers(5, 30000, shape, np.int32)
  ones = np.ones(shape, np.int32)
  inputs = jax.device_put(TextInputs(ids, ones, ones))
  embed = make_embed(model, Realm.embed_documents)
  embed.lower(params, inputs).compile()
  with turn(args.lock):
    rates = machine_rates(args.rounds)
    taken = seconds(lambda: embed(params, inputs), args.rounds)
  flops = embedder_work(model, *shape, train=False).flops
  return {
    'blocks_per_second': variant.num_texts / taken,
    'hours_for_the_paper': PAPER_BLOCKS * taken / variant.num_texts / 3600,
    'utilisation_of_peak': flops / taken / PEAK,
    'utilisation_of_products': flops / taken / rates['flops_per_second'],
  }


def measure_search(name: str, args: argparse.Namespace) -> dict[str, Any]:
  """The search of a step: made-up rows on the device, k of a training step."""
  del name
  result: dict[str, Any] = {}
  with turn(args.lock):
    rates = machine_rates(args.rounds)
    rows = args.num_blocks
    keys = jax.random.split(jax.random.key(0), 2)
    embeds = np.asarray(jax.random.normal(keys[0], (rows, 128), jnp.bfloat16))
    index = IndexConfig(dtype='bfloat16', rescore=False).make(embeds)
    for batch_size in (16, 64):
      queries = jax.random.normal(keys[1], (batch_size, 128), jnp.float32)
      taken = seconds(lambda q=queries: index.search(q, 11), args.rounds)
      floor = max(
        2 * batch_size * rows * 128 / rates['flops_per_second'],
        rows * 256 / rates['bytes_per_second'],
      )
      result[f'batch {batch_size}'] = {
        'seconds': taken,
        'floor_seconds': floor,
        'ratio_to_floor': taken / floor,
      }
  return result


def child(name: str, args: argparse.Namespace) -> None:
  variant = VARIANTS[name]
  kind = measure_step
  if variant.num_texts:
    kind = measure_embedding
  elif variant.search:
    kind = measure_search
  try:
    result = kind(name, args)
  except Exception:
    result = {'error': traceback.format_exc()[-3000:]}
  path = args.out / f'{name.replace(", ", "-").replace(" ", "_")}.part.json'
  path.write_text(json.dumps({'name': name, 'machine': machine(), **result}))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--out', type=Path, required=True)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--num-blocks', type=int, default=PAPER_BLOCKS)
  parser.add_argument('--accelerator', default='h200')
  parser.add_argument('--limit', type=float, default=1e9, help='seconds')
  parser.add_argument('--variants', nargs='+', default=list(VARIANTS))
  parser.add_argument('--variant')
  args = parser.parse_args()
  args.lock = args.out / 'turn'
  args.out.mkdir(parents=True, exist_ok=True)
  if args.variant:
    child(args.variant, args)
    return
  options = sys.argv[1:]
  start = time.perf_counter()
  running = {
    name: subprocess.Popen(
      [sys.executable, __file__, *options, '--variant', name]
    )
    for name in args.variants
  }
  for process in running.values():
    with contextlib.suppress(subprocess.TimeoutExpired):
      process.wait(max(0, start + args.limit - time.perf_counter()))
    process.kill()
  results = []
  for path in sorted(args.out.glob('*.part.json')):
    results.append(json.loads(path.read_text()))
    path.unlink()
  (args.out / 'results.json').write_text(json.dumps(results, indent=1))
  for result in results:
    result.pop('costs', None)
    print(json.dumps(result))


if __name__ == '__main__':
  main()
