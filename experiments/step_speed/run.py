"""Training steps beside PyTorch's, in turn: see README.md beside this file.

  python experiments/step_speed/run.py --torch PYTHON --size minilm

PYTHON has torch (CPU) and transformers 4.36.2. With --corpus FOLDER the batches
are of that corpus, at the lengths they have there; without, all texts are as
long as they may be.
"""

import argparse
import functools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from realm_jax.bench.floors import PRODUCT, Probes
from realm_jax.bench.steps import MadeUpBatches
from realm_jax.bench.timing import machine
from realm_jax.costs.shapes import StepShape
from realm_jax.costs.work import step_work
from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths, MaskedSentences
from realm_jax.data.featurize import Ragged, query_inputs
from realm_jax.folders import write_json
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.pretrain_source import pretrain_batch
from realm_jax.train.state import create_state
from realm_jax.train.step import make_pretrain_step
from realm_jax.types import NULL_BLOCK_ID, PretrainBatch, TextInputs

LENGTHS = Lengths(query_len=96, document_len=288, max_masks=10)
NUM_CANDIDATES = 8
# name -> layers, width, heads, feed-forward width, batch
SIZES = {'small': (2, 128, 2, 512, 4), 'minilm': (6, 384, 12, 1536, 1)}
# Seconds between turns: threads of the other side have stopped spinning then.
REST = 0.5

OURS, ALL, MASKED = 'ours', 'all', 'masked'
# Wall and CPU seconds of a step with the batch of this number.
Call = Callable[[int], tuple[float, float]]


def model_config(size: str) -> RealmConfig:
  num_layers, width, heads, feed_forward, _ = SIZES[size]
  return RealmConfig(
    EncoderConfig(
      num_layers=num_layers,
      hidden_size=width,
      num_heads=heads,
      feed_forward_size=feed_forward,
    )
  )


def step_shape(size: str) -> StepShape:
  return StepShape(
    SIZES[size][-1],
    NUM_CANDIDATES,
    LENGTHS.query_len,
    LENGTHS.document_len,
    LENGTHS.joint_len,
    LENGTHS.max_masks,
  )


def corpus_batches(
  corpus: Corpus, batch_size: int, number: int
) -> list[PretrainBatch]:
  """Masked sentences, each beside documents drawn at random."""
  rng = np.random.default_rng(0)
  examples = Batches(
    range(len(corpus.sentences)),
    MaskedSentences(corpus, 'salient_span', LENGTHS),
    batch_size,
    seed=0,
  )
  found = []
  for _ in range(number):
    example = next(examples)
    ids = rng.integers(corpus.num_blocks, size=(batch_size, NUM_CANDIDATES))
    ids[:, 0] = NULL_BLOCK_ID
    query = query_inputs(
      Ragged(example['query_ids'], example['query_lens']),
      LENGTHS.query_len,
      corpus.wordpiece,
    )
    found.append(
      pretrain_batch(
        example, ids, np.ones_like(ids), corpus, LENGTHS, query, 0.0
      )
    )
  return found


def padded(text: TextInputs, length: int) -> TextInputs:
  missing = length - text.token_ids.shape[-1]
  return TextInputs(
    *(
      np.pad(part, [(0, 0)] * (part.ndim - 1) + [(0, missing)]) for part in text
    )
  )


def save_for_rival(path: Path, batch: PretrainBatch) -> None:
  """The same texts, each padded to its full length, as its tokenizer does."""
  null = padded(batch.null_document, LENGTHS.document_len)
  documents = padded(batch.documents, LENGTHS.document_len)
  num_rows = len(documents.token_ids)
  parts = {
    'query': padded(batch.query, LENGTHS.query_len),
    'documents': TextInputs(
      *(
        np.concatenate([np.repeat(first[None], num_rows, 0), rest], axis=1)
        for first, rest in zip(null, documents, strict=True)
      )
    ),
    'joint': padded(batch.joint, LENGTHS.joint_len),
  }
  labels = np.full((num_rows, LENGTHS.joint_len), -100, np.int64)
  label_mask = np.zeros_like(labels)
  for row, column in zip(*np.nonzero(batch.mlm_mask), strict=True):
    position = batch.mlm_positions[row, column]
    labels[row, position] = batch.mlm_targets[row, column]
    label_mask[row, position] = 1
  np.savez(
    path,
    labels=labels,
    label_mask=label_mask,
    mlm_positions=batch.mlm_positions.astype(np.int64),
    mlm_targets=batch.mlm_targets.astype(np.int64),
    mlm_mask=batch.mlm_mask,
    **{
      f'{part}_{field}': value.astype(np.int64)
      for part, text in parts.items()
      for field, value in text._asdict().items()
    },
  )


def timed(call: Callable[[], Any]) -> tuple[float, float]:
  """Wall and CPU seconds of a call."""
  start, start_cpu = time.perf_counter(), time.process_time()
  call()
  return time.perf_counter() - start, time.process_time() - start_cpu


class Ours:
  """Our step, as training calls it."""

  def __init__(self, size: str, batches: list[PretrainBatch]):
    config = model_config(size)
    params = init_params(config, jax.random.key(0))
    optimizer, _ = make_optimizer(
      OptimizerConfig(3e-5).for_stage(1000, ('^reader/span_head/',), params),
      params,
    )
    self._step = make_pretrain_step(config, optimizer)
    self._state = create_state(params, optimizer)
    self._batches = batches

  def __call__(self, number: int) -> tuple[float, float]:
    return timed(lambda: self._run(self._batches[number]))

  def _run(self, batch: PretrainBatch) -> None:
    self._state, metrics = self._step(self._state, batch, jax.random.key(0))
    jax.block_until_ready((self._state, metrics))


class Rival:
  """rival.py in its own process."""

  def __init__(self, python: str, folder: Path, threads: int):
    script = Path(__file__).with_name('rival.py')
    self._process = subprocess.Popen(
      [python, str(script), str(folder), str(threads)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.version = self._answer()['torch']

  def _answer(self) -> dict[str, Any]:
    assert self._process.stdout is not None
    line = self._process.stdout.readline()
    if not line:
      raise RuntimeError('rival.py has ended; its error is above.')
    return json.loads(line)

  def __call__(self, number: int, head: str) -> tuple[float, float]:
    assert self._process.stdin is not None
    asked = {'batch': number, 'head': head}
    self._process.stdin.write(json.dumps(asked) + '\n')
    self._process.stdin.flush()
    answer = self._answer()
    return answer['seconds'], answer['cpu_seconds']

  def close(self) -> None:
    assert self._process.stdin is not None
    self._process.stdin.close()
    self._process.wait()


def take_turns(
  calls: dict[str, Call], num_batches: int, rounds: int
) -> dict[str, np.ndarray]:
  """[rounds, num_batches, 2] wall and CPU seconds, one call after the other.

  A step that is not timed comes before each that is: memory that lay idle may
  have gone back to the system, and training does not pause between steps.
  """
  for number in range(num_batches):  # to compile
    calls[OURS](number)
  seconds = {name: np.zeros((rounds, num_batches, 2)) for name in calls}
  for turn in range(rounds):
    for number in range(num_batches):
      for name, call in calls.items():
        time.sleep(REST)
        call(number)
        seconds[name][turn, number] = call(number)
  return seconds


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--torch', required=True, metavar='PYTHON')
  parser.add_argument('--size', choices=SIZES, default='small')
  parser.add_argument('--corpus')
  parser.add_argument('--num-batches', type=int, default=6)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--heads', nargs='*', default=[ALL, MASKED])
  parser.add_argument('--out', type=Path, default=Path('runs/step_speed'))
  args = parser.parse_args()
  folder = args.out / args.size
  folder.mkdir(parents=True, exist_ok=True)
  config, shape = model_config(args.size), step_shape(args.size)
  if args.corpus:
    batches = corpus_batches(
      Corpus.open(args.corpus), shape.batch_size, args.num_batches
    )
  else:
    batches = [MadeUpBatches(shape, config.encoder.vocab_size)()]
  for number, batch in enumerate(batches):
    save_for_rival(folder / f'{number}.npz', batch)
  write_json(folder / 'size.json', rival_size(config))
  ours, probes = Ours(args.size, batches), Probes('cpu', 'float32')
  rival = Rival(args.torch, folder, os.cpu_count() or 1)
  calls: dict[str, Call] = {
    PRODUCT: lambda number: timed(probes.calls[PRODUCT]),
    OURS: ours,
    **{head: functools.partial(rival, head=head) for head in args.heads},
  }
  seconds = take_turns(calls, len(batches), args.rounds)
  rival.close()
  found = {
    'machine': {**machine(), 'torch': rival.version},
    'size': args.size,
    'texts': 'corpus' if args.corpus else 'full length',
    'joint_lengths': [batch.joint.token_ids.shape[-1] for batch in batches],
    'document_lengths': [
      batch.documents.token_ids.shape[-1] for batch in batches
    ],
    'seconds': {name: times.tolist() for name, times in seconds.items()},
    **summary(seconds, probes),
  }
  if not args.corpus:
    work = sum(part.flops for part in step_work(config, shape).values())
    products = found['flops_per_second'][PRODUCT]
    rate = work / found['median_seconds'][OURS]
    found['flops_per_second'][OURS] = rate
    found['ratio_to_products'] = rate / products
  name = f'{args.size}_{"corpus" if args.corpus else "full"}.json'
  write_json(args.out / name, found)
  print(
    json.dumps({k: v for k, v in found.items() if k != 'seconds'}, indent=2)
  )


def rival_size(config: RealmConfig) -> dict[str, int]:
  encoder = config.encoder
  return {
    'hidden_size': encoder.hidden_size,
    'num_hidden_layers': encoder.num_layers,
    'num_attention_heads': encoder.num_heads,
    'intermediate_size': encoder.feed_forward_size,
    'retriever_proj_size': config.embed_dim,
    'num_candidates': NUM_CANDIDATES,
  }


def summary(
  seconds: dict[str, np.ndarray], probes: Probes
) -> dict[str, dict[str, float]]:
  """Medians over rounds of the time for all batches, and of ratios to ours."""
  # [rounds, 2]
  totals = {name: times.sum(axis=1) for name, times in seconds.items()}
  product = statistics.median(seconds[PRODUCT][..., 0].ravel())
  rate = probes.rates(product, 1.0)['flops_per_second']
  rivals = totals.keys() - {PRODUCT, OURS}
  return {
    'median_seconds': {
      name: statistics.median(times[:, 0]) for name, times in totals.items()
    },
    'median_cpu_seconds': {
      name: statistics.median(times[:, 1]) for name, times in totals.items()
    },
    'times_our_seconds': {
      name: statistics.median(totals[name][:, 0] / totals[OURS][:, 0])
      for name in rivals
    },
    'flops_per_second': {PRODUCT: rate},
  }


if __name__ == '__main__':
  main()
