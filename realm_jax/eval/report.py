"""The report of an experiment: one HTML file that needs nothing else.

It shows a table of systems and metrics, curves over training, and questions
with the documents that answered them. It loads no script, font or picture, and
suits a light and a dark screen, a narrow one, and paper.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from realm_jax.eval import charts, tables
from realm_jax.eval.charts import Curve
from realm_jax.eval.tables import SummaryRow
from realm_jax.optional import require
from realm_jax.types import NULL_BLOCK_ID

_TEMPLATE = 'report.html.jinja'


@dataclass(frozen=True)
class RetrievedDocument:
  """A document that was retrieved for a question.

  Attributes:
    title: of its article.
    text: of the block, whole.
    probability: p(z given x), between 0 and 1.
    retrieval_utility: log p(y|x,z) - log p(y|x) of the predicted answer y,
      nats; None if it was not measured.
    spans: half-open character ranges of the text to highlight, in order and
      apart: the predicted answer, or where an answer stands
      (answers.answer_spans).
    has_answer: it holds a gold answer; None if that is not known.
    block_id: its row in the corpus; NULL_BLOCK_ID is the null document.
  """

  title: str
  text: str
  probability: float
  retrieval_utility: float | None = None
  spans: Sequence[tuple[int, int]] = ()
  has_answer: bool | None = None
  block_id: int | None = None

  def __post_init__(self):
    last = 0
    for start, stop in self.spans:
      if not last <= start < stop <= len(self.text):
        raise ValueError(
          f'spans of {self.title!r} has ({start}, {stop}), expected half-open '
          f'ranges within 0 to {len(self.text)}, in order and apart.'
        )
      last = stop


@dataclass(frozen=True)
class ExampleAnswer:
  """A question, its answers, and where the prediction comes from.

  Attributes:
    question: its text.
    prediction: the predicted answer; '' for none.
    answers: the gold answers, or regular expressions.
    is_right: the verdict on the prediction.
    documents: what was retrieved, best first.
  """

  question: str
  prediction: str
  answers: Sequence[str]
  is_right: bool
  documents: Sequence[RetrievedDocument] = ()


class _Piece(NamedTuple):
  text: str
  is_marked: bool


def write_report(
  path: str | Path,
  title: str,
  summary_rows: Sequence[SummaryRow] = (),
  curves: Sequence[Curve] = (),
  examples: Sequence[ExampleAnswer] = (),
  notes: Sequence[str] = (),
  config: Mapping[str, Any] | None = None,
  metrics: Sequence[str] | None = None,
) -> None:
  """Writes the report; a reader sees the old file or the new one, whole.

  What is empty or left out has no section. All text is escaped.

  Args:
    path: the HTML file to write; its folder must exist.
    title: heading of the report.
    summary_rows: the table, a row a system.
    curves: curves of the same quantity share a chart, charts in the order in
      which the quantities appear (charts.curves_from_records).
    examples: questions, in the order in which they are shown.
    notes: paragraphs that stand below the table: what was measured, on how many
      questions, what the intervals are of.
    config: name -> JSON value or text: settings, fingerprints, versions.
    metrics: columns of the table; all that the rows have by default.

  Raises:
    ImportError: matplotlib or jinja2 is not installed; both come with the extra
      `report`.
    ValueError: there are more runs than charts can tell apart.
  """
  jinja2 = require('jinja2', 'report')
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader('realm_jax.eval'),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  metrics = tables.metric_names(summary_rows) if metrics is None else metrics
  page = environment.get_template(_TEMPLATE).render(
    title=title,
    metric_labels=[tables.metric_label(name) for name in metrics],
    rows=list(
      zip(
        summary_rows, tables.summary_cells(summary_rows, metrics), strict=True
      )
    ),
    charts=_charts(curves),
    examples=[_example(example) for example in examples],
    num_right=sum(example.is_right for example in examples),
    notes=notes,
    config={key: _as_text(value) for key, value in (config or {}).items()},
  )
  path = Path(path)
  partial = path.with_name(path.name + '.partial')
  partial.write_text(page, encoding='utf-8')
  os.replace(partial, path)


def _charts(curves: Sequence[Curve]) -> list[dict[str, Any]]:
  runs = list(dict.fromkeys(curve.run for curve in curves))
  if len(runs) > charts.NUM_SERIES:
    raise ValueError(
      f'curves has {len(runs)} runs, expected at most {charts.NUM_SERIES}: '
      'more cannot be told apart in a chart. Choose some, or average over '
      'seeds.'
    )
  series = {run: number for number, run in enumerate(runs)}
  by_quantity: dict[str, list[Curve]] = {}
  for curve in curves:
    by_quantity.setdefault(curve.quantity, []).append(curve)
  return [
    {
      'heading': charts.describe(quantity),
      'svg': charts.draw_chart(shown, series),
      'legend': [
        {
          'sample': charts.legend_sample(series[curve.run]),
          'run': curve.run,
          'last': charts.last_value(curve),
        }
        for curve in shown
      ],
    }
    for quantity, shown in by_quantity.items()
  ]


def _example(example: ExampleAnswer) -> dict[str, Any]:
  return {
    'question': example.question,
    'prediction': example.prediction,
    'answers': list(example.answers),
    'is_right': example.is_right,
    'documents': [
      {
        'title': document.title,
        'is_null': document.block_id == NULL_BLOCK_ID,
        'pieces': _pieces(document),
        'probability': document.probability,
        'utility': _signed(document.retrieval_utility),
        'has_answer': document.has_answer,
      }
      for document in example.documents
    ],
  }


def _pieces(document: RetrievedDocument) -> list[_Piece]:
  pieces = []
  last = 0
  for start, stop in document.spans:
    pieces.append(_Piece(document.text[last:start], False))
    pieces.append(_Piece(document.text[start:stop], True))
    last = stop
  pieces.append(_Piece(document.text[last:], False))
  return [piece for piece in pieces if piece.text]


def _signed(nats: float | None) -> str | None:
  if nats is None:
    return None
  text = f'{nats:+.2f}'
  return '0.00' if float(text) == 0 else text


def _as_text(value: Any) -> str:
  if isinstance(value, str):
    return value
  return json.dumps(value, indent=2, ensure_ascii=False, default=str)
