"""Measure the pre-training step and its parts, on the machine at hand."""

import json
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from realm_jax.bench.steps import STEP, measure_step
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.index.config import IndexConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.plan import quantity, workload
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig


def bench_step(
  *,
  num_blocks: int = 100_000,
  rounds: int = 5,
  as_json: bool = False,
  model: RealmConfig | None = None,
  config: PretrainConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  index: IndexConfig | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Times a step with a made-up batch, beside the machine's matrix products.

  What the parts are is said in bench.steps.

  Args:
    num_blocks: made-up ones to search; 0 leaves the retrieval out.
    rounds: times that each is measured, in turn.
    as_json: print JSON in place of a table.
    model: sizes, as `ict` has them.
    config: as `pretrain` has it, like those that follow.
    lengths: sequence lengths; every text is as long as it may be.
    loop: of whose num_steps the optimizer's schedule is made; and what draws
      the bits of dropout.
    optimizer: what updates the parameters.
    index: what is searched.
    console: where to print; None for the terminal.

  Returns:
    See bench.steps.measure_step.

  Raises:
    UserError: an argument is out of its range.
  """
  if rounds < 1 or num_blocks < 0:
    raise UserError(
      f'rounds is {rounds} and num_blocks {num_blocks}, expected at least 1 '
      'and at least 0.'
    )
  config = config or PretrainConfig()
  work = workload(
    model, config, lengths, loop, optimizer, index, max(1, num_blocks)
  )
  found = measure_step(
    work,
    config.objective,
    num_blocks,
    rounds,
    (loop or LoopConfig()).dropout_rng,
  )
  console = console or Console()
  if as_json:
    console.out(json.dumps(found, indent=2), highlight=False)
  else:
    _show(found, console)
  return found


def _show(found: dict[str, Any], console: Console) -> None:
  machine, rates, shape = found['machine'], found['rates'], found['shape']
  table = Table(
    title=f'A step of batch {shape["batch_size"]}, '
    f'{shape["num_candidates"]} candidates, lengths {shape["query_len"]}/'
    f'{shape["document_len"]}/{shape["joint_len"]}',
    box=box.SIMPLE,
  )
  table.add_column('part', no_wrap=True)
  step = found['parts'][STEP]
  known_peak = step['utilisation'] is not None
  columns = ['ms', 'of step', 'rate', 'of products', 'plan ms', 'x plan']
  if known_peak:
    columns.insert(4, 'of peak')
  for name in columns:
    table.add_column(name, justify='right', no_wrap=True)
  for name, part in found['parts'].items():
    cells = [f'{part["milliseconds"]:,.2f}', f'{part["share_of_step"]:.0%}']
    if part.get('flops'):
      cells += [
        quantity(part['flops_per_second'], 'FLOP/s'),
        f'{part["ratio_to_products"]:.2f}',
      ]
      cells += [f'{part["utilisation"]:.1%}'] if known_peak else []
    else:
      cells += [''] * (3 if known_peak else 2)
    if 'planned_milliseconds' in part:
      cells += [
        f'{part["planned_milliseconds"]:,.2f}',
        f'{part["ratio_to_plan"]:.2f}',
      ]
    table.add_row(name, *cells, style='bold' if name == STEP else '')
  console.print(table)
  memory, peak = found['memory_bytes'], found['peak_memory_bytes']
  console.print(
    f'{machine["device"]}, {machine["cores"]} cores: '
    f'{found["tokens_per_second"]:,.0f} tokens/s; matrix products at '
    f'{quantity(rates["flops_per_second"], "FLOP/s")}, reading at '
    f'{quantity(rates["bytes_per_second"], "B/s")}; medians of '
    f'{machine["rounds"]} rounds in turn. Memory of a step: '
    f'{"not known" if memory is None else quantity(memory, "B")}, by the plan '
    f'{quantity(found["planned_memory_bytes"], "B")}'
    + (f'; at most {quantity(peak, "B")} held at once.' if peak else '.'),
    highlight=False,
  )
