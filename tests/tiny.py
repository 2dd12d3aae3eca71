"""A tiny corpus, model and runs: what many tests start from.

All sizes differ, so that a swapped axis shows. Sequences are padded to their
full length (Lengths.multiple is large), so that every step compiles once.
"""

import dataclasses
import io
import json
import random
from pathlib import Path

import jax
from rich.console import Console

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.index.retriever import Retriever
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig, init_params
from realm_jax.refresh.refresher import Refresher
from realm_jax.runs.prepare import prepare
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.run_folder import RunFolder

LENGTHS = Lengths(query_len=24, document_len=40, multiple=64, max_masks=3)
ENCODER = EncoderConfig(
  hidden_size=16,
  num_layers=1,
  num_heads=2,
  feed_forward_size=20,
  max_positions=64,
)
MODEL = RealmConfig(ENCODER, embed_dim=8, span_hidden_size=12, max_span_width=5)
# Refreshes, checkpoints and the end of the run fall on different steps.
PRETRAIN = {
  'config': PretrainConfig(
    batch_size=4,
    num_candidates=3,
    refresh='synchronous(every=4)',
    probe_every=6,
    num_held_out=6,
  ),
  'lengths': LENGTHS,
  'loop': LoopConfig(num_steps=11, log_every=1, checkpoint_every=3, seed=7),
  'optimizer': OptimizerConfig(learning_rate=1e-3),
}
BLOCK_LEN = 40
FOLDER = Path(__file__).parent

_FIRST = ('Ada', 'Bela', 'Caro', 'Dora', 'Emil', 'Fina', 'Gero')
_LAST = ('Quist', 'Rook', 'Stahl', 'Tarn', 'Ulm', 'Vane')
_TOWNS = ('Arnby', 'Belton', 'Corva', 'Dunholm', 'Eskerry')
_TRADES = ('painter', 'mason', 'baker', 'sailor')


def people() -> list[dict[str, str]]:
  """42 invented people, each with a town, a trade and a year."""
  rng = random.Random(0)
  return [
    {
      'name': f'{first} {last}',
      'town': rng.choice(_TOWNS),
      'trade': rng.choice(_TRADES),
      'year': str(rng.randrange(1800, 1900)),
    }
    for first in _FIRST
    for last in _LAST
  ]


def documents() -> list[dict[str, str]]:
  """An article for each person."""
  return [
    {
      'title': p['name'],
      'text': (
        f'{p["name"]} was a {p["trade"]} who lived near {p["town"]}. '
        f'In {p["year"]} {p["name"]} left the town of {p["town"]} for good. '
        f'Many a {p["trade"]} of {p["town"]} spoke of it.'
      ),
    }
    for p in people()
  ]


def questions() -> list[dict]:
  """Two questions about each person."""
  return [
    {'question': question, 'answer': [answer], 'titles': [p['name']]}
    for p in people()
    for question, answer in (
      (f'Where did {p["name"]} live?', p['town']),
      (f'When did {p["name"]} leave?', p['year']),
    )
  ]


def write_lines(path: Path, rows: list[dict]) -> Path:
  """Writes JSON lines."""
  path.write_text(''.join(f'{json.dumps(row)}\n' for row in rows))
  return path


def quiet() -> Console:
  """A console that shows nothing."""
  return Console(file=io.StringIO(), width=200)


def make_corpus(
  folder: Path, rows: list[dict] | None = None, vocab: str | None = None
) -> Path:
  """Prepares a corpus, of `documents` unless others are given."""
  folder.mkdir(parents=True, exist_ok=True)
  source = write_lines(folder / 'documents.jsonl', rows or documents())
  corpus = folder / 'corpus'
  prepare(
    [str(source)],
    str(corpus),
    vocab=vocab,
    vocab_size=250,
    block_len=BLOCK_LEN,
    console=quiet(),
  )
  return corpus


def make_untrained_run(
  folder: Path, corpus: Path, model: RealmConfig = MODEL, stage: str = 'ict'
) -> Path:
  """A finished run with new parameters."""
  opened = Corpus.open(corpus)
  model = with_vocab_of(opened, model)
  run = RunFolder(folder, stage, model, opened, {'lengths': LENGTHS})
  run.finish(init_params(model, jax.random.key(3)), num_steps=0)
  return folder


def no_refresh(folder: Path, retriever: Retriever) -> Refresher:
  """The refresher of a retriever whose index is loaded, and stays."""
  return Refresher(folder, retriever, None, 'off')


def with_vocab_of(corpus: Corpus, model: RealmConfig = MODEL) -> RealmConfig:
  """The model with as many wordpieces as the corpus has."""

  encoder = dataclasses.replace(model.encoder, vocab_size=corpus.wordpiece.size)
  return dataclasses.replace(model, encoder=encoder)
