"""All of REALM, small, on the embedded corpus, with a report."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from realm_jax.data.examples import Lengths
from realm_jax.data.qa import load_questions
from realm_jax.errors import UserError
from realm_jax.eval.tables import rich_table
from realm_jax.folders import write_json
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.realm import RealmConfig
from realm_jax.optional import require
from realm_jax.runs.almanac_corpus import AlmanacConfig, prepare_almanac
from realm_jax.runs.ask import ask
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig, ict
from realm_jax.runs.pretrain import PretrainConfig, pretrain
from realm_jax.runs.quickstart_report import (
  summarise,
  table_rows,
  write_html,
)
from realm_jax.train.loop import LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.reporting import read_metrics

_ENCODER = EncoderConfig(
  hidden_size=128,
  num_layers=2,
  num_heads=4,
  feed_forward_size=256,
  max_positions=128,
  dropout_rate=0.0,
  attention_dropout_rate=0.0,
  # about 1 / sqrt(hidden_size); BERT's 0.02 suits a width of 768
  initializer_range=0.08,
)
_MODEL = RealmConfig(_ENCODER, embed_dim=64, span_hidden_size=64)
# One shape nearly always: to compile a step takes as long as 25 of them.
_LENGTHS = Lengths(query_len=48, document_len=64, multiple=32, max_masks=8)
_LOOP = LoopConfig(num_steps=300, log_every=20, checkpoint_every=200)
_OPTIMIZER = OptimizerConfig(learning_rate=1e-3, bias_correction=True)
# With 32 blocks to choose among recall@5 ends at 0.39, with 64 at 0.61.
_ICT = IctConfig(batch_size=64, reader_batch_size=32, copying_init=True)
_ICT_LOOP = dataclasses.replace(_LOOP, num_steps=600)
_ICT_OPTIMIZER = dataclasses.replace(_OPTIMIZER, learning_rate=2e-3)
_PRETRAIN = PretrainConfig(
  batch_size=32,
  num_candidates=6,
  refresh='synchronous(every=50)',
  probe_every=100,
  level_null=True,
  restated_only=True,
)
_PRETRAIN_LOOP = dataclasses.replace(_LOOP, num_steps=350)
# At 6e-4 the retriever is lost within a hundred steps.
_PRETRAIN_OPTIMIZER = dataclasses.replace(_OPTIMIZER, learning_rate=2e-4)
_FINETUNE = FinetuneConfig(batch_size=16, beam_size=50, num_read=5)
# Exact match has not levelled off: more steps raise it, of all systems alike.
_FINETUNE_LOOP = _LOOP
# The span head is new and must learn fast, the embedder keep what it knows.
_FINETUNE_OPTIMIZER = dataclasses.replace(
  _OPTIMIZER, slowed=(('^query_embedder/', 0.3),)
)


@dataclasses.dataclass(frozen=True)
class QuickstartConfig(AlmanacConfig):
  """Sizes that show REALM work in about eleven minutes on two slow cores.

  Attributes:
    num_eval_questions: test questions used; None for all.
    model: of all stages.
    lengths: of all stages.
    ict: the warm start, with ict_loop and ict_optimizer.
    pretrain: REALM, with pretrain_loop and pretrain_optimizer.
    finetune: question answering, with finetune_loop and finetune_optimizer.
  """

  num_eval_questions: int | None = None
  model: RealmConfig = _MODEL
  lengths: Lengths = _LENGTHS
  ict: IctConfig = _ICT
  ict_loop: LoopConfig = _ICT_LOOP
  ict_optimizer: OptimizerConfig = _ICT_OPTIMIZER
  pretrain: PretrainConfig = _PRETRAIN
  pretrain_loop: LoopConfig = _PRETRAIN_LOOP
  pretrain_optimizer: OptimizerConfig = _PRETRAIN_OPTIMIZER
  finetune: FinetuneConfig = _FINETUNE
  finetune_loop: LoopConfig = _FINETUNE_LOOP
  finetune_optimizer: OptimizerConfig = _FINETUNE_OPTIMIZER


def quickstart(
  out: str = 'runs/quickstart',
  *,
  seeds: int = 1,
  config: QuickstartConfig | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Runs every stage, writes report.html and report.json, asks three questions.

  Run again after an interruption it goes on where it was.

  Args:
    out: folder to write.
    seeds: how many runs, with seeds 0, 1, ...
    config: see QuickstartConfig.
    console: where to print; None for the terminal.

  Returns:
    What report.json holds.

  Raises:
    UserError: seeds is less than 1, or an extra is not installed.
  """
  # Known now rather than after the training.
  require('bm25s', 'baselines')
  for module in ('jinja2', 'matplotlib'):
    require(module, 'report')
  if seeds < 1:
    raise UserError(f'seeds is {seeds}, expected at least 1.')
  config = config or QuickstartConfig()
  console = console or Console()
  folder = Path(out)
  almanac = prepare_almanac(folder, config, console)
  results = [
    run_seed(folder, almanac, config, seed, console) for seed in range(seeds)
  ]
  report = summarise(results)
  write_json(folder / 'report.json', report)
  write_html(folder, config, report)
  console.print(rich_table(table_rows(report), title='REALM on the almanac'))
  console.print(f'Report: {folder / "report.html"}')
  questions = load_questions(almanac / 'questions.test.jsonl')
  asked = [question.question for question in questions[::100][:3]]
  ask(str(folder / 'seed0' / 'realm'), asked, console=console)
  return report


def run_seed(
  folder: Path,
  almanac: Path,
  config: QuickstartConfig,
  seed: int,
  console: Console,
) -> dict[str, dict[str, float]]:
  """All training and evaluation with one seed.

  Returns:
    system -> metric -> value.
  """
  corpus = str(folder / 'corpus')
  runs = folder / f'seed{seed}'

  def timed(title: str, function: Callable, *args: Any, **kwargs: Any) -> Any:
    start = time.perf_counter()
    result = function(*args, **kwargs)
    console.print(
      f'[dim]seed {seed}: {title}: {time.perf_counter() - start:.0f} s[/dim]'
    )
    return result

  def with_seed(loop: LoopConfig) -> LoopConfig:
    return dataclasses.replace(loop, seed=seed)

  timed(
    'ict',
    ict,
    corpus,
    str(runs / 'ict'),
    model=config.model,
    config=config.ict,
    lengths=config.lengths,
    loop=with_seed(config.ict_loop),
    optimizer=config.ict_optimizer,
  )
  timed(
    'pretrain',
    pretrain,
    corpus,
    str(runs / 'pretrain'),
    str(runs / 'ict'),
    probe_questions=str(almanac / 'questions.dev.jsonl'),
    config=config.pretrain,
    lengths=config.lengths,
    loop=with_seed(config.pretrain_loop),
    optimizer=config.pretrain_optimizer,
  )
  for name, init, reader in (
    ('realm', 'pretrain', 'span'),
    ('ict_only', 'ict', 'span'),
    ('closed_book', 'pretrain', 'closed_book'),
  ):
    timed(
      f'finetune {name}',
      finetune,
      corpus,
      str(runs / name),
      str(runs / init),
      str(almanac / 'questions.train.jsonl'),
      config=dataclasses.replace(config.finetune, reader=reader),
      lengths=config.lengths,
      loop=with_seed(config.finetune_loop),
      optimizer=config.finetune_optimizer,
    )

  def measure(name: str, run: str, ranker: str = 'retriever') -> dict:
    return timed(
      f'evaluate {name}',
      evaluate,
      str(runs / run),
      str(almanac / 'questions.test.jsonl'),
      str(runs / 'evaluation' / name),
      ranker=ranker,
      max_questions=config.num_eval_questions,
      console=Console(quiet=True),
    )['metrics']

  results = {}
  for name, run, ranker in (
    ('realm', 'realm', 'retriever'),
    ('ict_only', 'ict_only', 'retriever'),
    ('bm25_reader', 'realm', 'bm25'),
    ('gold_document', 'realm', 'gold'),
    ('closed_book', 'closed_book', 'retriever'),
  ):
    results[name] = _figures(measure(name, run, ranker))
  utility = [
    record['held_out_retrieval_utility']
    for record in read_metrics(runs / 'pretrain')
    if 'held_out_retrieval_utility' in record
  ]
  for name, run, value in (
    ('ict_only', 'ict', utility[:1]),
    ('realm', 'pretrain', utility[-1:]),
  ):
    if value:  # a tiny corpus may have no batch of held-out sentences
      results[name]['retrieval_utility'] = value[0]
    zero_shot = measure(f'{run}_zero_shot', run)
    results[name]['zero_shot_recall_at_5'] = zero_shot['recall_at_5']['mean']
  return results


def _figures(metrics: dict[str, Any]) -> dict[str, float]:
  names = {
    'exact_match': 'em',
    'f1': 'f1',
    'recall_at_1': 'recall_at_1',
    'recall_at_5': 'recall_at_5',
    'recall_at_20': 'recall_at_20',
  }
  return {
    short: metrics[name]['mean']
    for name, short in names.items()
    if name in metrics
  }
