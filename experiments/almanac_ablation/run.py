"""The paper's ablation on the almanac: see README.md beside this file.

  python experiments/almanac_ablation/run.py --quickstart runs/quickstart

Uses the corpus and the warm starts of `make quickstart-seeds`, whose runs are
the row 'salient_span'; the other rows are trained here. Stopped and started
again it goes on where it was.
"""

import argparse
import dataclasses
from pathlib import Path

from realm_jax.eval.intervals import Interval, seed_interval
from realm_jax.eval.tables import SummaryRow, markdown_table
from realm_jax.folders import write_json
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import finetune
from realm_jax.runs.pretrain import pretrain
from realm_jax.runs.quickstart import QuickstartConfig
from realm_jax.train.reporting import read_metrics

REFERENCE = 'salient_span'
# row -> what differs from the quickstart's PretrainConfig
ROWS: dict[str, dict] = {
  'salient_span': {},
  # also those that no other block restates
  'all_salient_spans': {'restated_only': False},
  'random_span': {'masking': 'random_span', 'restated_only': False},
  'random_token': {'masking': 'random_token', 'restated_only': False},
  'never_refreshed': {'refresh': 'off'},
  'frozen_retriever': {'train_retriever': False, 'refresh': 'off'},
}


def run_row(
  folder: Path, row: str, seed: int, config: QuickstartConfig
) -> dict[str, float]:
  """Trains and measures one row with one seed."""
  start = folder / f'seed{seed}'
  runs = start if row == REFERENCE else start / row
  corpus = str(folder / 'corpus')
  questions = {
    split: str(folder / 'almanac' / f'questions.{split}.jsonl')
    for split in ('train', 'dev', 'test')
  }
  pretrain(
    corpus,
    str(runs / 'pretrain'),
    str(start / 'ict'),
    probe_questions=questions['dev'],
    config=dataclasses.replace(config.pretrain, **ROWS[row]),
    lengths=config.lengths,
    loop=dataclasses.replace(config.pretrain_loop, seed=seed),
    optimizer=config.pretrain_optimizer,
  )
  finetune(
    corpus,
    str(runs / 'realm'),
    str(runs / 'pretrain'),
    questions['train'],
    config=config.finetune,
    lengths=config.lengths,
    loop=dataclasses.replace(config.finetune_loop, seed=seed),
    optimizer=config.finetune_optimizer,
  )
  figures = {}
  for name, run in (('', 'realm'), ('zero_shot_', 'pretrain')):
    metrics = evaluate(
      str(runs / run),
      questions['test'],
      str(runs / 'evaluation' / f'ablation_{run}'),
    )['metrics']
    figures[f'{name}recall_at_5'] = metrics['recall_at_5']['mean']
    if run == 'realm':
      figures['em'] = metrics['exact_match']['mean']
  utilities = [
    record['held_out_retrieval_utility']
    for record in read_metrics(runs / 'pretrain')
    if 'held_out_retrieval_utility' in record
  ]
  figures['retrieval_utility'] = utilities[-1]
  return figures


def summary(name: str, by_seed: list[dict[str, float]]) -> SummaryRow:
  """A row of the table: 95 % intervals over the seeds."""
  figures: dict[str, Interval | float] = {
    metric: seed_interval([result[metric] for result in by_seed])
    for metric in by_seed[0]
  }
  return SummaryRow(name, figures, is_reference=name == REFERENCE)


def differences(
  results: dict[str, list[dict[str, float]]], row: str
) -> list[dict[str, float]]:
  """What a row has more than the reference, seed by seed."""
  return [
    {metric: value - reference[metric] for metric, value in result.items()}
    for result, reference in zip(results[row], results[REFERENCE], strict=True)
  ]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument(
    '--quickstart', type=Path, default=Path('runs/quickstart')
  )
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--rows', nargs='+', default=list(ROWS), choices=ROWS)
  args = parser.parse_args()
  config = QuickstartConfig()
  results: dict[str, list[dict[str, float]]] = {row: [] for row in args.rows}
  for seed in range(args.seeds):
    for row in args.rows:
      results[row].append(run_row(args.quickstart, row, seed, config))
      print(row, seed, results[row][-1], flush=True)
  write_json(args.quickstart / 'ablation.json', results)
  print(markdown_table([summary(row, results[row]) for row in results]))
  if REFERENCE in results:
    print(
      markdown_table(
        [
          summary(f'{row} over {REFERENCE}', differences(results, row))
          for row in results
          if row != REFERENCE
        ]
      )
    )


if __name__ == '__main__':
  main()
