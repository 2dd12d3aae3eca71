"""The plan reads what pretrain reads, and refuses what cannot fit."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
import tiny
from rich.console import Console

from realm_jax import cli
from realm_jax.costs.accelerators import Accelerator
from realm_jax.costs.estimate import total
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.runs.plan import duration, plan, quantity, workload
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.sharding import MeshConfig
from realm_jax.train.loop import LoopConfig

RUNS = Path(__file__).resolve().parents[2] / 'gin_configs' / 'runs'
LAPTOP = str(RUNS / 'laptop.gin')
TINY = {
  'accelerator': 'h100',
  'num_blocks': 1000,
  'model': tiny.MODEL,
  **{name: tiny.PRETRAIN[name] for name in ('config', 'lengths', 'loop')},
}


CPU = Accelerator('cpu', 64e9, None, 1e11, 1.0, 1e10, 'made up')


def planned(**options) -> dict:
  return plan(**{**TINY, 'console': tiny.quiet(), **options})


def printed(capsys, *arguments: str) -> dict:
  """What `realm-jax plan --json` prints."""
  cli.run(['plan', '--accelerator', 'h100', '--json', *arguments])
  return json.loads(capsys.readouterr().out)


def test_a_file_of_pretrain_is_read_with_its_scopes(capsys):
  found = printed(capsys, '--gin', LAPTOP, '--num-blocks', '3000')
  assert found['run']['num_steps'] == 350  # ict has 600
  assert found['shape'] == {
    'batch_size': 32,
    'num_candidates': 6,
    'query_len': 48,
    'document_len': 64,
    'joint_len': 112,
    'max_masks': 8,
    'num_microbatches': 1,
  }
  assert found['parameters']['embedder'] < 5e6


def test_settings_override_the_file(capsys):
  found = printed(
    capsys,
    '--gin',
    LAPTOP,
    '--set',
    'pretrain/loop.LoopConfig.num_steps=70',
    '--set',
    'pretrain.PretrainConfig.batch_size=2',
    '--set',
    'encoder.EncoderConfig.num_layers=1',
  )
  assert found['run']['num_steps'] == 70
  assert found['shape']['batch_size'] == 2
  two_layers = printed(capsys, '--gin', LAPTOP)['parameters']['reader']
  assert found['parameters']['reader'] < two_layers


def test_a_setting_of_another_name_is_refused():
  with pytest.raises(UserError, match='num_step'):
    cli.run(['plan', '--gin', LAPTOP, '--set', 'loop.LoopConfig.num_step=7'])


def header_of(name: str) -> str:
  """The comment that a run file opens with, on one line."""
  lines = (RUNS / f'{name}.gin').read_text().split('\n')
  comment = lines[: next(n for n, line in enumerate(lines) if line[:1] != '#')]
  return ' '.join(line.removeprefix('#').strip() for line in comment)


# For a machine that is measured, time is not compared.
@pytest.mark.slow
@pytest.mark.parametrize(
  'name', sorted(path.stem for path in RUNS.glob('*.gin'))
)
def test_a_run_file_opens_with_what_the_plan_says(name, capsys, monkeypatch):
  monkeypatch.setattr('realm_jax.costs.accelerators.measured_cpu', lambda: CPU)
  header = header_of(name)
  command, expected = re.search(r'realm-jax (plan [^;]*);(.*)', header).groups()
  monkeypatch.chdir(RUNS.parents[1])
  cli.run([*command.split(), '--json'])
  found = json.loads(capsys.readouterr().out)
  assert found['fits'] is True
  prefixes = {'G': 1e9, 'T': 1e12, 'P': 1e15}
  flops = re.search(r'a step of ([\d.]+) ([GTP])FLOP', expected)
  assert total(found['step'])['flops'] == pytest.approx(
    float(flops[1]) * prefixes[flops[2]], rel=0.03
  )
  gibibytes = float(re.search(r'([\d.]+) GiB', expected)[1])
  assert sum(found['memory'].values()) / 2**30 == pytest.approx(
    gibibytes, rel=0.05
  )
  seconds = re.search(r'FLOP in ([\d.]+) (m?s)', expected)
  if '--accelerator cpu' not in command:
    unit = {'s': 1, 'ms': 1e-3}[seconds[2]]
    assert found['run']['step_seconds'] == pytest.approx(
      float(seconds[1]) * unit, rel=0.1
    )


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'accelerator', 'num_devices', 'settings'),
  [
    ('paper', 'v4', 128, ()),
    ('paper', 'v4', 64, ('num_microbatches=2',)),
    ('h100', 'h200', 1, ()),
    ('h100', 'h100', 1, ('batch_size=24',)),
  ],
)
def test_they_fit_where_else_they_say(
  name, accelerator, num_devices, settings, capsys
):
  mesh = RUNS.parent / 'mesh' / 'fsdp.gin'
  options = ['--num-devices', str(num_devices), '--gin', str(mesh)]
  for setting in settings:
    options += ['--set', f'pretrain.PretrainConfig.{setting}']
  file = str(RUNS / f'{name}.gin')
  cli.run(
    ['plan', '--json', '--gin', file, *options, '--accelerator', accelerator]
  )
  assert json.loads(capsys.readouterr().out)['fits'] is True


def test_what_does_not_fit_is_refused_with_what_is_largest():
  options = {'config': PretrainConfig(batch_size=10**7)}
  with pytest.raises(UserError, match=r'GiB on each of 1 h100.*activations'):
    planned(**options)
  found = planned(**options, force=True)
  assert found['fits'] is False


def test_an_index_that_does_not_fit_is_named():
  with pytest.raises(UserError, match=r'index .*IndexConfig\.dtype'):
    planned(num_blocks=10**11)
  scann = planned(num_blocks=10**10, index=IndexConfig(kind='scann'))
  assert scann['memory']['index'] == 0


def test_devices_share_the_work_and_the_memory():
  mesh = MeshConfig()
  one, four = (
    planned(mesh=mesh, num_devices=1),
    planned(mesh=mesh, num_devices=4),
  )
  for part in ('step', 'retrieve', 'refresh'):
    assert total(four[part])['flops'] == total(one[part])['flops']
    assert total(four[part])['seconds'] == pytest.approx(
      total(one[part])['seconds'] / 4
    )
  assert four['memory']['activations'] == one['memory']['activations'] / 4
  assert four['memory']['gradients'] == one['memory']['gradients']


def test_a_mesh_divides_what_its_rules_divide():
  one = planned()['memory']
  stored = one['parameters']
  whole = planned(mesh=MeshConfig(4, rules='replicated'))['memory']
  assert whole['parameters'] == whole['gradients'] == stored
  assert whole['optimizer'] == one['optimizer']
  parts = planned(mesh=MeshConfig(4))['memory']
  # in four parts, and gathered; not all axes are divided by four
  assert 1.25 * stored <= parts['parameters'] < 1.3 * stored
  assert parts['gradients'] == stored
  tensor = planned(mesh=MeshConfig(1, 2, 'tensor'))['memory']
  assert 0.5 * stored < tensor['parameters'] < 0.75 * stored
  assert tensor['parameters'] == tensor['gradients']
  assert tensor['activations'] < one['activations']


def test_microbatches_take_the_memory_of_a_part():
  config = dataclasses.replace(TINY['config'], num_microbatches=4)
  whole, parts = planned(), planned(config=config)
  assert parts['memory']['activations'] == whole['memory']['activations'] / 4
  assert parts['memory']['gradients'] == 2 * whole['memory']['gradients']
  assert parts['step']['reader'] == whole['step']['reader']
  # a plan that is refused for its activations fits in parts
  tight = dataclasses.replace(config, batch_size=2**21, num_microbatches=1)
  with pytest.raises(UserError, match=r'activations .*num_microbatches'):
    planned(config=tight)
  assert planned(config=dataclasses.replace(tight, num_microbatches=2**15))


@pytest.mark.slow
def test_layers_that_are_computed_again_cost_time_and_save_memory():
  deep = dataclasses.replace(tiny.ENCODER, num_layers=6)
  model = dataclasses.replace(tiny.MODEL, encoder=deep)

  def of(remat):
    encoder = dataclasses.replace(deep, remat=remat)
    return planned(model=dataclasses.replace(model, encoder=encoder))

  none, dots, full = (of(remat) for remat in ('none', 'dots', 'full'))
  memory = [p['memory']['activations'] for p in (none, dots, full)]
  assert memory[0] > memory[1] > memory[2]
  assert 'computed again' not in none['step']
  again = full['step']['computed again']
  assert again['flops'] > dots['step']['computed again']['flops'] > 0
  # a third of what the layers take: forward once more
  reader = full['step']['reader']['flops'] + full['step']['documents']['flops']
  assert 0.3 * reader < again['flops'] < 0.37 * reader
  assert of('full')['run']['step_seconds'] > none['run']['step_seconds']


@pytest.mark.slow
def test_fused_attention_holds_no_scores():
  encoder = dataclasses.replace(
    tiny.ENCODER,
    num_layers=4,
    dtype='bfloat16',
    attention_dropout_rate=0.0,
  )
  fused = planned(model=dataclasses.replace(tiny.MODEL, encoder=encoder))
  apart = dataclasses.replace(encoder, attention='xla')
  held = planned(model=dataclasses.replace(tiny.MODEL, encoder=apart))
  assert fused['memory']['activations'] < held['memory']['activations']
  assert fused['step']['reader']['bytes'] < held['step']['reader']['bytes']
  assert fused['step']['reader']['flops'] == held['step']['reader']['flops']
  # no such kernel
  on_tpu = {
    'accelerator': 'v4',
    'model': dataclasses.replace(tiny.MODEL, encoder=encoder),
  }
  assert planned(**on_tpu)['memory'] == held['memory']


def test_memory_of_state_is_four_bytes_a_number():
  found = planned()
  count = sum(found['parameters'].values())
  assert found['memory']['parameters'] == 4 * count
  # Two moments of what is trained: not of the span head.
  assert 0.8 * 8 * count < found['memory']['optimizer'] < 8 * count + 100


def test_the_run_is_its_steps_and_its_refreshes():
  config = PretrainConfig(
    batch_size=4, num_candidates=3, refresh='synchronous(every=4)'
  )
  run = planned(config=config, loop=LoopConfig(num_steps=11))['run']
  # Before the first step, after 4 and 8, and after the last.
  assert run['num_refreshes'] == 4
  assert run['seconds'] == pytest.approx(
    11 * (run['step_seconds'] + run['retrieve_seconds'])
    + 4 * run['refresh_seconds']
  )
  never = PretrainConfig(batch_size=4, num_candidates=3, refresh='off')
  assert planned(config=never)['run']['num_refreshes'] == 1


def test_the_corpus_sets_blocks_and_vocabulary(tiny_corpus):
  from realm_jax.data.corpus import Corpus

  opened = Corpus.open(tiny_corpus)
  found = planned(corpus=str(tiny_corpus))
  assert found['num_blocks'] == opened.num_blocks
  model = tiny.with_vocab_of(opened)
  same = planned(model=model, num_blocks=opened.num_blocks)
  assert found['parameters'] == same['parameters']


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'accelerator': 'h101'}, "'h101' is no accelerator .* h100, h200"),
    ({'num_devices': 0}, 'num_devices is 0'),
    ({'num_devices': 2}, r'a run without a mesh uses one\. Add --gin'),
    (
      {'mesh': MeshConfig(), 'num_devices': 3},
      'batch_size is 4, expected a multiple',
    ),
    (
      {'mesh': MeshConfig(), 'accelerator': 'cpu', 'num_devices': 2},
      'expected 1 with .* cpu',
    ),
    ({'mesh': MeshConfig()}, '0 is as many h100 .* with --num-devices'),
    (
      {'mesh': MeshConfig(2, 2, 'tensor'), 'num_devices': 3},
      'asks for 4 devices .*, but there are 3',
    ),
    (
      {'mesh': MeshConfig(1, 4, 'tensor')},
      'MeshConfig.model is 4, expected a divisor of .*num_heads.* 2',
    ),
    ({'num_blocks': 0}, 'num_blocks is 0'),
  ],
)
def test_bad_arguments_are_refused(options, message):
  with pytest.raises(UserError, match=message):
    planned(**options)


def test_texts_longer_than_the_positions_are_refused():
  with pytest.raises(UserError, match='max_positions'):
    workload(model=tiny.MODEL)


def test_the_cpu_is_measured(monkeypatch):
  monkeypatch.setattr('realm_jax.bench.floors._SIZE', {'cpu': 64})
  monkeypatch.setattr('realm_jax.bench.floors._READ_BYTES', {'cpu': 1 << 20})
  found = planned(accelerator='cpu')
  assert found['accelerator']['flops_per_second'] > 0
  assert 'measured' in found['accelerator']['source']


# Prints what the compiler says a step holds, and the plan.
MEMORY = """
from realm_jax.bench import steps
from realm_jax.costs.memory import device_memory
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.plan import workload
from realm_jax.runs.pretrain import PretrainConfig

encoder = EncoderConfig(
  vocab_size=500, hidden_size=64, num_layers=3, num_heads=4,
  feed_forward_size=256)
work = workload(
  RealmConfig(encoder, embed_dim=16),
  PretrainConfig(batch_size=2, num_candidates=4), num_blocks=1)
_, held = steps.step_calls(work, 'marginal_span', num_blocks=0)
print(held, sum(device_memory(work).values()))
"""


@pytest.mark.long
def test_the_memory_of_a_step_is_near_what_the_compiler_says(run_python):
  # As a user compiles it.
  printed = run_python(MEMORY, JAX_DISABLE_MOST_OPTIMIZATIONS='0', XLA_FLAGS='')
  held, expected = map(float, printed.split())
  assert 1 / 1.3 < expected / held < 1.3


def test_the_table_names_all_that_is_planned():
  console = Console(record=True, width=100)
  planned(console=console)
  text = console.export_text()
  for name in ('reader', 'mlm head', 'search', 'refresh', 'run', 'memory'):
    assert name in text
  assert 'of 79.65' in text


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (0.5, '500 ms'),
    (1, '1 s'),
    (119, '119 s'),
    (7200, '2 h'),
    (1e6, '11.6 days'),
  ],
)
def test_durations(value, text):
  assert duration(value) == text


@pytest.mark.parametrize(
  ('value', 'text'),
  [(0, '0 B'), (999, '999 B'), (1650, '1.65 kB'), (2.5e15, '2.5 PB')],
)
def test_quantities(value, text):
  assert quantity(value, 'B') == text


@pytest.mark.slow
def test_layers_that_are_scanned_are_copied():
  encoder = dataclasses.replace(tiny.ENCODER, num_layers=4)

  def of(**options):
    scanned = dataclasses.replace(encoder, scan_layers=True, **options)
    return planned(model=dataclasses.replace(tiny.MODEL, encoder=scanned))

  whole, remat = of(), of(remat='full')
  copied = whole['step']['scan over layers']
  assert copied['flops'] == 0
  assert copied['bytes'] == 2 * whole['memory']['activations']
  assert remat['step']['scan over layers']['bytes'] < copied['bytes']
  model = dataclasses.replace(tiny.MODEL, encoder=encoder)
  assert 'scan over layers' not in planned(model=model)['step']
