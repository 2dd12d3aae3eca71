"""Which processes may be joined, and settings that differ between them."""

import socket

import pytest

from realm_jax import hosts
from realm_jax.errors import UserError
from realm_jax.settings import as_json, differences
from realm_jax.train.loop import LoopConfig


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (('a:1', 2, None), '--process-id go together: give all three'),
    ((None, 2, 0), 'go together'),
    (('10.0.0.1', 2, 0), r"'10.0.0.1', expected HOST:PORT"),
    (('a:b', 2, 0), r"'a:b', expected HOST:PORT"),
    (('a:1', 0, 0), '--num-processes is 0, expected 1 or more'),
    (('a:1', 2, 2), '--process-id is 2, expected 0 to 1: --num-processes is 2'),
    (('a:1', 2, -1), '--process-id is -1, expected 0 to 1'),
    (('a:99999', 2, 0), 'cannot listen at that port'),
  ],
)
def test_processes_that_cannot_be_are_refused(given, message):
  with pytest.raises(UserError, match=message):
    hosts.start(*given)


def test_a_port_of_another_program_is_refused():
  with socket.create_server(('127.0.0.1', 0)) as other:
    port = other.getsockname()[1]
    with pytest.raises(
      UserError, match=f'localhost:{port}, but .*another port'
    ):
      hosts.start(f'localhost:{port}', 2, 0)


def test_without_a_cluster_all_three_are_asked_for(run_python):
  printed = run_python("""
from realm_jax import hosts
try:
  hosts.start()
except hosts.UserError as error:
  print(error)
""")
  assert 'not a TPU pod' in printed
  assert '--coordinator, --num-processes and --process-id' in printed


def test_one_process_needs_nobody():
  hosts.start('localhost:1', 1, 0)
  assert hosts.is_first()
  assert not hosts.are_several()
  assert not hosts.asked_to_stop(3)
  hosts.check_same('anything', {'a': 1})
  assert hosts.by_first(lambda: (1, 'as it is')) == (1, 'as it is')


def test_settings_differ_where_they_do():
  old = as_json({'loop': LoopConfig(), 'a': (1, 2), 'folder': 'x'})
  new = as_json({'loop': LoopConfig(num_steps=3), 'a': [1, 2], 'folder': 'y'})
  loop = ('loop.num_steps', 1000, 3)
  assert differences(old, new) == [('folder', 'x', 'y'), loop]
  assert differences(old, new, ignored=('folder',)) == [loop]
  assert differences(old, {}, ignored=('folder', 'loop')) == [
    ('a', [1, 2], None)
  ]
