import json
import math

import pytest

from realm_jax.train.reporting import (
  METRICS_FILE,
  Reporter,
  read_metrics,
  warnings_of,
)

HEALTHY = {
  'distinct_blocks': 0.6,
  'retrieval_entropy': 0.7 * math.log(4),
  'null_mass': 0.3,
}


def test_a_healthy_record_has_no_warning():
  assert warnings_of(HEALTHY, 4) == []
  assert warnings_of({'loss': 3.0}, 4) == []


@pytest.mark.parametrize(
  ('changed', 'message'),
  [
    ({'distinct_blocks': 0.05}, 'collapsing: only 5% of the documents'),
    ({'retrieval_entropy': math.log(4)}, 'nearly uniform'),
    ({'retrieval_entropy': 0.001}, 'nearly one document'),
    ({'null_mass': 0.95}, 'null document has 95% of'),
  ],
)
def test_a_collapse_is_told_in_words(changed, message):
  (warning,) = warnings_of({**HEALTHY, **changed}, 4)
  assert message in warning


def test_with_one_document_beside_the_null_document_entropy_is_not_judged():
  assert warnings_of({'retrieval_entropy': math.log(2)}, 2) == []


def reporter(run, first_step=0):
  return Reporter(run, 'ict', 9, first_step, num_candidates=4)


def test_records_are_written_one_a_line_and_read_back(tmp_path):
  writer = reporter(tmp_path)
  writer.report(2, {'loss': 3, 'accuracy': 0.5})
  writer.advance(2)
  writer.report(4, {'loss': 2.5})
  writer.close()
  lines = (tmp_path / METRICS_FILE).read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [2, 4]
  assert read_metrics(tmp_path)[0] == {'step': 2, 'loss': 3.0, 'accuracy': 0.5}
  assert list((tmp_path / 'tensorboard').iterdir())


def test_tokens_become_a_rate(tmp_path):
  writer = reporter(tmp_path)
  writer.report(2, {'loss': 3.0, 'tokens': 100})
  writer.close()
  (record,) = read_metrics(tmp_path)
  assert record['tokens_per_second'] > 0
  assert 'tokens' not in record


def test_a_resumed_run_writes_its_later_records_anew(tmp_path):
  writer = reporter(tmp_path)
  for step in (0, 2, 4, 6):
    writer.report(step, {'loss': step})
  writer.close()
  with open(tmp_path / METRICS_FILE, 'a') as stream:
    stream.write('{"step": 8, "lo')  # what a kill leaves
  writer = reporter(tmp_path, first_step=4)
  assert [r['step'] for r in read_metrics(tmp_path)] == [0, 2, 4]
  writer.report(6, {'loss': 60})
  writer.close()
  assert [r['loss'] for r in read_metrics(tmp_path)] == [0, 2, 4, 60]


def test_a_run_started_over_has_no_earlier_records(tmp_path):
  writer = reporter(tmp_path)
  writer.report(0, {'loss': 1.0})
  writer.close()
  reporter(tmp_path).close()
  assert read_metrics(tmp_path) == []


def test_a_run_without_metrics_has_no_records(tmp_path):
  assert read_metrics(tmp_path / 'none') == []


def test_a_warning_is_printed_once(tmp_path, monkeypatch):
  from realm_jax.train import reporting

  printed = []
  monkeypatch.setattr(
    reporting.console, 'print', lambda *texts: printed.extend(texts)
  )
  writer = reporter(tmp_path)
  for step in (1, 2):
    writer.report(step, {'distinct_blocks': 0.01 * step})
  writer.report(3, {'null_mass': 0.99})
  writer.close()
  printed = [text for text in printed if isinstance(text, str)]
  assert len(printed) == 2
  assert 'step 1: The retriever may be collapsing' in printed[0]
