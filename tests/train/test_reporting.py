import io
import json
import math
import re
import struct

import pytest
from rich.console import Console
from tensorboardX.proto import event_pb2

from realm_jax.train import reporting
from realm_jax.train.reporting import (
  METRICS_FILE,
  Reporter,
  read_metrics,
)

PATIENCE = 5  # of what is judged by every record


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


def board_events(run):
  """What is written for TensorBoard."""
  (path,) = (run / 'tensorboard').iterdir()
  data = path.read_bytes()
  while data:  # length, its checksum, the event, its checksum
    (length,) = struct.unpack('<Q', data[:8])
    yield event_pb2.Event.FromString(data[12 : 12 + length])
    data = data[16 + length :]


def test_tensorboard_keeps_what_a_resumed_run_does_not_write_anew(tmp_path):
  kept = []
  for first_step, steps in ((0, (0, 2, 4, 6)), (4, (6, 8))):
    run = tmp_path / str(first_step)
    run.mkdir()
    writer = reporter(run, first_step)
    for step in steps:
      writer.report(step, {'loss': first_step + step})
    writer.close()
    for event in board_events(run):
      # At the start of a writer TensorBoard drops what it had from there on.
      if event.session_log.status == event_pb2.SessionLog.START:
        kept = [(step, loss) for step, loss in kept if step < event.step]
      kept += [(event.step, v.simple_value) for v in event.summary.value]
  assert kept == [(0, 0), (2, 2), (4, 4), (6, 10), (8, 12)]


@pytest.fixture
def printed(monkeypatch):
  """The warnings that are printed."""
  texts = []

  def show(*values):
    texts.extend(value for value in values if isinstance(value, str))

  monkeypatch.setattr(reporting.console, 'print', show)
  return texts


def test_a_warning_is_printed_once_though_its_figures_change(tmp_path, printed):
  writer = reporter(tmp_path)
  for step in range(1, 3 * PATIENCE):
    writer.report(step, {'loss': 1.0, 'null_mass': 0.99 - 0.005 * step})
  writer.close()
  (text,) = printed
  assert f'step {PATIENCE}: The null document has' in text


def test_each_kind_of_warning_is_printed(tmp_path, printed):
  writer = reporter(tmp_path)
  for step in range(2 * PATIENCE):
    entropy = math.log(4) if step < PATIENCE else 0.001
    writer.report(step, {'loss': 1.0, 'retrieval_entropy': entropy})
  writer.close()
  uniform, one = printed
  assert 'nearly uniform' in uniform
  assert 'nearly one document' in one


def test_what_does_not_last_is_not_warned_of(tmp_path, printed):
  writer = reporter(tmp_path)
  for step in range(1, 4 * PATIENCE):
    mass = 0.99 if step % PATIENCE else 0.5
    writer.report(step, {'loss': 1.0, 'null_mass': mass})
  writer.close()
  assert printed == []


def test_an_event_between_records_does_not_break_a_row(tmp_path, printed):
  writer = reporter(tmp_path)
  for step in range(PATIENCE):
    writer.report(step, {'loss': 1.0, 'null_mass': 0.99})
    writer.report(step, {'probe_recall@5': 0.5})
  writer.close()
  assert len(printed) == 1


def test_a_reader_that_does_not_read_is_told_of_after_a_few_measurements(
  tmp_path, printed
):
  writer = reporter(tmp_path)
  losses = {'held_out_loss': 3.0, 'held_out_shuffled_loss': 3.0}
  # reads once in between, and the row begins anew
  for number, reading in enumerate([0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0]):
    writer.report(500 * number, {**losses, 'held_out_reading': reading})
    writer.report(500 * number + 10, {'loss': 3.0, 'null_mass': 0.5})
  writer.close()
  (text,) = printed
  assert text.startswith('[yellow]step 2500: The reader seems to ignore')
  texts = [
    (event.step, value.tensor.string_val[0].decode())
    for event in board_events(tmp_path)
    for value in event.summary.value
    if value.tag.startswith('warnings')
  ]
  assert [step for step, _ in texts] == [2500]
  assert 'ignore the documents' in texts[0][1]


def test_steps_and_metrics_are_shown_whole_in_80_columns(tmp_path, monkeypatch):
  screen = io.StringIO()
  monkeypatch.setattr(
    reporting, 'console', Console(file=screen, width=80, force_terminal=True)
  )
  writer = Reporter(tmp_path, 'closed_book', 20000, 0)
  metrics = {
    'loss': 13.25,
    'retrieval_utility': -0.12,
    'probe_recall@5': 0.412,
    'index_age': 1234,
  }
  writer.report(12345, metrics)
  writer.report(12350, {'tokens': 0})
  writer.advance(12350)
  writer.close()
  text = re.sub(r'\x1b\[[0-9?;]*[a-zA-Z]', '', screen.getvalue())
  *_, bar, line = text.replace('\r', '\n').strip().splitlines()
  assert bar.startswith('closed_book ━')
  assert '12350/20000' in bar
  assert re.sub(' +', ' ', line.strip()) == (
    'loss 13.250 utility -0.12 probe R@5 0.412 tokens/s 0 index age 1234'
  )
