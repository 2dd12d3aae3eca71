"""What a pre-training run would need and take, printed before it starts."""

import dataclasses
import json
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from realm_jax.costs.accelerators import CPU, Accelerator, at_hand, find
from realm_jax.costs.estimate import estimate, total
from realm_jax.costs.shapes import ONE_DEVICE, Devices, StepShape, Workload
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.models.realm import RealmConfig, abstract_params
from realm_jax.refresh.schedule import (
  parse_schedule,
  pass_every,
  takes_training_time,
)
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.sharding import (
  DATA,
  MODEL,
  MeshConfig,
  check_batch,
  check_model,
  mesh_sizes,
)
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig

PAPER_BLOCKS = 13_353_718  # of the Wikipedia of December 2018
_GIB = 1 << 30
_FROZEN = '^reader/span_head/'


def workload(
  model: RealmConfig | None = None,
  config: PretrainConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  index: IndexConfig | None = None,
  num_blocks: int = PAPER_BLOCKS,
) -> Workload:
  """The work of `pretrain` with these settings; None for its defaults.

  Raises:
    UserError: a joint sequence is longer than the encoder has positions.
  """
  model = model or RealmConfig()
  config = config or PretrainConfig()
  lengths = lengths or Lengths()
  loop = loop or LoopConfig()
  optimizer = optimizer or OptimizerConfig(learning_rate=3e-5)
  if lengths.joint_len > model.encoder.max_positions:
    raise UserError(
      f'Lengths.query_len is {lengths.query_len} and document_len '
      f'{lengths.document_len}, together more than the '
      f'{model.encoder.max_positions} of EncoderConfig.max_positions. Lower '
      'them, or give the encoder more positions.'
    )
  frozen: tuple[str, ...] = (_FROZEN,)
  if not config.train_retriever:
    frozen += ('embedder/',)
  params = abstract_params(model)
  schedule = parse_schedule(config.refresh)
  return Workload(
    model,
    params,
    StepShape(
      config.batch_size,
      config.num_candidates,
      lengths.query_len,
      lengths.document_len,
      lengths.joint_len,
      lengths.max_masks,
      config.num_microbatches,
    ),
    optimizer.for_stage(loop.num_steps, frozen, params),
    index or IndexConfig(),
    num_blocks,
    loop.num_steps,
    pass_every(schedule),
    not takes_training_time(schedule),
    config.train_retriever,
  )


def plan(
  *,
  accelerator: str | None = None,
  num_devices: int | None = None,
  num_blocks: int = PAPER_BLOCKS,
  corpus: str | None = None,
  force: bool = False,
  as_json: bool = False,
  model: RealmConfig | None = None,
  config: PretrainConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  index: IndexConfig | None = None,
  mesh: MeshConfig | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Prints parameters, operations, memory and time of a run, by formula.

  Makes no array of the model and starts nothing; on accelerator 'cpu' it
  measures the machine for a second or two.

  Args:
    accelerator: one of costs.accelerators.NAMES; None for what is at hand.
    num_devices: how many of them there are; None for as many as are at hand,
      or of a named accelerator as many as the mesh asks for.
    num_blocks: of the corpus.
    corpus: folder of a prepared corpus, in place of num_blocks; the vocabulary
      is taken from it too.
    force: print the plan of what does not fit as well.
    as_json: print JSON in place of a table.
    model: sizes, as `ict` has them.
    config: as `pretrain` has it, like those that follow.
    lengths: sequence lengths.
    loop: how many steps.
    optimizer: learning rate and the rest.
    index: what is searched.
    mesh: the devices that the run is spread over; None for one.
    console: where to print; None for the terminal.

  Returns:
    See costs.estimate.estimate; and 'fits', whether the memory of a device is
    enough, None where it is not known.

  Raises:
    UserError: an argument is out of its range, or the run does not fit into
      the memory of a device.
  """
  for name, value in (('num_devices', num_devices), ('num_blocks', num_blocks)):
    if value is not None and value < 1:
      raise UserError(f'{name} is {value}, expected at least 1.')
  if corpus is not None:
    opened = Corpus.open(corpus)
    num_blocks = opened.num_blocks
    model = _with_vocabulary(model or RealmConfig(), opened.wordpiece.size)
  found = workload(model, config, lengths, loop, optimizer, index, num_blocks)
  devices = _devices(mesh, accelerator, num_devices, found)
  device = find(accelerator or at_hand())
  planned = estimate(found, device, devices)
  fits = _fits(planned, device)
  planned = {**planned, 'fits': fits}
  if fits is False and not force:
    raise UserError(_too_large(planned, device, devices.number))
  console = console or Console()
  if as_json:
    console.out(json.dumps(planned, indent=2), highlight=False)
  else:
    show(planned, console)
  return planned


def _with_vocabulary(model: RealmConfig, size: int) -> RealmConfig:
  encoder = dataclasses.replace(model.encoder, vocab_size=size)
  return dataclasses.replace(model, encoder=encoder)


def _devices(
  mesh: MeshConfig | None,
  accelerator: str | None,
  num_devices: int | None,
  work: Workload,
) -> Devices:
  """The devices of a run; checked as pretrain checks them."""
  if mesh is None:
    if num_devices is not None and num_devices > 1:
      raise UserError(
        f'num_devices is {num_devices}, but a run without a mesh uses one. Add '
        '--gin gin_configs/mesh/fsdp.gin.'
      )
    return ONE_DEVICE
  if num_devices is None:
    num_devices = _number_of(mesh, accelerator)
  if (accelerator or at_hand()) == CPU and num_devices > 1:
    raise UserError(
      f'num_devices is {num_devices}, expected 1 with accelerator cpu: '
      'simulated devices share one processor.'
    )
  sizes = mesh_sizes(mesh, num_devices)
  check_model(sizes[MODEL], work.model)
  check_batch(
    sizes,
    'PretrainConfig.batch_size',
    work.shape.batch_size,
    work.shape.num_microbatches,
  )
  return Devices(sizes[DATA], sizes[MODEL], mesh.rules)


def _number_of(mesh: MeshConfig, accelerator: str | None) -> int:
  """How many devices there are where the user does not say it."""
  if accelerator is None:
    return jax.device_count()
  if 0 in (mesh.data, mesh.model):
    raise UserError(
      f'MeshConfig.data is {mesh.data} and MeshConfig.model {mesh.model}; 0 is '
      f'as many {accelerator} as there are. Say how many with --num-devices.'
    )
  return mesh.data * mesh.model


def _fits(planned: dict[str, Any], device: Accelerator) -> bool | None:
  if device.memory_bytes is None:
    return None
  return sum(planned['memory'].values()) <= device.memory_bytes


def _too_large(
  planned: dict[str, Any], device: Accelerator, num_devices: int
) -> str:
  memory = planned['memory']
  assert device.memory_bytes is not None
  parts = ', '.join(
    f'{name} {size / _GIB:,.2f}'
    for name, size in sorted(memory.items(), key=lambda item: -item[1])
    if size / _GIB >= 0.01
  )
  advice = {
    'activations': 'Lower PretrainConfig.batch_size, num_candidates or Lengths,'
    ' take more devices or more PretrainConfig.num_microbatches, or set '
    "EncoderConfig.dtype to 'bfloat16' or EncoderConfig.remat to 'full'.",
    'index': "Take IndexConfig.dtype 'bfloat16' or 'int8' without rescore, "
    "more devices, or IndexConfig.kind 'scann', which is on the host.",
  }
  largest = max(memory, key=lambda name: memory[name])
  return (
    f'The run needs about {sum(memory.values()) / _GIB:,.2f} GiB on each of '
    f'{num_devices} {device.name}, but there are '
    f'{device.memory_bytes / _GIB:,.2f} GiB: {parts}. '
    f'{advice.get(largest, "Take a smaller model.")} --force prints the plan.'
  )


def show(planned: dict[str, Any], console: Console) -> None:
  """Prints a plan as one table."""
  shape, run = planned['shape'], planned['run']
  accelerator = planned['accelerator']
  devices = accelerator['num_devices']
  table = Table(
    title=f'Pre-training on {devices} {accelerator["name"]}: batch '
    f'{shape["batch_size"]}, {shape["num_candidates"]} candidates, lengths '
    f'{shape["query_len"]}/{shape["document_len"]}/{shape["joint_len"]}, '
    f'{planned["num_blocks"]:,} blocks',
    box=box.SIMPLE,
  )
  table.add_column('', no_wrap=True)
  for name in ('products', 'passes', 'time'):
    table.add_column(name, justify='right', no_wrap=True)
  counts = planned['parameters']
  for part, count in {**counts, 'parameters': sum(counts.values())}.items():
    table.add_row(part, f'{count / 1e6:,.1f} M')
  for part in ('step', 'retrieve', 'refresh'):
    table.add_section()
    _add_priced(table, part, planned[part])
  table.add_section()
  _add_run(table, run)
  table.add_section()
  for part, size in planned['memory'].items():
    table.add_row(part, f'{size / _GIB:,.2f} GiB')
  needed = sum(planned['memory'].values())
  available = accelerator['memory_bytes']
  table.add_row(
    'memory of a device' if devices > 1 else 'memory',
    f'{needed / _GIB:,.2f} GiB',
    '' if available is None else f'of {available / _GIB:,.2f}',
    'does not fit' if planned['fits'] is False else '',
    style='bold',
  )
  console.print(table)
  console.print(
    f'{accelerator["name"]}: {accelerator["flops_per_second"] / 1e12:,.3g} '
    f'TFLOP/s, {accelerator["bytes_per_second"] / 1e9:,.0f} GB/s '
    f'({accelerator["source"]}). Texts at full length; nothing overlaps; the '
    "host's part and what goes between devices are not counted.",
    highlight=False,
  )


def _add_priced(
  table: Table, whole: str, parts: dict[str, dict[str, float]]
) -> None:
  """A row for each part, and one for their sum."""

  def add(name: str, part: dict[str, float], style: str = '') -> None:
    table.add_row(
      name,
      quantity(part['flops'], 'FLOP'),
      quantity(part['bytes'], 'B'),
      duration(part['seconds']),
      style=style,
    )

  if len(parts) > 1:
    for name, part in parts.items():
      add(name, part)
  add(whole, total(parts), 'bold')


def _add_run(table: Table, run: dict[str, float]) -> None:
  steps, refreshes = run['num_steps'], run['num_refreshes']
  for name, seconds in (
    (f'{steps:,} steps with retrieval', run['training_seconds']),
    (f'{refreshes:,} times all blocks', run['refreshing_seconds']),
  ):
    table.add_row(name, '', '', duration(seconds))
  table.add_row(
    'run',
    f'{run["tokens_per_second"]:,.0f} tokens/s',
    '',
    duration(run['seconds']),
    style='bold',
  )


def quantity(value: float, unit: str) -> str:
  """A number with a prefix of thousands, three digits: '1.65 GFLOP'."""
  prefixes = ('', 'k', 'M', 'G', 'T', 'P', 'E', 'Z')
  power = 0
  while abs(value) >= 999.5 and power + 1 < len(prefixes):
    value, power = value / 1000, power + 1
  return f'{value:,.3g} {prefixes[power]}{unit}'


def duration(seconds: float) -> str:
  """A time in the unit that suits it, three digits: '1.25 ms', '3.5 h'."""
  for unit, size in (('days', 86_400), ('h', 3600), ('min', 60), ('s', 1)):
    if seconds >= 2 * size or (unit == 's' and seconds >= 1):
      return f'{seconds / size:,.3g} {unit}'
  return f'{seconds * 1e3:,.3g} ms'
