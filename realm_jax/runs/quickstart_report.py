"""What the quickstart reports: report.json's figures and report.html."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from realm_jax.eval.answers import answer_spans
from realm_jax.eval.charts import curves_from_records
from realm_jax.eval.intervals import Interval, seed_interval
from realm_jax.eval.report import (
  ExampleAnswer,
  RetrievedDocument,
  write_report,
)
from realm_jax.eval.tables import SummaryRow
from realm_jax.train.reporting import read_metrics

DIFFERENCE = 'realm_over_ict_only'


def summarise(results: list[dict[str, dict[str, float]]]) -> dict[str, Any]:
  """report.json: for each system and metric the mean and the value a seed.

  With the differences of realm and ict_only, which share warm start and
  questions in each seed.
  """
  systems = [
    {**result, DIFFERENCE: _difference(result['realm'], result['ict_only'])}
    for result in results
  ]
  report: dict[str, Any] = {'seeds': list(range(len(results)))}
  for system in systems[0]:
    report[system] = {}
    for metric in systems[0][system]:
      values = [result[system][metric] for result in systems]
      interval = seed_interval(values)
      error = interval.standard_error
      report[system][metric] = {
        'mean': interval.mean,
        'standard_error': error if len(values) > 1 else None,
        'by_seed': values,
      }
  return report


def _difference(
  figures: dict[str, float], baseline: dict[str, float]
) -> dict[str, float]:
  return {
    metric: value - baseline[metric]
    for metric, value in figures.items()
    if metric in baseline
  }


def table_rows(report: dict[str, Any]) -> list[SummaryRow]:
  """The table of report.json: intervals over seeds where there are several."""

  def interval(figure: dict[str, Any]) -> Interval | float:
    values = figure['by_seed']
    return seed_interval(values) if len(values) > 1 else values[0]

  return [
    SummaryRow(
      system,
      {metric: interval(figure) for metric, figure in figures.items()},
      is_reference=system == 'ict_only',
    )
    for system, figures in report.items()
    if system != 'seeds'
  ]


def write_html(folder: Path, config: Any, report: dict[str, Any]) -> None:
  """Writes report.html.

  Args:
    folder: of the quickstart.
    config: its QuickstartConfig, shown in the report.
    report: what report.json holds.
  """
  records = {
    f'seed {seed}': read_metrics(folder / f'seed{seed}' / 'pretrain')
    for seed in report['seeds']
  }
  write_report(
    folder / 'report.html',
    'REALM on the almanac',
    table_rows(report),
    curves_from_records(records),
    _examples(folder / 'seed0' / 'evaluation' / 'realm'),
    [
      'ict_only: retriever and reader after the warm start, then fine-tuned. '
      'realm: the same with retrieval-augmented pre-training in between.',
      'bm25_reader and gold_document: the reader of realm with documents found '
      'by BM25, and with those known to state the answer.',
    ],
    dataclasses.asdict(config),
  )


def _examples(evaluation: Path) -> list[ExampleAnswer]:
  """Ten questions of the test set with what was read for them."""
  lines = (evaluation / 'predictions.jsonl').read_text(encoding='utf-8')
  predictions = [json.loads(line) for line in lines.splitlines()]
  return [
    ExampleAnswer(
      question=p['question'],
      prediction=p['prediction'],
      answers=p['answers'],
      is_right=bool(p['exact_match']),
      documents=[
        RetrievedDocument(
          title=document['title'],
          text=document['text'],
          probability=document['probability'],
          retrieval_utility=document['retrieval_utility'],
          spans=(
            [(p['start'], p['stop'])]
            if document['block_id'] == p['block_id']
            else answer_spans(document['text'], p['answers'])
          ),
          has_answer=hit,
          block_id=document['block_id'],
        )
        for document, hit in zip(p['documents'], p['hits'], strict=False)
      ],
    )
    for p in predictions[:: max(1, len(predictions) // 10)][:10]
  ]
