"""What a pre-training run needs and takes, before anything starts."""

import dataclasses
from typing import Any

from realm_jax.costs.accelerators import Accelerator
from realm_jax.costs.memory import device_memory
from realm_jax.costs.shapes import ONE_DEVICE, Devices, Workload
from realm_jax.costs.work import (
  Work,
  parameter_counts,
  recomputed_work,
  refresh_work,
  retrieve_work,
  search_work,
  step_work,
  update_work,
)

# Over what a step keeps of its layers, where they are scanned: it is copied
# into one array of all layers and out of it again, which was a sixth of a step
# on an H200 (experiments/accelerator).
_SCAN_PASSES = 2


def estimate(
  workload: Workload, accelerator: Accelerator, devices: Devices = ONE_DEVICE
) -> dict[str, Any]:
  """The plan of a run.

  Nothing is taken to overlap: retrieval, step and refresh come one after the
  other. Reading and featurising texts on the host is not counted.

  Args:
    workload: what to do.
    accelerator: each of the devices.
    devices: how many, and how they share the run. What goes between them is
      not counted.

  Returns:
    JSON values: 'parameters', numbers in each part; 'step', 'retrieve' and
    'refresh', for each part of them 'flops', 'bytes' (over all devices) and
    'seconds'; 'memory', bytes on a device; 'run'; 'accelerator'.
  """
  model, shape = workload.model, workload.shape
  dtype = model.encoder.dtype

  def priced(parts: dict[str, Work]) -> dict[str, dict[str, float]]:
    return {
      name: {
        'flops': work.flops,
        'bytes': work.num_bytes,
        'seconds': accelerator.seconds(work, dtype, devices.number),
      }
      for name, work in parts.items()
    }

  counts = parameter_counts(workload.params)
  trained = sum(
    count
    for part, count in counts.items()
    if part == 'reader' or workload.train_retriever
  )
  fused, fused_embedding = (
    accelerator.fuses(model.encoder, devices.number, training)
    for training in (True, False)
  )
  memory = device_memory(workload, devices, fused)
  settings = (model, shape, workload.train_retriever, fused)
  step, recomputed = step_work(*settings), recomputed_work(*settings)
  if recomputed.num_bytes:
    step['computed again'] = recomputed
  if model.encoder.scan_layers:
    kept = memory['activations'] * devices.number * shape.num_microbatches
    step['scan over layers'] = Work(0, _SCAN_PASSES * kept)
  plan = {
    'shape': dataclasses.asdict(shape),
    'num_blocks': workload.num_blocks,
    'parameters': counts,
    'step': priced(
      {**step, 'update': update_work(trained, shape.num_microbatches)}
    ),
    'retrieve': priced(_retrieval(workload)),
    'refresh': priced(
      {
        'blocks': refresh_work(
          model, workload.num_blocks, shape.document_len, fused_embedding
        )
      }
    ),
    'memory': memory,
    'accelerator': {
      **dataclasses.asdict(accelerator),
      'num_devices': devices.number,
      'mesh': dataclasses.asdict(devices),
    },
  }
  return {**plan, 'run': _run(workload, plan)}


def _retrieval(workload: Workload) -> dict[str, Work]:
  """Embedding the queries and searching; ScaNN's search is the host's."""
  nothing = retrieve_work(workload.model, workload.shape, 0, 'float32')
  parts = {'embed queries': nothing}
  if workload.index.kind == 'exact':
    parts['search'] = search_work(
      workload.shape.batch_size,
      workload.num_blocks,
      workload.model.embed_dim,
      workload.index.dtype,
    )
  return parts


def total(parts: dict[str, dict[str, float]]) -> dict[str, float]:
  """Sum of priced parts."""
  return {
    name: sum(part[name] for part in parts.values())
    for name in ('flops', 'bytes', 'seconds')
  }


def _run(workload: Workload, plan: dict[str, Any]) -> dict[str, float]:
  """The whole run: steps, and refreshes on the same devices."""
  every, steps = workload.refresh_every, workload.num_steps
  # The first index is made before the first step.
  num_refreshes = 1 + (-(-steps // every) if every else 0)
  num_here = 1 if workload.refresh_aside else num_refreshes
  step = total(plan['step'])['seconds']
  retrieve = total(plan['retrieve'])['seconds']
  refresh = total(plan['refresh'])['seconds']
  return {
    'num_steps': steps,
    'num_refreshes': num_refreshes,
    'step_seconds': step,
    'retrieve_seconds': retrieve,
    'refresh_seconds': refresh,
    'tokens_per_second': workload.shape.num_tokens / (step + retrieve),
    'training_seconds': steps * (step + retrieve),
    'refreshing_seconds': num_here * refresh,
    'seconds': steps * (step + retrieve) + num_here * refresh,
  }
