"""Embedding documents here and in PyTorch, in turn: see README.md beside this.

  python experiments/embedding/run.py --realtext REALTEXT \
    --vocab VOCAB --torch-python PYTHON --out runs/embedding

REALTEXT has the dump and the paragraphs of SOURCES, VOCAB is BERT's vocab.txt;
PYTHON is one with torch (CPU) and transformers 4.36.2. Writes results.json.
"""

import argparse
import json
import statistics
import subprocess
from pathlib import Path
from typing import Any

import numpy as np

from realm_jax.bench.document_embedding import MadeUpBlocks, sampled_lens
from realm_jax.bench.floors import PRODUCT, Probes
from realm_jax.bench.timing import machine, time_in_turn
from realm_jax.checkpoints.hf_realm import read_hf_realm
from realm_jax.costs.embedding import embedding_flops
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import document_inputs
from realm_jax.folders import is_whole, write_json
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm
from realm_jax.refresh.embed_blocks import BlockTable, fill_table
from realm_jax.refresh.throughput import Throughput
from realm_jax.runs.prepare import prepare

BLOCK_LEN = 288
LENGTHS = Lengths(document_len=BLOCK_LEN)
SOURCES = (
  'enwiki-sample.xml.bz2',
  'nq_paragraphs.jsonl',
  'squad_paragraphs.json',
)
THREADS = 2
BATCHES = (4, 8, 32)  # that PyTorch is tried with


class Rival:
  """The process of rival.py."""

  def __init__(self, python: str, folder: Path):
    self._process = subprocess.Popen(
      [python, str(Path(__file__).with_name('rival.py')), folder, str(THREADS)],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      text=True,
    )
    self.version = self._answer()['torch']

  def _answer(self) -> dict[str, Any]:
    return json.loads(self._process.stdout.readline())

  def ask(self, **asked: Any) -> dict[str, Any]:
    self._process.stdin.write(json.dumps(asked) + '\n')
    self._process.stdin.flush()
    return self._answer()

  def close(self) -> None:
    self._process.stdin.close()
    self._process.wait()


def blocks_of(corpus: Path, num_full: int, num_real: int) -> dict[str, Any]:
  """Texts of full length, and of a corpus's lengths in a random order."""
  lens = sampled_lens(Corpus.open(corpus), num_real)
  lens = np.random.default_rng(0).permutation(lens)
  full = np.full(num_full, BLOCK_LEN)
  return {
    'full': MadeUpBlocks(full, 30_522),
    'real': MadeUpBlocks(lens, 30_522),
  }


def write_texts(path: Path, blocks: MadeUpBlocks) -> None:
  inputs = document_inputs(
    blocks.gather(np.arange(blocks.num_blocks)),
    blocks.wordpiece,
    BLOCK_LEN,
    BLOCK_LEN,
  )
  np.savez(
    path,
    token_ids=inputs.token_ids,
    segment_ids=inputs.segment_ids,
    lens=blocks.block_lens,
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--realtext', type=Path, required=True)
  parser.add_argument('--vocab', type=Path, required=True)
  parser.add_argument('--torch-python', required=True)
  parser.add_argument('--out', type=Path, default=Path('runs/embedding'))
  parser.add_argument('--num-full', type=int, default=48)
  parser.add_argument('--num-real', type=int, default=192)
  parser.add_argument('--rounds', type=int, default=3)
  args = parser.parse_args()
  corpus = args.out / 'corpus'
  if not is_whole(corpus):
    prepare(
      [str(args.realtext / name) for name in SOURCES],
      str(corpus),
      vocab=str(args.vocab),
      block_len=BLOCK_LEN,
    )
  blocks = blocks_of(corpus, args.num_full, args.num_real)
  for name, made in blocks.items():
    write_texts(args.out / f'{name}.npz', made)
  rival = Rival(args.torch_python, args.out)
  results = compare(rival, blocks, args)
  rival.close()
  write_json(args.out / 'results.json', results)
  print(json.dumps(results, indent=2))


def compare(
  rival: Rival, blocks: dict[str, MadeUpBlocks], args: argparse.Namespace
) -> dict[str, Any]:
  """Times both sides and the machine in turn."""
  foreign = read_hf_realm([args.out / 'model'], args.vocab)
  embed = make_embed(foreign.config, Realm.embed_documents)
  counted: dict[str, Throughput] = {}

  def ours(name: str) -> np.ndarray:
    counted[name] = Throughput()
    table = BlockTable(blocks[name])
    fill_table(
      table,
      embed,
      foreign.params,
      blocks[name],
      LENGTHS,
      throughput=counted[name],
    )
    return table.embeds()

  same = np.load(args.out / 'first.npy') - ours('real')[:4]
  batch = best_batch(rival)
  asked: dict[str, list[dict[str, Any]]] = {}

  def theirs(name: str, by_length: bool) -> None:
    answer = rival.ask(texts=name, batch=batch, sorted=by_length)
    asked.setdefault(f'{name}, {by_length}', []).append(answer)

  probes = Probes('cpu', 'float32')
  calls = {
    PRODUCT: probes.calls[PRODUCT],
    'ours, full': lambda: ours('full'),
    'torch, full': lambda: theirs('full', False),
    'ours, real': lambda: ours('real'),
    'torch, real': lambda: theirs('real', False),
    'torch, real, sorted': lambda: theirs('real', True),
  }
  seconds = time_in_turn(calls, args.rounds)
  num = {'full': args.num_full, 'real': args.num_real}
  rate = probes.rates(statistics.median(seconds[PRODUCT]), 1.0)
  return {
    'machine': {**machine(), 'torch': rival.version, 'rounds': args.rounds},
    'largest_difference': float(np.abs(same).max()),
    'real_lens': {
      'mean': float(blocks['real'].block_lens.mean()),
      'quartiles': np.quantile(
        blocks['real'].block_lens, [0, 0.25, 0.5, 0.75, 1]
      ).tolist(),
    },
    'torch_batch': batch,
    'products_per_second': rate['flops_per_second'],
    'documents_per_second': {
      name: num[name.split(', ')[1]] / statistics.median(times)
      for name, times in seconds.items()
      if name != PRODUCT
    },
    'flops_per_second': {
      name: embedding_flops(foreign.config, counted[name].num_texts)
      / statistics.median(seconds[f'ours, {name}'])
      for name in num
    },
    'padding': {name: counted[name].padding_share for name in num},
    'torch_places': {
      name: found[-1]['places'] for name, found in asked.items()
    },
    'ratio': {
      name: statistics.median(
        theirs / own
        for theirs, own in zip(
          seconds[name], seconds[f'ours, {name.split(", ")[1]}'], strict=True
        )
      )
      for name in seconds
      if name.startswith('torch')
    },
    'seconds': seconds,
  }


def best_batch(rival: Rival) -> int:
  """The batch size at which PyTorch is fastest, second of two calls."""
  rates = {}
  for batch in BATCHES:
    asked = {'texts': 'full', 'batch': batch, 'sorted': False, 'limit': batch}
    rival.ask(**asked)
    rates[batch] = batch / rival.ask(**asked)['seconds']
  print('torch, documents/s by batch size:', rates)
  return max(rates, key=lambda size: rates[size])


if __name__ == '__main__':
  main()
