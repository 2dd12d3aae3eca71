"""Run functions configured by gin: names, values, nested dataclasses."""

import dataclasses
import os
from pathlib import Path

import pytest

from realm_jax.config import configured
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.finetune import finetune
from realm_jax.runs.ict import ict
from realm_jax.runs.pretrain import pretrain
from realm_jax.runs.quickstart import QuickstartConfig
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig

gin = pytest.importorskip('gin')

REPOSITORY = Path(__file__).resolve().parent.parent
LAPTOP = REPOSITORY / 'gin_configs' / 'runs' / 'laptop.gin'
OFFICIAL = LAPTOP.with_name('official.gin')


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
    ('loop.LoopConfig.num_steps=-1', 'LoopConfig.num_steps is -1'),
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


SCOPED = (
  f'{__name__}.stage.loop = @first/loop.LoopConfig()',
  f'{__name__}.stage.optimizer = @first/optimizer.OptimizerConfig()',
  'first/loop.LoopConfig.num_steps = 5',
  'first/loop.LoopConfig.seed = 3',
  'second/loop.LoopConfig.num_steps = 6',
  'optimizer.OptimizerConfig.bias_correction = True',
  'first/optimizer.OptimizerConfig.learning_rate = 0.5',
)


@pytest.fixture
def scoped(file):
  """A file that binds in scopes, as one file for several commands does."""
  return file(f'import {__name__}', *SCOPED)


def test_what_is_bound_in_a_scope_is_joined_with_what_is_bound_without(scoped):
  result = run([scoped])
  assert result['loop'] == LoopConfig(num_steps=5, seed=3)
  assert result['optimizer'] == OptimizerConfig(0.5, bias_correction=True)


def like_stage(
  loop: LoopConfig | None = None, optimizer: LoopConfig | None = None
):
  """Takes one dataclass that `stage` takes, and another by a name of it."""
  return loop, optimizer


def test_a_function_takes_over_what_is_bound_to_one_that_it_is_like(scoped):
  settings = ['first/loop.LoopConfig.seed=4']
  call = configured(like_stage, [scoped], settings, like=stage)
  assert call() == (LoopConfig(num_steps=5, seed=4), None)


@pytest.mark.parametrize(
  ('settings', 'num_steps'),
  [
    (['loop.LoopConfig.num_steps=7'], 7),
    (['first/loop.LoopConfig.num_steps=8'], 8),
    (['first/loop.LoopConfig.num_steps=8', 'loop.LoopConfig.num_steps=7'], 8),
  ],
)
def test_a_setting_overrides_what_a_file_binds_in_a_scope(
  scoped, settings, num_steps
):
  assert run([scoped], settings)['loop'] == LoopConfig(num_steps, seed=3)


@pytest.mark.parametrize(
  ('setting', 'message'),
  [
    ('loop.LoopConfig.num_steps="many"', "num_steps is 'many', expected int"),
    (
      'first/loop.LoopConfig.num_steps="many"',
      "first/LoopConfig.num_steps is 'many', expected int",
    ),
    ('second/loop.LoopConfig.num_steps=7', 'nothing from scope second'),
    ('frist/loop.LoopConfig.num_steps=7', 'expected first'),
  ],
)
def test_a_setting_in_a_scope_is_checked(scoped, setting, message):
  with pytest.raises(UserError) as caught:
    run([scoped], [setting])
  assert message in str(caught.value)


def test_a_scope_that_lacks_what_has_no_default_is_refused(file):
  path = file(f'import {__name__}', *SCOPED[:-1])
  with pytest.raises(
    UserError, match=r'first/optimizer\.OptimizerConfig\.learning_rate has'
  ):
    run([path])


def test_an_include_is_found_beside_the_file_that_includes(
  file, tmp_path, monkeypatch
):
  for folder in ('deep', 'deep/deeper', 'elsewhere'):
    (tmp_path / folder).mkdir()
  file('loop.LoopConfig.seed = 3', name='deep/deeper/inner.gin')
  file("include 'deeper/inner.gin'", name='deep/outer.gin')
  file('loop.LoopConfig.seed = 4', name='elsewhere/inner.gin')
  monkeypatch.chdir(tmp_path / 'elsewhere')
  path = file(
    "include 'deep/outer.gin'",
    "include 'inner.gin'",
    'loop.LoopConfig.num_steps = 6',
    name='run.gin',
  )
  expected = LoopConfig(num_steps=6, seed=4)  # found in the working directory
  assert run([path])['loop'] == expected
  assert run([os.path.relpath(path)])['loop'] == expected
  # One beside the file comes before that of the working directory.
  file('loop.LoopConfig.seed = 5', name='inner.gin')
  assert run([path])['loop'] == LoopConfig(num_steps=6, seed=5)


def test_an_included_file_that_is_no_text_is_named(file, tmp_path):
  (tmp_path / 'bad.gin').write_bytes(b'STEPS = \xff')
  with pytest.raises(UserError, match=r'bad\.gin: invalid UTF-8'):
    run([file("include 'bad.gin'")])


def bound(function, settings=(), path=LAPTOP) -> dict:
  """Parameter -> value, of a command with a gin file."""
  configured(function, [path], settings)
  return gin.get_bindings(function)


@pytest.mark.parametrize('function', [ict, pretrain, finetune])
def test_laptop_binds_what_the_quickstart_has(function, tmp_path, monkeypatch):
  """They differ in how often is logged and saved, and in spare positions."""
  monkeypatch.chdir(tmp_path)
  quickstart = QuickstartConfig()
  stage = function.__name__
  values = bound(function)
  assert values['lengths'] == quickstart.lengths
  assert values['config'] == getattr(quickstart, stage)
  assert values['optimizer'] == getattr(quickstart, f'{stage}_optimizer')
  loop = getattr(quickstart, f'{stage}_loop')
  assert values['loop'] == dataclasses.replace(
    values['loop'], num_steps=loop.num_steps, seed=loop.seed
  )
  if function is ict:
    encoder = quickstart.model.encoder
    max_positions = values['model'].encoder.max_positions
    # Longer documents than the quickstart's are usual.
    assert max_positions >= encoder.max_positions
    assert values['model'] == dataclasses.replace(
      quickstart.model,
      encoder=dataclasses.replace(encoder, max_positions=max_positions),
    )


def test_a_setting_overrides_the_scopes_of_laptop():
  assert bound(pretrain, ['loop.LoopConfig.num_steps=2000'])[
    'loop'
  ] == dataclasses.replace(bound(pretrain)['loop'], num_steps=2000)


@pytest.mark.parametrize(
  'function, learning_rate, query_len',
  [(ict, 1e-4, 64), (pretrain, 3e-5, 96), (finetune, 1e-5, 64)],
)
def test_official_binds_what_the_original_does(
  function, learning_rate, query_len
):
  values = bound(function, path=OFFICIAL)
  assert values['lengths'].query_len == query_len
  assert values['lengths'].document_len == 288
  optimizer = values['optimizer']
  assert optimizer.learning_rate == learning_rate
  assert (optimizer.schedule, optimizer.bias_correction) == ('official', False)
  if function is ict:
    assert values['model'] == RealmConfig()
  if function is pretrain:
    config = values['config']
    assert (config.objective, config.level_null) == ('marginal_token', False)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    ('bfloat16', IndexConfig(dtype='bfloat16', rescore=False, audit_every=100)),
    ('scann', IndexConfig(kind='scann', audit_every=100)),
  ],
)
def test_an_index_file_stands_beside_a_run_file(name, expected):
  index = REPOSITORY / 'gin_configs' / 'index' / f'{name}.gin'
  configured(pretrain, [LAPTOP, index], [])
  values = gin.get_bindings(pretrain)
  assert values['index'] == expected
  assert values['config'] == QuickstartConfig().pretrain


@pytest.mark.parametrize(
  ('name', 'num_steps'),
  [
    ('nq', 2 * 79_168),
    ('webquestions', 20 * 3_417),
    ('triviaqa', 2 * 78_785),
    ('squad', 2 * 78_713),
    ('curatedtrec', 20 * 1_353),
  ],
)
def test_a_file_of_a_data_set_has_the_papers_settings(name, num_steps):
  path = REPOSITORY / 'gin_configs' / 'datasets' / f'{name}.gin'
  configured(finetune, [LAPTOP, path], [])
  values = gin.get_bindings(finetune)
  config = values['config']
  assert (config.batch_size, config.beam_size, config.num_read) == (1, 5000, 5)
  expected = 'exact_match' if name == 'curatedtrec' else 'span_exact_match'
  assert config.dev_metric == expected
  assert values['loop'].num_steps == num_steps
  assert values['optimizer'].learning_rate == 1e-5
