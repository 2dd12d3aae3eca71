"""A training step with its telemetry and without, in turn: see README.md.

python experiments/telemetry/run.py
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from realm_jax.bench.steps import MadeUpBatches
from realm_jax.bench.timing import machine, time_in_turn
from realm_jax.costs.shapes import StepShape
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.reporting import Reporter
from realm_jax.train.state import create_state
from realm_jax.train.step import make_pretrain_step

# name -> layers, width, heads, feed-forward width, batch
SIZES = {'small': (2, 128, 2, 512, 4), 'minilm': (6, 384, 12, 1536, 1)}
LOG_EVERY = 10  # steps, as LoopConfig has it
WITH, WITHOUT, RECORD = 'with telemetry', 'without', 'a record'


def step_of(
  config: RealmConfig, batch: Any, telemetry: bool
) -> tuple[Callable[[], Any], dict[str, float]]:
  """A step after another, and what XLA counts of one."""
  params = init_params(config, jax.random.key(0))
  optimizer, _ = make_optimizer(
    OptimizerConfig(3e-5).for_stage(1000, ('^reader/span_head/',), params),
    params,
  )
  state, rng = create_state(params, optimizer), jax.random.key(0)
  step = make_pretrain_step(config, optimizer, telemetry=telemetry)
  compiled = step.lower(state, batch, rng).compile()
  counts = compiled.cost_analysis()

  def run() -> Any:
    nonlocal state
    state, metrics = compiled(state, batch, rng)
    jax.block_until_ready(state)
    return metrics

  return run, {name: counts[name] for name in ('flops', 'bytes accessed')}


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--size', choices=SIZES, default='small')
  parser.add_argument('--rounds', type=int, default=40)
  args = parser.parse_args()
  num_layers, width, heads, feed_forward, batch_size = SIZES[args.size]
  config = RealmConfig(
    EncoderConfig(
      num_layers=num_layers,
      hidden_size=width,
      num_heads=heads,
      feed_forward_size=feed_forward,
    )
  )
  shape = StepShape(batch_size, 8, 96, 288, 384, 10)
  batch = MadeUpBatches(shape, config.encoder.vocab_size)()
  steps, counts = {}, {}
  for name in (WITHOUT, WITH):
    steps[name], counts[name] = step_of(config, batch, name == WITH)
  metrics = steps[WITH]()
  with tempfile.TemporaryDirectory() as folder:
    reporter = Reporter(Path(folder), 'pretrain', 10**6, 0, 8)
    seconds = time_in_turn(
      {**steps, RECORD: lambda: reporter.report(1, metrics)},
      args.rounds,
      warm=True,
    )
    reporter.close()
  ratios = [
    (with_it + record / LOG_EVERY) / without
    for with_it, record, without in zip(
      seconds[WITH], seconds[RECORD], seconds[WITHOUT], strict=True
    )
  ]
  found = {
    'machine': machine(),
    'size': args.size,
    'counts': counts,
    'median_seconds': {
      name: statistics.median(times) for name, times in seconds.items()
    },
    'ratio': dict(
      zip(
        ('quarter', 'median', 'three quarters'),
        statistics.quantiles(ratios, n=4),
        strict=True,
      )
    ),
  }
  print(json.dumps(found, indent=2))


if __name__ == '__main__':
  main()
