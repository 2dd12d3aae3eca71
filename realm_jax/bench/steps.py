"""The pre-training step and its parts, timed in turn beside the machine's rate.

The batch is made up: random wordpieces, every text as long as it may be. What
the parts are:

    retrieve  embed the queries and search the index; the host waits for the ids
    gather    tokens of the candidates -> what embedder and reader read (host)
    embed     query, null document, documents: forward and backward
    read      every candidate beside its query: forward and backward
    update    clipping, Adam, weight decay
    step      embed, read, loss and update in the one function that training
              calls

Each is jitted by itself, so embed + read + update may differ from step: there
the gradients of all parameters are alive together, and XLA may overlap them.
"""

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.bench import floors
from realm_jax.bench.embeddings import CHUNK_SIZE
from realm_jax.bench.timing import machine, time_in_turn
from realm_jax.costs.accelerators import peak_at_hand, probed
from realm_jax.costs.memory import device_memory
from realm_jax.costs.shapes import StepShape, Workload
from realm_jax.costs.work import (
  Work,
  parameter_counts,
  recomputed_work,
  retrieve_work,
  step_work,
  update_work,
)
from realm_jax.data.corpus import BlockTokens
from realm_jax.data.featurize import (
  PAIR_SPECIALS,
  QUERY_SPECIALS,
  Ragged,
  document_inputs,
  joint_inputs,
  null_document_inputs,
  query_inputs,
)
from realm_jax.data.wordpiece import SPECIAL_TOKENS, WordPiece
from realm_jax.index.candidates import SPARE_BLOCKS
from realm_jax.index.config import IndexConfig
from realm_jax.index.snapshot import Snapshot
from realm_jax.index.table import aligned_zeros
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import (
  Realm,
  RealmConfig,
  init_params,
)
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import make_optimizer
from realm_jax.train.state import TrainState, apply_gradients, create_state
from realm_jax.train.step import candidate_scores, make_pretrain_step
from realm_jax.types import PretrainBatch

RETRIEVE, GATHER, EMBED, READ, UPDATE, STEP = PARTS = (
  'retrieve',
  'gather',
  'embed',
  'read',
  'update',
  'step',
)
# What the machine does beside them; the second probe is called 'read' too.
_PRODUCT, _READING = (
  ('machine', name) for name in (floors.PRODUCT, floors.READ)
)


class MadeUpBatches:
  """Batches of random wordpieces, every text of full length."""

  def __init__(self, shape: StepShape, vocab_size: int, seed: int = 0):
    """Draws the wordpieces once: what is gathered is always the same."""
    self._shape = shape
    self._wordpiece = WordPiece([*SPECIAL_TOKENS, 'a'])
    self._rng = np.random.default_rng(seed)
    self._vocab_size = vocab_size
    batch, candidates = shape.batch_size, shape.num_candidates
    self._queries = self._ragged((batch,), shape.query_len - QUERY_SPECIALS)
    bodies = self._ragged(
      (batch, candidates), shape.document_len - PAIR_SPECIALS
    )
    bodies.lens[:, 0] = 0  # the null document
    nothing = np.zeros((batch, candidates, 0), np.int32)
    self._blocks = BlockTokens(nothing, 0 * bodies.lens, *bodies)
    self._targets = self._ragged((batch,), shape.max_masks)

  def _ragged(self, leading: tuple[int, ...], length: int) -> Ragged:
    ids = self._rng.integers(
      min(len(SPECIAL_TOKENS), self._vocab_size - 1),
      self._vocab_size,
      (*leading, length),
      np.int32,
    )
    return Ragged(ids, np.full(leading, length, np.int32))

  def __call__(self) -> PretrainBatch:
    """The batch, put together as training does it."""
    shape, wordpiece = self._shape, self._wordpiece
    documents = BlockTokens(*(array[:, 1:].copy() for array in self._blocks))
    positions = np.arange(1, 1 + shape.max_masks, dtype=np.int32)
    positions = np.minimum(positions, shape.query_len - 1)
    positions = np.broadcast_to(positions, self._targets.token_ids.shape)
    return PretrainBatch(
      query_inputs(self._queries, shape.query_len, wordpiece),
      document_inputs(
        documents, wordpiece, shape.document_len, shape.document_len
      ),
      null_document_inputs(wordpiece),
      joint_inputs(
        self._queries,
        self._blocks,
        wordpiece,
        shape.joint_len,
        shape.joint_len,
      ),
      np.ones((shape.batch_size, shape.num_candidates), np.int32),
      positions,
      self._targets.token_ids,
      np.ones_like(self._targets.token_ids),
      np.float32(0),
    )


def _apply(model: Realm, params: Any, rng: Any, method: Callable, *args: Any):
  return model.apply(
    {'params': params},
    *args,
    deterministic=False,
    method=method,
    rngs={'dropout': rng},
  )


def make_embed_part(config: RealmConfig) -> Callable:
  """Gradient of the sum of all relevance scores: f(params, batch, rng)."""
  apply = functools.partial(_apply, Realm(config))

  def total(params: Any, batch: PretrainBatch, rng: Any) -> Any:
    query, null, documents = jax.random.split(rng, 3)
    return candidate_scores(
      apply(params, query, Realm.embed_queries, batch.query),
      apply(params, null, Realm.embed_documents, batch.null_document),
      apply(params, documents, Realm.embed_documents, batch.documents),
      batch.null_bias,
    ).sum()

  return jax.jit(jax.value_and_grad(total))


def make_read_part(config: RealmConfig) -> Callable:
  """Gradient of the sum of all gold log probs: f(params, batch, rng)."""
  apply = functools.partial(_apply, Realm(config))

  def total(params: Any, batch: PretrainBatch, rng: Any) -> Any:
    return apply(
      params,
      rng,
      Realm.gold_log_probs,
      batch.joint,
      batch.mlm_positions,
      batch.mlm_targets,
    ).sum()

  return jax.jit(jax.value_and_grad(total))


@dataclasses.dataclass
class _Held:
  """The one state that all calls share: there may be no memory for two."""

  state: TrainState


class _Donating:
  """Calls step(state, ...) -> (state, rest) over and over, donating the state.

  Each call waits for nothing; what it returns is what to wait for.
  """

  def __init__(self, step: Callable, held: _Held, *args: Any):
    lowered = jax.jit(step, donate_argnums=0).lower(held.state, *args)
    self._step = lowered.compile()
    self._held, self._args = held, args

  def __call__(self) -> Any:
    self._held.state, rest = self._step(self._held.state, *self._args)
    return self._held.state.step, rest

  def memory_bytes(self) -> int | None:
    """What a call holds at most, by the compiler; None if it does not say."""
    found = self._step.memory_analysis()
    if found is None:
      return None
    return (
      found.argument_size_in_bytes
      + found.output_size_in_bytes
      - found.alias_size_in_bytes
      + found.temp_size_in_bytes
    )


def _split(params: Any) -> tuple[Any, Any]:
  """Parameters of the embedders, and of the reader."""
  reader = {'reader': params['reader']}
  embedders = {name: p for name, p in params.items() if name not in reader}
  return embedders, reader


def _made_up_rows(num_blocks: int, embed_dim: int, dtype: str) -> np.ndarray:
  """[num_blocks, embed_dim] normal numbers: millions of rows in seconds.

  A part is drawn, and the others are that part with the signs of its columns
  drawn anew. Not to be written to, so that an index may take them over.
  """
  rng = np.random.default_rng(1)
  rows = aligned_zeros((num_blocks, embed_dim), jnp.dtype(dtype))
  drawn = rng.standard_normal((CHUNK_SIZE, embed_dim), np.float32)
  for start in range(0, num_blocks, CHUNK_SIZE):
    part = rows[start : start + CHUNK_SIZE]
    signs = rng.choice([-1.0, 1.0], embed_dim).astype(np.float32)
    part[:] = drawn[: len(part)] * signs[None]
  rows.flags.writeable = False
  return rows


def _retrieve(
  model: RealmConfig,
  held: _Held,
  batch: PretrainBatch,
  index: IndexConfig,
  num_blocks: int,
  k: int,
) -> Callable[[], Any]:
  """Embedding and searching a batch of queries among made-up blocks."""
  halved = index.dtype == 'bfloat16' and not index.rescore
  dtype = 'bfloat16' if halved else 'float32'
  built = index.make(
    Snapshot(_made_up_rows(num_blocks, model.embed_dim, dtype))
  )
  embed = make_embed(model, Realm.embed_queries)

  def call() -> Any:
    found = built.search(embed(held.state.params, batch.query), k)
    return np.asarray(found.block_ids)

  return call


def step_calls(
  workload: Workload,
  objective: str,
  num_blocks: int,
  dropout_rng: str = LoopConfig.dropout_rng,
) -> tuple[dict[str, Callable[[], Any]], int | None]:
  """What is to be timed; arguments as measure_step has them.

  Returns:
    Some of PARTS -> call; and the bytes that a step holds, if they are known.
  """
  model, shape = workload.model, workload.shape
  params = init_params(model, jax.random.key(0))
  batches = MadeUpBatches(shape, model.encoder.vocab_size)
  batch = batches()
  rng = jax.random.key(1, impl=dropout_rng)
  transformation, _ = make_optimizer(workload.optimizer, params)
  grads = jax.tree.map(lambda p: jnp.full_like(p, 1e-6), params)
  held = _Held(create_state(params, transformation))
  del params
  step = _Donating(
    make_pretrain_step(
      model,
      transformation,
      objective,
      workload.train_retriever,
      num_microbatches=shape.num_microbatches,
    ),
    held,
    batch,
    rng,
  )
  update = _Donating(
    lambda state, grads: (apply_gradients(state, grads, transformation), ()),
    held,
    grads,
  )
  embed_part, read_part = make_embed_part(model), make_read_part(model)
  calls: dict[str, Callable[[], Any]] = {
    GATHER: batches,
    EMBED: lambda: embed_part(_split(held.state.params)[0], batch, rng),
    READ: lambda: read_part(_split(held.state.params)[1], batch, rng),
    UPDATE: update,
    STEP: step,
  }
  if num_blocks:
    k = min(num_blocks, shape.num_candidates - 1 + SPARE_BLOCKS)
    retrieve = _retrieve(model, held, batch, workload.index, num_blocks, k)
    calls = {RETRIEVE: retrieve, **calls}
  return calls, step.memory_bytes()


def step_works(
  workload: Workload, num_blocks: int, fused: bool = False
) -> dict[str, Work]:
  """What each of the parts does, by the cost model; none for 'gather'."""
  model, shape = workload.model, workload.shape
  parts = step_work(model, shape, workload.train_retriever, fused)
  reader = parts['reader'] + parts['mlm head']
  # The part is timed with its gradient, whether training asks for it or not.
  trained = step_work(model, shape, fused=fused)
  names = ('query', 'documents', 'null document', 'scores')
  embed = sum((trained[name] for name in names), Work())
  num_trained = sum(parameter_counts(workload.params).values())
  return {
    RETRIEVE: retrieve_work(model, shape, num_blocks, workload.index.dtype),
    EMBED: embed,
    READ: reader,
    UPDATE: update_work(num_trained),
    STEP: sum(parts.values(), update_work(num_trained, shape.num_microbatches)),
  }


def measure_step(
  workload: Workload,
  objective: str,
  num_blocks: int,
  rounds: int,
  dropout_rng: str = LoopConfig.dropout_rng,
) -> dict[str, Any]:
  """Times the step and its parts, in turn with the machine's own rates.

  Args:
    workload: model, shape of the batch, optimizer, index; the rest of it has no
      say.
    objective: see make_pretrain_step.
    num_blocks: made-up ones that are searched; 0 leaves the retrieval out.
    rounds: times that each is measured.
    dropout_rng: see LoopConfig.

  Returns:
    JSON values: 'machine'; 'rates', operations and bytes a second; 'parts', for
    each of PARTS that was timed: milliseconds, share_of_step, and where the
    cost model knows the part flops, flops_per_second, ratio_to_products (to
    those of the matrix product), utilisation (of the device's bfloat16 peak;
    None where it is not known), planned_milliseconds (by the cost model and the
    rates of the round) and ratio_to_plan (of the time); all medians of rounds,
    ratios of the rounds' own; operations that are done twice (EncoderConfig
    .remat) count once;
    'tokens_per_second', padding included, of retrieve, gather and step one
    after the other; 'memory_bytes' of the step, by the compiler,
    'planned_memory_bytes', and 'peak_memory_bytes' of the device until now,
    index included; None where it does not say.
  """
  model, shape = workload.model, workload.shape
  device = jax.local_devices()[0]
  probes = floors.Probes(device.platform, model.encoder.dtype)
  calls, memory_bytes = step_calls(workload, objective, num_blocks, dropout_rng)
  probing = {('machine', name): call for name, call in probes.calls.items()}
  seconds = time_in_turn({**probing, **calls}, rounds, warm=True)
  median = {name: statistics.median(times) for name, times in seconds.items()}
  rates = probes.rates(median[_PRODUCT], median[_READING])
  fused = probed(device.platform, rates).fuses(
    model.encoder, jax.device_count(), training=True
  )
  works = step_works(workload, num_blocks, fused)
  again = recomputed_work(model, shape, workload.train_retriever, fused)
  parts = {
    name: {
      'milliseconds': 1e3 * median[name],
      'share_of_step': median[name] / median[STEP],
      **_rated(
        works.get(name),
        name,
        seconds,
        probes,
        model.encoder.dtype,
        again if name == STEP else Work(),
      ),
    }
    for name in calls
  }
  in_turn = sum(median.get(name, 0.0) for name in (RETRIEVE, GATHER, STEP))
  memory = device_memory(workload, fused=fused)
  held = ('parameters', 'gradients', 'optimizer', 'activations', 'batch')
  return {
    'machine': {
      **machine(),
      'rounds': rounds,
      'num_blocks': num_blocks,
    },
    'shape': dataclasses.asdict(shape),
    'rates': rates,
    'parts': parts,
    'tokens_per_second': shape.num_tokens / in_turn,
    'memory_bytes': memory_bytes,
    'planned_memory_bytes': sum(memory[name] for name in held),
    'peak_memory_bytes': (device.memory_stats() or {}).get('peak_bytes_in_use'),
  }


def _rated(
  work: Work | None,
  name: str,
  seconds: dict[Any, list[float]],
  probes: floors.Probes,
  dtype: str,
  again: Work,
) -> dict[str, float | None]:
  """What the times of a part mean beside its work, and what it does again."""
  if work is None:
    return {}
  own = seconds[name]
  rates = [
    probes.rates(*pair)
    for pair in zip(seconds[_PRODUCT], seconds[_READING], strict=True)
  ]
  products = [work.flops / rate['flops_per_second'] for rate in rates]
  device = jax.local_devices()[0].platform
  peak = peak_at_hand()
  planned = [
    probed(device, rate).seconds(work + again, dtype) for rate in rates
  ]
  return {
    'flops': work.flops,
    'flops_per_second': work.flops / statistics.median(own),
    'ratio_to_products': _median_ratio(products, own),
    'utilisation': peak and work.flops / statistics.median(own) / peak,
    'planned_milliseconds': 1e3 * statistics.median(planned),
    'ratio_to_plan': _median_ratio(own, planned),
  }


def _median_ratio(above: list[float], below: list[float]) -> float:
  return statistics.median(a / b for a, b in zip(above, below, strict=True))
