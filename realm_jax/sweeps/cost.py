"""What the pre-training of a sweep will take, by the cost model."""

import dataclasses
import io
from typing import Any

from rich.console import Console

from realm_jax.models.realm import RealmConfig
from realm_jax.runs.plan import plan
from realm_jax.sweeps.stages import Stage

_BLOCKS_A_DOCUMENT = 2  # of the almanac, roughly


def planned_seconds(stage: Stage, accelerator: str | None) -> float | None:
  """Seconds of a stage of pretrain as `realm-jax plan` has them.

  Args:
    stage: of any kind; of others nothing is known.
    accelerator: as plan has it; None for what is at hand.

  Returns:
    None where there is no cost model for the stage.
  """
  if stage.kind != 'pretrain':
    return None
  arguments: dict[str, Any] = {
    name: stage.arguments[name]
    for name in ('config', 'lengths', 'loop', 'optimizer', 'index', 'mesh')
    if name in stage.arguments
  }
  model = stage.inputs['init'].arguments.get('model', RealmConfig())
  if 'almanac' in stage.inputs:
    almanac = stage.inputs['almanac'].arguments['config']
    encoder = dataclasses.replace(model.encoder, vocab_size=almanac.vocab_size)
    model = dataclasses.replace(model, encoder=encoder)
    arguments['num_blocks'] = _BLOCKS_A_DOCUMENT * almanac.num_documents
  else:
    arguments['corpus'] = stage.files['corpus']
  planned = plan(
    accelerator=accelerator,
    force=True,
    model=model,
    console=Console(file=io.StringIO()),
    **arguments,
  )
  return planned['run']['seconds']
