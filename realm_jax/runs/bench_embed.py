"""Measure the embedding of documents, on the machine at hand."""

import json
from typing import Any

import jax
from rich import box
from rich.console import Console
from rich.table import Table

from realm_jax.bench.document_embedding import (
  made_up_lens,
  measure_embedding,
  sampled_lens,
)
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.errors import UserError
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.plan import quantity
from realm_jax.sharding import MeshConfig, make_layout

# Some seconds of work for BERT-base.
_NUM_BLOCKS = {'cpu': 64, 'gpu': 16_384, 'tpu': 16_384}


def bench_embed(
  *,
  corpus: str | None = None,
  num_blocks: int | None = None,
  rounds: int = 5,
  as_json: bool = False,
  model: RealmConfig | None = None,
  lengths: Lengths | None = None,
  mesh: MeshConfig | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Times embedding beside the machine's matrix products.

  Args:
    corpus: folder of one whose blocks' lengths are taken; None for made-up
      ones. The wordpieces are random.
    num_blocks: of each kind; None for some seconds' work of BERT-base.
    rounds: times that each is measured, in turn.
    as_json: print JSON in place of a table.
    model: sizes, as `ict` has them.
    lengths: as `pretrain` has them; document_len and multiple count.
    mesh: devices that share the work; None for one.
    console: where to print; None for the terminal.

  Returns:
    See bench.document_embedding.measure_embedding.

  Raises:
    UserError: an argument is out of its range.
  """
  model, lengths = model or RealmConfig(), lengths or Lengths()
  if num_blocks is None:
    num_blocks = _NUM_BLOCKS[jax.local_devices()[0].platform]
  if rounds < 1 or num_blocks < 1:
    raise UserError(
      f'rounds is {rounds} and num_blocks {num_blocks}, expected at least 1.'
    )
  if lengths.document_len > model.encoder.max_positions:
    raise UserError(
      f'Lengths.document_len is {lengths.document_len}, expected at most the '
      f'{model.encoder.max_positions} of EncoderConfig.max_positions.'
    )
  if corpus is None:
    real_lens = made_up_lens(num_blocks, lengths.document_len)
  else:
    real_lens = sampled_lens(Corpus.open(corpus), num_blocks)
    real_lens = real_lens.clip(max=lengths.document_len)
  layout = make_layout(mesh, model)
  found = measure_embedding(model, lengths, real_lens, rounds, layout)
  console = console or Console()
  if as_json:
    console.out(json.dumps(found, indent=2), highlight=False)
  else:
    _show(found, console)
  return found


def _show(found: dict[str, Any], console: Console) -> None:
  machine, rates = found['machine'], found['rates']
  table = Table(
    title=f'Embedding {found["num_blocks"]:,} documents of up to '
    f'{found["lengths"]["document_len"]} wordpieces',
    box=box.SIMPLE,
  )
  table.add_column('documents', no_wrap=True)
  for name in ('s', 'blocks/s', 'tokens/s', 'padding', 'rate', 'of products'):
    table.add_column(name, justify='right', no_wrap=True)
  for name, part in found['parts'].items():
    table.add_row(
      name,
      f'{part["seconds"]:,.2f}',
      f'{part["documents_per_second"]:,.1f}',
      f'{part["tokens_per_second"]:,.0f}',
      f'{part["padding_share"]:.0%}',
      quantity(part['flops_per_second'], 'FLOP/s'),
      f'{part["ratio_to_products"]:.2f}',
    )
  console.print(table)
  console.print(
    f'{machine["num_devices"]} x {machine["device"]}: matrix products at '
    f'{quantity(rates["flops_per_second"], "FLOP/s")}; medians of '
    f'{machine["rounds"]} rounds in turn.',
    highlight=False,
  )
