"""Run functions configured by gin: names, values, nested dataclasses."""

import dataclasses

import pytest

from realm_jax.config import configured
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig

pytest.importorskip('gin')


def stage(
  corpus: str,
  *,
  model: RealmConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  number: int = 1,
):
  """Stands for a function of realm_jax.runs."""
  return {
    'corpus': corpus,
    'model': model,
    'lengths': lengths,
    'loop': loop,
    'optimizer': optimizer,
    'number': number,
  }


@pytest.fixture
def file(tmp_path):
  def write(*lines, name='run.gin'):
    path = tmp_path / name
    path.write_text(
      '\n'.join(
        [
          'from __gin__ import dynamic_registration',
          'from realm_jax.models import encoder',
          'from realm_jax.models import realm',
          'from realm_jax.train import loop',
          'from realm_jax.train import optimizer',
          *lines,
        ]
      )
    )
    return path

  return write


def run(files=(), settings=()):
  return configured(stage, files, settings)('c')


def test_without_settings_the_defaults_hold():
  result = run()
  assert result['loop'] is None
  assert result['number'] == 1
  assert result['corpus'] == 'c'


def test_a_dataclass_with_bindings_is_handed_over():
  result = run(settings=['loop.LoopConfig.num_steps=500'])
  assert result['loop'] == LoopConfig(num_steps=500)
  assert result['optimizer'] is None


def test_a_dataclass_inside_another_is_handed_over():
  result = run(settings=['encoder.EncoderConfig.hidden_size=24'])
  assert result['model'] == RealmConfig(encoder=EncoderConfig(hidden_size=24))


def test_files_bind_and_later_ones_and_settings_override(file):
  first = file('loop.LoopConfig.num_steps = 5', 'loop.LoopConfig.seed = 3')
  second = file('loop.LoopConfig.num_steps = 6', name='second.gin')
  assert run([first, second])['loop'] == LoopConfig(num_steps=6, seed=3)
  result = run([first, second], ['loop.LoopConfig.num_steps = 7'])
  assert result['loop'] == LoopConfig(num_steps=7, seed=3)


def test_macros_and_tuples_are_understood(file):
  path = file(
    'STEPS = 40',
    'loop.LoopConfig.num_steps = %STEPS',
    "optimizer.OptimizerConfig.slowed = (('embedder', 0.1),)",
    'optimizer.OptimizerConfig.learning_rate = 1',
  )
  result = run([path])
  assert result['loop'].num_steps == 40
  assert result['optimizer'] == OptimizerConfig(
    learning_rate=1, slowed=(('embedder', 0.1),)
  )


def test_arguments_override_what_is_bound():
  function = configured(stage, settings=['loop.LoopConfig.num_steps=5'])
  assert function('c', loop=LoopConfig(num_steps=9))['loop'].num_steps == 9


def test_a_call_does_not_change_the_next_one():
  run(settings=['loop.LoopConfig.num_steps=500'])
  assert run()['loop'] is None


@pytest.mark.parametrize(
  ('setting', 'named'),
  [
    ('loop.LoopConfig.num_step=5', 'num_step'),
    ('loop.LoopConfg.num_steps=5', 'LoopConfg'),
    ('lop.LoopConfig.num_steps=5', 'lop'),
    ('loop.LoopConfig.num_steps=%STEPS', 'STEPS'),
    ('loop.LoopConfig.num_steps=five', 'five'),
    ('loop.LoopConfig.num_steps', 'NAME=VALUE'),
    ('=5', 'NAME=VALUE'),
    ('loop.LoopConfig.num_steps=', 'num_steps'),
  ],
)
def test_a_setting_with_a_misspelt_name_is_refused(setting, named):
  with pytest.raises(UserError) as caught:
    run(settings=[setting])
  assert named in str(caught.value)


@pytest.mark.parametrize(
  ('line', 'named'),
  [
    ('loop.LoopConfig.num_step = 5', 'num_step'),
    ('from realm_jax.train import lop', 'lop'),
    ('import no_such_module', 'no_such_module'),
    ('loop.LoopConfig.num_steps = = 5', 'line 6'),
    ('loop.LoopConfig.num_steps = %STEPS', 'STEPS'),
    ('STEPS = 5', 'STEPS is defined but used nowhere'),
    ("include 'no_such_file.gin'", 'no_such_file'),
  ],
)
def test_a_file_with_a_misspelt_name_is_refused(file, line, named):
  with pytest.raises(UserError) as caught:
    run([file(line)])
  assert named in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_refused(tmp_path):
  with pytest.raises(FileNotFoundError, match=r'no gin file .*none\.gin'):
    run([tmp_path / 'none.gin'])
  (tmp_path / 'bad.gin').write_bytes(b'STEPS = \xff')
  with pytest.raises(UserError, match=r'bad\.gin: invalid UTF-8'):
    run([tmp_path / 'bad.gin'])


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ('loop.LoopConfig.num_steps=0', 'LoopConfig.num_steps is 0'),
    ('encoder.EncoderConfig.num_heads=5', 'a multiple of num_heads'),
    ('loop.LoopConfig.num_steps="many"', "num_steps is 'many', expected int"),
    ('loop.LoopConfig.num_steps=2.5', 'num_steps is 2.5, expected int'),
    ('loop.LoopConfig.num_steps=None', 'num_steps is None, expected int'),
    ('stage.number=True', 'number is True, expected int'),
    ('realm.RealmConfig.encoder=3', 'encoder is 3, expected EncoderConfig'),
  ],
)
def test_a_value_that_is_out_of_range_or_of_another_type_is_refused(
  setting, message
):
  setting = setting.replace('stage.', f'{__name__}.stage.')
  with pytest.raises(UserError) as caught:
    run(settings=[setting])
  assert message in str(caught.value)


@pytest.mark.parametrize(
  'setting',
  [
    'optimizer.OptimizerConfig.learning_rate=1',
    'optimizer.OptimizerConfig.clip_norm=None',
    'optimizer.OptimizerConfig.clip_norm=2',
    "optimizer.OptimizerConfig.frozen=['a']",
  ],
)
def test_values_that_mean_the_same_are_taken(setting):
  settings = [setting]
  if 'learning_rate' not in setting:
    settings.append('optimizer.OptimizerConfig.learning_rate=0.5')
  assert dataclasses.is_dataclass(run(settings=settings)['optimizer'])


def test_a_missing_setting_that_has_no_default_is_named():
  with pytest.raises(UserError, match='learning_rate'):
    run(settings=['optimizer.OptimizerConfig.num_warmup_steps=5'])


def test_an_error_inside_keeps_its_class_and_its_message():
  """gin wraps what is raised under it."""

  function = configured(failing, settings=['loop.LoopConfig.num_steps=5'])
  for error in (
    UserError('u is 3, expected 4.'),
    FileNotFoundError('no f'),
    KeyboardInterrupt('stopped'),
  ):
    with pytest.raises(type(error)) as caught:
      function(error)
    assert str(caught.value) == str(error)


def failing(error: BaseException, loop: LoopConfig | None = None):
  """Stands for a function of realm_jax.runs that does not succeed."""
  del loop
  raise error
