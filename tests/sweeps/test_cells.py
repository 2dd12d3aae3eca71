import pytest

from realm_jax.errors import UserError
from realm_jax.sweeps.cells import CellConfig, SweepConfig, cells_of

STEPS = 'loop.LoopConfig.num_steps'


def test_axes_span_cells_and_what_is_left_out_is_not_there():
  config = SweepConfig(
    axes={
      STEPS: [10, 20],
      'masking': {'salient': [], 'tokens': ['a.B.masking="random_token"']},
    },
    leave_out=({STEPS: 20, 'masking': ['tokens']},),
    reference='num_steps 10, masking salient',
  )
  cells = cells_of(config)
  assert [cell.name for cell in cells] == [
    'num_steps 10, masking salient',
    'num_steps 10, masking tokens',
    'num_steps 20, masking salient',
  ]
  assert cells[1].settings == (f'{STEPS}=10', 'a.B.masking="random_token"')
  assert cells[1].labels == {STEPS: '10', 'masking': 'tokens'}
  assert cells[1].slug == 'num-steps-10-masking-tokens'


def test_of_a_single_axis_the_label_is_the_name():
  cells = cells_of(SweepConfig(axes={'a.B.objective': ['x', 'y']}))
  assert [cell.name for cell in cells] == ['x', 'y']
  assert cells[1].settings == ("a.B.objective='y'",)


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'axes': {}}, 'expected at least one axis'),
    ({'axes': {'x': []}}, 'expected at least one axis'),
    ({'axes': {'x': 3}}, 'Axis x is 3, expected a list'),
    ({'axes': {'x': [1, 1]}}, 'Axis x has a value twice'),
    ({'axes': {'x': {'a': 'b=1'}}}, "'a' is 'b=1', expected a list"),
    ({'axes': {'x': {'a': ['b']}}}, 'expected a list of settings'),
    ({'axes': {'x': {'A b': [], 'a-B': []}}}, 'have the same letters'),
    ({'seeds': ()}, 'expected different numbers'),
    ({'seeds': (1, 1)}, 'expected different numbers'),
    ({'metrics': ('exact_match',)}, 'expected start/METRIC or final/METRIC'),
    ({'leave_out': ({'y': 1},)}, "names axis 'y', expected one of x"),
    ({'leave_out': ({'x': 3},)}, "names x '3', expected one of 1, 2"),
    ({'leave_out': ({},)}, 'expected axis -> label'),
    ({'leave_out': ({'x': [1, 2]},)}, 'leaves no cell'),
    ({'reference': 'z'}, "is 'z', expected one of '1', '2'"),
  ],
)
def test_a_sweep_that_makes_no_sense_is_refused(changes, message):
  with pytest.raises(UserError, match=message):
    cells_of(SweepConfig(**{'axes': {'x': [1, 2]}, **changes}))


@pytest.mark.parametrize('name', ['retriever', 'reader'])
def test_parts_that_are_not_known_are_refused(name):
  with pytest.raises(UserError, match=f"CellConfig.{name} is 'spam'"):
    CellConfig(**{name: 'spam'})
