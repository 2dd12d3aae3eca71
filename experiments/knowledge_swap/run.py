"""Answers after the world has changed, without training: see README.md.

python experiments/knowledge_swap/run.py --quickstart runs/quickstart
"""

import argparse
import io
import json
from pathlib import Path

from rich.console import Console

from realm_jax.almanac.writing import CHANGED_FACTS, write_almanac
from realm_jax.data.lines import read_json_lines
from realm_jax.data.qa import load_questions
from realm_jax.eval.intervals import seed_interval
from realm_jax.folders import write_json, write_json_lines
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.prepare import prepare
from realm_jax.runs.quickstart import QuickstartConfig

SYSTEMS = ('realm', 'ict_only')


def write_questions(almanac: Path, out: Path) -> dict[str, Path]:
  """Test questions whose answers have changed, with both, and the others."""
  changed = [
    row
    for _, row in read_json_lines(almanac / CHANGED_FACTS, '{"question": ...}')
    if row['split'] == 'test'
  ]
  asked = {row['question'] for row in changed}
  paths = {name: out / f'{name}.jsonl' for name in ('old', 'new', 'unchanged')}
  for name in ('old', 'new'):
    write_json_lines(
      paths[name],
      (
        {
          'question': row['question'],
          'answer': row[f'{name}_answer'],
          'titles': row['titles'],
        }
        for row in changed
      ),
    )
  write_json_lines(
    paths['unchanged'],
    (
      question.as_row()
      for question in load_questions(almanac / 'questions.test.jsonl')
      if question.question not in asked
    ),
  )
  return paths


def other_edition(quickstart: Path, out: Path) -> Path:
  """The corpus of the 2020 edition, with the vocabulary of the 2018 one."""
  config = QuickstartConfig()
  almanac = out / 'almanac2020'
  write_almanac(almanac, config.world_seed, config.num_documents, '2020')
  prepare(
    [str(almanac / 'documents.jsonl')],
    str(out / 'corpus2020'),
    vocab=str(quickstart / 'corpus' / 'vocab.txt'),
    block_len=config.block_len,
  )
  return out / 'corpus2020'


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--quickstart', type=Path, required=True)
  parser.add_argument('--out', type=Path, default=Path('runs/knowledge_swap'))
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  questions = write_questions(args.quickstart / 'almanac', args.out)
  corpora = {
    '2018': args.quickstart / 'corpus',
    '2020': other_edition(args.quickstart, args.out),
  }
  figures: dict[str, list[float]] = {}
  for seed in sorted(args.quickstart.glob('seed[0-9]*')):
    for system in SYSTEMS:
      for edition, corpus in corpora.items():
        for answers, path in questions.items():
          metrics = evaluate(
            str(seed / system),
            str(path),
            str(args.out / seed.name / f'{system}_{edition}_{answers}'),
            corpus=str(corpus),
            console=Console(file=io.StringIO()),
          )['metrics']
          for metric in ('exact_match', 'recall_at_5'):
            name = f'{system}, corpus {edition}, {answers} answers, {metric}'
            figures.setdefault(name, []).append(metrics[metric]['mean'])
  found = {
    name: {'seeds': values, **seed_interval(values)._asdict()}
    for name, values in figures.items()
  }
  write_json(args.out / 'results.json', found)
  for name, values in figures.items():
    print(name, json.dumps([round(100 * value, 1) for value in values]))


if __name__ == '__main__':
  main()
