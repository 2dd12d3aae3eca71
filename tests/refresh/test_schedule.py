"""The language of refresh schedules."""

import pytest

from realm_jax.errors import UserError
from realm_jax.refresh.schedule import (
  Off,
  Rolling,
  SecondMesh,
  SeparateProcess,
  Synchronous,
  parse_schedule,
  pass_every,
  takes_training_time,
)
from realm_jax.runs.pretrain import PretrainConfig


@pytest.mark.parametrize(
  ('text', 'schedule', 'steps', 'here'),
  [
    ('off', Off(), 0, False),
    ('off()', Off(), 0, False),
    ('synchronous(every=500)', Synchronous(500), 500, True),
    (' rolling( pass_every = 7 ) ', Rolling(7), 7, True),
    ('second_mesh(every=5, num_devices=3)', SecondMesh(5, 3), 5, False),
    ('second_mesh(every=5)', SecondMesh(5, 1), 5, False),
    (
      'separate_process(at_most_late=0, every=6)',
      SeparateProcess(6, 0),
      6,
      False,
    ),
  ],
)
def test_a_schedule_is_read(text, schedule, steps, here):
  assert parse_schedule(text) == schedule
  assert pass_every(schedule) == steps
  assert takes_training_time(schedule) == here


@pytest.mark.parametrize(
  ('text', 'message'),
  [
    ('', 'cannot be read, expected one of: off, synchronous'),
    ('sometimes', 'cannot be read'),
    ('synchronous(500)', 'cannot be read'),
    ('synchronous(every=500', 'cannot be read'),
    ('synchronous(every=steps)', 'cannot be read'),
    ('synchronous(**{"every": 3})', 'cannot be read'),
    ('__import__("os").getcwd()', 'cannot be read'),
    ('synchronous', r'every is missing; expected synchronous\(every=500\)'),
    ('rolling(every=5)', r"no 'every'; expected rolling\(pass_every=500\)"),
    ('synchronous(every=0)', 'every is 0, expected at least 1'),
    ('synchronous(every=2.5)', 'every is 2.5, expected a whole number'),
    ('synchronous(every=True)', 'every is True, expected a whole number'),
    ('second_mesh(every=5, num_devices=0)', 'num_devices is 0'),
    ('separate_process(every=5)', 'at_most_late is missing'),
  ],
)
def test_what_is_no_schedule_is_refused_before_anything_starts(text, message):
  with pytest.raises(UserError, match=message) as caught:
    PretrainConfig(refresh=text)
  assert repr(text) in str(caught.value)
