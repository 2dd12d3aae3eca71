"""Pre-train retriever and reader together: REALM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import optax

from realm_jax.checks import check_at_least, check_microbatches
from realm_jax.data.batches import Batches, DataConfig
from realm_jax.data.companions import Companions
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import (
  Example,
  Lengths,
  MaskedSentences,
  masked_shapes,
  split_sentences,
)
from realm_jax.data.masking import MASKINGS
from realm_jax.data.materialised import MaterialisedExamples
from realm_jax.data.qa import Question, load_questions
from realm_jax.errors import UserError
from realm_jax.eval.probe import Probe
from realm_jax.eval.utility import HeldOut
from realm_jax.index.config import IndexConfig
from realm_jax.index.retriever import Retriever
from realm_jax.models.realm import RealmConfig
from realm_jax.objectives import OBJECTIVES
from realm_jax.own_rows import OwnRows
from realm_jax.refresh.api import (
  Searching,
  check_index,
  divide_devices,
  make_searching,
  schedule_of_replay,
)
from realm_jax.refresh.schedule import parse_schedule
from realm_jax.refresh.served import identify_served, read_served
from realm_jax.sharding import Layout, MeshConfig, check_batch, make_layout
from realm_jax.train.loop import Event, LoopConfig
from realm_jax.train.optimizer import OptimizerConfig
from realm_jax.train.pretrain_source import PretrainSource
from realm_jax.train.reporting import warn
from realm_jax.train.run_folder import RunFolder, load_run
from realm_jax.train.session import run_stage
from realm_jax.train.step import Step, make_pretrain_step

_PROBE_KS = (1, 5, 20)
_PROBE_QUESTIONS = 256


@dataclasses.dataclass(frozen=True)
class PretrainConfig:
  """What pre-training is about.

  Attributes:
    batch_size: masked sentences a step (the paper has 512).
    num_microbatches: parts of the batch that a step takes one after the other:
      the same update, but for dropout, with the memory of a part.
    num_candidates: documents a sentence, the null document included.
    masking: 'salient_span', 'random_span' or 'random_token'.
    objective: 'marginal_span', the paper's, 'marginal_token', the official
      code's, or another of objectives.OBJECTIVES.
    refresh: when and where block embeddings are made anew: see
      refresh.schedule.
    probe_every: steps between measurements of recall and held-out utility.
    num_held_out: sentences kept out of training, as in the ict run.
    drop_near_duplicates: drop candidates that contain the query's sentence.
    train_retriever: False keeps the embedder as it is.
    level_null: add a constant to the null document's score, so that at the
      start it is what the nearest blocks score on average. Neither the paper
      nor the official code does; the embedder's warm start says nothing of the
      null document.
    restated_only: blank out only salient spans that another block mentions
      together with another span of the sentence, so that a document may help.
      The paper's 13 million blocks say nearly everything twice; a small corpus
      does not, and there blanks that nothing can help with drown the others.
  """

  batch_size: int = 16
  num_microbatches: int = 1
  num_candidates: int = 8
  masking: str = 'salient_span'
  objective: str = 'marginal_span'
  refresh: str = 'synchronous(every=500)'
  probe_every: int = 500
  num_held_out: int = 512
  drop_near_duplicates: bool = False
  train_retriever: bool = True
  level_null: bool = False
  restated_only: bool = False

  def __post_init__(self):
    check_at_least(
      self,
      batch_size=1,
      num_microbatches=1,
      num_candidates=2,
      probe_every=1,
      num_held_out=0,
    )
    check_microbatches(self)
    for name, allowed in (('masking', MASKINGS), ('objective', OBJECTIVES)):
      if getattr(self, name) not in allowed:
        raise UserError(
          f'PretrainConfig.{name} is {getattr(self, name)!r}, expected one of '
          f'{", ".join(allowed)}.'
        )
    if self.restated_only and self.masking != 'salient_span':
      raise UserError(
        f'PretrainConfig.restated_only is True and masking {self.masking!r}: '
        'only salient spans are known to be restated.'
      )
    parse_schedule(self.refresh)

  @property
  def frozen(self) -> tuple[str, ...]:
    """Patterns of parameters that are not trained.

    What the loss does not reach is not decayed either.
    """
    embedder = () if self.train_retriever else ('embedder/',)
    return ('^reader/span_head/', *embedder)


def pretrain(
  corpus: str,
  out: str,
  init: str,
  *,
  probe_questions: str | None = None,
  examples: str | None = None,
  replay: str | None = None,
  model: RealmConfig | None = None,
  config: PretrainConfig | None = None,
  lengths: Lengths | None = None,
  loop: LoopConfig | None = None,
  optimizer: OptimizerConfig | None = None,
  index: IndexConfig | None = None,
  mesh: MeshConfig | None = None,
  data: DataConfig | None = None,
) -> str:
  """Trains embedder and reader on blanked-out spans.

  Args:
    corpus: folder of a prepared corpus.
    out: the run's folder; a run that was stopped goes on.
    init: folder of a finished run to start from, most often one of `ict`.
    probe_questions: file of questions for the recall curve.
    examples: folder of materialised examples to train on, in place of the
      corpus's sentences; config.masking and restated_only have no say then.
    replay: a run, or its served.jsonl: search at every step what that run
      searched, which config.refresh then has no say in. With the settings of
      that run its parameters come out, bit for bit.
    model: whose dropout and arithmetic (dtype, attention, scan_layers, remat)
      the encoder gets; its sizes are those of init. None: as in init.
    config: see PretrainConfig.
    lengths: sequence lengths.
    loop: how many steps.
    optimizer: learning rate and the rest; num_steps is taken from loop.
    index: what to search with.
    mesh: devices to spread the run over; None for one. A run that was stopped
      may go on with another.
    data: how examples are made on the host; None for a thread.

  Returns:
    out.

  Raises:
    UserError: the corpus is too small for num_candidates, or its vocabulary
      is not that of the run to start from.
  """
  opened = Corpus.open(corpus)
  config = config or PretrainConfig()
  lengths = lengths or Lengths()
  loop = loop or LoopConfig()
  index = index or IndexConfig()
  optimizer = optimizer or OptimizerConfig(learning_rate=3e-5)
  start = load_run(init).computed_as(model)
  start.check_vocabulary(opened)
  optimizer = optimizer.for_stage(loop.num_steps, config.frozen, start.params)
  _check_num_candidates(config, opened)
  served = read_served(replay) if replay is not None else None
  refresh = schedule_of_replay(served) if served else config.refresh
  check_index(refresh, index.kind)
  trainers, builders = divide_devices(refresh)
  layout = make_layout(mesh, start.model, trainers)
  check_batch(
    layout,
    'PretrainConfig.batch_size',
    config.batch_size,
    config.num_microbatches,
  )
  # Read before the run's folder is made, so that mistakes leave none.
  questions = load_questions(probe_questions) if probe_questions else []
  lengths.check(opened, start.model.encoder.max_positions)
  materialised = _open_examples(examples, opened, lengths)
  run = RunFolder(
    out,
    'pretrain',
    start.model,
    opened,
    {
      'init': start.identity,
      'examples': materialised and materialised.manifest['files'],
      'config': config,
      'lengths': lengths,
      'loop': loop,
      'optimizer': optimizer,
      'index': index,
      'replay': replay and identify_served(replay),
    },
  )
  if run.finished:
    return out
  searching = make_searching(
    refresh,
    run,
    opened,
    lengths,
    index,
    layout,
    builders=builders,
    seed=loop.seed,
    replay=served,
    warn=warn,
  )
  stage = _Stage(run, opened, config, lengths, loop, layout, data)
  source = stage.source(searching, materialised)
  measure = stage.measurement(source, searching.retriever, questions)
  run_stage(
    run,
    start.params,
    optimizer,
    stage.make_step,
    source,
    loop,
    [*source.events(), Event(config.probe_every, measure)],
    config.num_candidates,
    layout,
  )
  return out


def _check_num_candidates(config: PretrainConfig, corpus: Corpus) -> None:
  if config.num_candidates > corpus.num_blocks:
    raise UserError(
      f'num_candidates is {config.num_candidates}, but corpus {corpus.folder} '
      f'has {corpus.num_blocks} blocks: expected at most {corpus.num_blocks}, '
      'the null document included and the source block left out. Lower '
      'PretrainConfig.num_candidates or prepare a larger corpus.'
    )


def _open_examples(
  folder: str | None, corpus: Corpus, lengths: Lengths
) -> MaterialisedExamples | None:
  """The examples of a folder, if they are of this corpus and these lengths."""
  if folder is None:
    return None
  examples = MaterialisedExamples(folder)
  examples.check_shapes(masked_shapes(lengths))
  if examples.manifest['corpus_fingerprint'] != corpus.fingerprint:
    raise UserError(
      f'The examples of {folder} are not of corpus {corpus.folder}. Make them '
      'of it with: realm-jax materialise'
    )
  return examples


@dataclasses.dataclass(frozen=True)
class _Stage:
  """What the parts of one run of this stage are made with.

  Attributes:
    run: its folder.
    corpus: its blocks.
    config: what it is about.
    lengths: sequence lengths.
    loop: how long.
    layout: of the devices that train; None for one.
    data: how examples are made; None for a thread.
  """

  run: RunFolder
  corpus: Corpus
  config: PretrainConfig
  lengths: Lengths
  loop: LoopConfig
  layout: Layout | None
  data: DataConfig | None

  def _sentence_ids(self) -> tuple[np.ndarray, np.ndarray]:
    """Those to train on, and those held out."""
    return split_sentences(
      self.corpus,
      self.config.num_held_out,
      self.config.masking == 'salient_span',
    )

  def source(
    self, searching: Searching, materialised: MaterialisedExamples | None
  ) -> PretrainSource:
    """The batches: masked sentences, the corpus's or materialised ones."""
    config = self.config
    make_example: Callable[[int, int], Example | None] = MaskedSentences(
      self.corpus,
      config.masking,
      self.lengths,
      self.loop.seed,
      Companions(self.corpus) if config.restated_only else None,
    )
    train_ids, _ = self._sentence_ids()
    if materialised is not None:
      train_ids = np.arange(materialised.num_examples)
      make_example = materialised
    rows = OwnRows(self.layout, config.batch_size)
    batches = Batches(
      train_ids,
      make_example,
      config.batch_size,
      self.loop.seed,
      rows.numbers,
      self.data,
    )
    return PretrainSource(
      batches,
      searching.retriever,
      searching.snapshots,
      searching.refresher,
      config.num_candidates,
      config.drop_near_duplicates,
      config.level_null,
      rows,
    )

  def measurement(
    self,
    source: PretrainSource,
    retriever: Retriever,
    questions: Sequence[Question],
  ) -> Callable[[int, Any], dict[str, float]]:
    """measure(step, params): held-out utility, and recall if asked for."""
    _, held_out_ids = self._sentence_ids()
    parts: list[Callable[[Any], dict[str, float]]] = [
      HeldOut(
        self.run.model,
        source.assemble,
        self.corpus,
        held_out_ids,
        self.lengths,
        self.config.batch_size,
        self.layout,
      )
    ]
    if questions:
      parts.append(Probe(questions[:_PROBE_QUESTIONS], retriever, _PROBE_KS))

    def measure(step: int, params: Any) -> dict[str, float]:
      del step
      return {
        name: value for part in parts for name, value in part(params).items()
      }

    return measure

  def make_step(self, transformation: optax.GradientTransformation) -> Step:
    """The training step."""
    return make_pretrain_step(
      self.run.model,
      transformation,
      self.config.objective,
      self.config.train_retriever,
      self.layout,
      self.config.num_microbatches,
    )
