"""Every system on the almanac's test questions: see README.md beside this file.

  make quickstart-seeds
  python experiments/openqa_almanac/run.py --quickstart runs/quickstart \
    --dense FOLDER

FOLDER holds a sentence encoder, such as MiniLM. What the quickstart has
measured already is taken as it is.
"""

import argparse
from pathlib import Path

import numpy as np
from rich.console import Console

from realm_jax.eval.predictions import read_predictions, values_of
from realm_jax.runs.evaluate import evaluate
from realm_jax.sweeps.cells import SweepConfig
from realm_jax.sweeps.results import Row, figure_of, measured_with
from realm_jax.sweeps.tables import markdown

REFERENCE = 'realm'
METRICS = (
  'exact_match',
  'span_exact_match',
  'f1',
  'recall_at_1',
  'recall_at_5',
  'recall_at_20',
  'recall_at_100',
  'mean_reciprocal_rank',
)


def systems(dense: str | None) -> dict[str, tuple[str, str]]:
  """Name -> run of the quickstart, and how its blocks are found."""
  found = {
    'realm': ('realm', 'retriever'),
    'ict_only': ('ict_only', 'retriever'),
    'bm25_reader': ('realm', 'bm25'),
    'random_reader': ('realm', 'random'),
    'gold_document': ('realm', 'gold'),
    'closed_book': ('closed_book', 'retriever'),
  }
  if dense is not None:
    found['dense_reader'] = ('realm', f'dense:{dense}')
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quickstart', type=Path, required=True)
  parser.add_argument('--dense')
  args = parser.parse_args()
  seeds = sorted(args.quickstart.glob('seed[0-9]*'))
  values: dict[str, dict[str, dict[int, tuple[np.ndarray, np.ndarray]]]] = {}
  for name, (run, ranker) in systems(args.dense).items():
    for seed in seeds:
      out = seed / 'evaluation' / name
      evaluate(
        str(seed / run),
        str(args.quickstart / 'almanac' / 'questions.test.jsonl'),
        str(out),
        ranker=ranker,
        console=Console(quiet=True),
      )
      for metric, found in values_of(read_predictions(out)).items():
        by_seed = values.setdefault(name, {}).setdefault(metric, {})
        by_seed[int(seed.name.removeprefix('seed'))] = found
  rows = [
    Row(
      name,
      len(seeds),
      {
        f'final/{metric}': figure_of(
          of_system[metric],
          None if name == REFERENCE else values[REFERENCE].get(metric),
        )
        for metric in METRICS
        if metric in of_system
      },
      {},
    )
    for name, of_system in values.items()
  ]
  config = SweepConfig(
    axes={'system': dict.fromkeys(values, ())},
    seeds=tuple(range(len(seeds))),
    metrics=tuple(f'final/{metric}' for metric in METRICS),
    reference=REFERENCE,
  )
  print(markdown(rows, config, measured_with()))


if __name__ == '__main__':
  main()
