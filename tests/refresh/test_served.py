"""The log of what was searched."""

import pytest

from realm_jax.errors import UserError
from realm_jax.refresh.served import (
  Served,
  ServedLog,
  identify_served,
  read_served,
)


@pytest.fixture
def log(tmp_path):
  log = ServedLog(tmp_path)
  for line in (Served(0, 0, 'off'), Served(7, 4), Served(12, 8)):
    log.append(line)
  return log


def test_a_log_is_read_as_it_was_written(log, tmp_path):
  lines = [Served(0, 0, 'off'), Served(7, 4), Served(12, 8)]
  assert read_served(tmp_path) == lines
  assert read_served(tmp_path / 'served.jsonl') == lines
  assert ServedLog(tmp_path).lines == lines == log.lines
  assert log.last_step == 12
  assert [log.index_step(step) for step in (0, 6, 7, 12)] == [0, None, 4, 8]
  assert log.needs(4, 7)
  assert not log.needs(4, 8)


def test_a_line_that_was_torn_is_left_out_and_written_anew(log, tmp_path):
  with open(tmp_path / 'served.jsonl', 'a', encoding='utf-8') as stream:
    stream.write('{"step": 15, "index')
  assert read_served(tmp_path)[-1] == Served(12, 8)
  again = ServedLog(tmp_path)
  again.append(Served(15, 12))
  assert read_served(tmp_path)[-2:] == [Served(12, 8), Served(15, 12)]


def test_what_is_there_is_not_written_twice(log, tmp_path):
  log.append(Served(7, 4))
  assert len(read_served(tmp_path)) == 3


def test_the_lines_of_another_run_are_taken_over(log, tmp_path):
  other = tmp_path / 'other'
  other.mkdir()
  ServedLog(other).copy(read_served(tmp_path))
  assert read_served(other) == log.lines
  assert identify_served(other)['sha256'] == identify_served(tmp_path)['sha256']


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('{"loss": 3}\n', 'no log of what a pre-training run searched'),
    ('not JSON\n', 'no log of what'),
    ('{"step": 4, "index_step": 0}\n', r'steps of .* are \[4\], expected 0'),
    (
      '{"step": 0, "index_step": 0}\n{"step": 0, "index_step": 0}\n',
      'expected 0 and rising',
    ),
    ('', 'expected 0 and rising'),
  ],
)
def test_what_is_no_log_is_refused(tmp_path, text, message):
  path = tmp_path / 'served.jsonl'
  path.write_text(text)
  with pytest.raises(UserError, match=message):
    read_served(path)


def test_a_log_that_is_not_there_is_refused(tmp_path):
  with pytest.raises(UserError, match='does not exist, expected the log'):
    read_served(tmp_path)
