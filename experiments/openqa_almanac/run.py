"""Every system on the almanac's test questions: see README.md beside this file.

  make quickstart-seeds
  python experiments/openqa_almanac/run.py --quickstart runs/quickstart \
    --dense FOLDER

FOLDER holds a sentence encoder, such as MiniLM. What the quickstart has
measured already is taken as it is; fine-tuning with the retriever left as it
comes from pre-training is done here.
"""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
from rich.console import Console

from realm_jax.eval.predictions import read_predictions, values_of
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import finetune
from realm_jax.runs.quickstart import QuickstartConfig
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
    'frozen_retriever': ('frozen_retriever', 'retriever'),
    'bm25_reader': ('realm', 'bm25'),
    'random_reader': ('realm', 'random'),
    'gold_document': ('realm', 'gold'),
    'closed_book': ('closed_book', 'retriever'),
  }
  if dense is not None:
    found['dense_reader'] = ('realm', f'dense:{dense}')
  return found


def freeze_retriever(quickstart: Path, seed: Path) -> None:
  """Fine-tunes the reader of a pre-trained run alone."""
  config = QuickstartConfig()
  optimizer = config.finetune_optimizer
  finetune(
    str(quickstart / 'corpus'),
    str(seed / 'frozen_retriever'),
    str(seed / 'pretrain'),
    str(quickstart / 'almanac' / 'questions.train.jsonl'),
    config=config.finetune,
    lengths=config.lengths,
    loop=dataclasses.replace(config.finetune_loop, seed=seed_of(seed)),
    optimizer=dataclasses.replace(optimizer, frozen=('embedder/',)),
  )


def seed_of(folder: Path) -> int:
  return int(folder.name.removeprefix('seed'))


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quickstart', type=Path, required=True)
  parser.add_argument('--dense')
  args = parser.parse_args()
  seeds = sorted(args.quickstart.glob('seed[0-9]*'))
  for seed in seeds:
    freeze_retriever(args.quickstart, seed)
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
        by_seed[seed_of(seed)] = found
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
