"""seqio tasks over a corpus and over question files (adapter; extra `data`).

    realm_ssm            sentences with a salient span masked
    realm_random_span    with a random span masked
    realm_random_token   with 15 % of the pieces masked
    realm_ict            sentences and their blocks
    openqa               questions and answers; also openqa_nq, openqa_webq, ...
    realm_masked         mixture of the three masked ones, at equal rates
    openqa_all           mixture of the question tasks, all questions alike

Examples come from the numpy functions that the trainer reads through Grain
(MaskedSentences, InverseCloze, QAExamples), a function of seed, epoch and
sentence each; so both see the same ones, whatever the order and the shards.
seqio_converters makes batches of them.

seqio's own tool caches them, `seqio_cache_tasks --module_import=MODULE`, where
MODULE is one of yours that calls register_tasks: see seqio_caching.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import (
  Example,
  InverseCloze,
  Lengths,
  MaskedSentences,
  inverse_cloze_shapes,
  masked_shapes,
  split_sentences,
)
from realm_jax.data.seqio_caching import cacheable_task
from realm_jax.data.seqio_metrics import (
  answer_metrics,
  postprocess_answers,
  retrieval_metrics,
)
from realm_jax.data.seqio_pipeline import Shapes, TaskExamples, make_features
from realm_jax.data.seqio_questions import question_task
from realm_jax.data.seqio_vocabulary import wordpiece_vocabulary
from realm_jax.errors import UserError
from realm_jax.optional import require

MASKED_TASKS = {
  'realm_ssm': 'salient_span',
  'realm_random_span': 'random_span',
  'realm_random_token': 'random_token',
}
ICT_TASK = 'realm_ict'
QUESTION_TASK = 'openqa'
MASKED_MIXTURE = 'realm_masked'
QUESTION_MIXTURE = 'openqa_all'

_QUESTION_SETTINGS = {
  'postprocess_fn': postprocess_answers,
  'metric_fns': (answer_metrics, retrieval_metrics),
}

QuestionFiles = str | Path | Mapping[str, str | Path]


def register_tasks(
  corpus_folder: str | Path,
  lengths: Lengths,
  seed: int = 0,
  questions: QuestionFiles | Mapping[str, QuestionFiles] | None = None,
  prefix: str = '',
  num_held_out: int = 512,
) -> list[str]:
  """Registers tasks over a corpus and question files, and their mixtures.

  The sentence tasks have splits train and validation, the held-out sentences
  of split_sentences; for the question tasks see question_task. Every feature
  has a fixed shape that lengths decides, not seqio's sequence_length. Shuffled,
  a task visits all its examples in a new order in every epoch. A mixture that
  is not repeated ends with the first of its tasks that does. That of the
  questions is there if there are two question tasks or more; each is drawn from
  as often as it has questions, to train on where it has a split train.

  Tasks that this function registered before under the same names are replaced,
  and mixtures that were made of those keep them: register such mixtures anew.
  With a prefix, the tasks of two corpora stand side by side.

  Args:
    corpus_folder: folder of a prepared corpus.
    lengths: sequence lengths; questions have query_len too.
    seed: of the choice of blanks.
    questions: a question file, for task openqa with the one split train; or
      name -> file, for tasks openqa_<name>. Where a file is meant, split ->
      file may stand. The name '' means openqa.
    prefix: what to put before every name.
    num_held_out: sentences to hold out; the same ones as a run holds out that
      is told the same number.

  Returns:
    The names registered, mixtures last.

  Raises:
    ImportError: seqio is not installed.
    FileNotFoundError: there is no such corpus or question file.
    UserError: the corpus has no salient spans, a question file is bad, or a
      name is no seqio name, there twice, or belongs to a task that is not ours.
      Nothing is registered then.
  """
  seqio = require('seqio', 'data')
  corpus = Corpus.open(corpus_folder)
  sentence_tasks = _sentence_tasks(corpus, lengths, seed, num_held_out)
  question_tasks = _question_tasks(corpus, lengths, questions or {})
  # name of a mixture -> name of a task -> rate
  mixtures = {MASKED_MIXTURE: dict.fromkeys(MASKED_TASKS, 1.0)}
  if len(question_tasks) > 1:
    mixtures[QUESTION_MIXTURE] = {
      examples.name: _num_questions(examples) for examples in question_tasks
    }
  tasks = {t.name: t for t in [*sentence_tasks, *question_tasks]}
  names = [prefix + name for name in [*tasks, *mixtures]]
  _check_names(seqio, names)
  vocabulary = wordpiece_vocabulary(corpus.wordpiece)
  here = seqio.SourceInfo(file_path=__file__)
  for name, examples in tasks.items():
    task = cacheable_task(
      prefix + name,
      examples,
      output_features=make_features(vocabulary, examples.shapes),
      source_info=here,
      **(_QUESTION_SETTINGS if name.startswith(QUESTION_TASK) else {}),
    )
    _replace(seqio, seqio.TaskRegistry, task)
  for name, rates in mixtures.items():
    parts = [(prefix + part, rate) for part, rate in rates.items()]
    mixture = seqio.Mixture(prefix + name, parts, source_info=here)
    _replace(seqio, seqio.MixtureRegistry, mixture)
  return names


def _replace(seqio: ModuleType, registry: Any, provider: Any) -> None:
  for either in (seqio.TaskRegistry, seqio.MixtureRegistry):
    either.remove(provider.name)
  registry.add_provider(provider.name, provider)


def _num_questions(examples: TaskExamples) -> float:
  ids = examples.ids
  return float(len(ids.get('train', next(iter(ids.values())))))


def _check_names(seqio: ModuleType, names: Sequence[str]) -> None:
  for name in names:
    if names.count(name) > 1:
      raise UserError(
        f'{name!r} would be the name of a task and of a mixture. Call these '
        'questions something else.'
      )
    if not re.fullmatch(r'[\w.:#]+', name):
      raise UserError(
        f'{name!r} cannot be the name of a seqio task: expected letters, '
        'digits and _ . : # only. Change the prefix or the name of the '
        'questions.'
      )
    for registry in (seqio.TaskRegistry, seqio.MixtureRegistry):
      info = (
        registry.get(name).source_info if name in registry.names() else None
      )
      if name in registry.names() and not (info and info.file_path == __file__):
        raise UserError(
          f'{name!r} is in seqio.{registry.__name__} already, and not from '
          'register_tasks. Give a prefix, or remove it there first.'
        )


def _sentence_tasks(
  corpus: Corpus, lengths: Lengths, seed: int, num_held_out: int
) -> list[TaskExamples]:
  def task(
    name: str,
    with_spans: bool,
    make_example: Callable[[int, int], Example | None],
    shapes: Shapes,
  ) -> TaskExamples:
    train, held_out = split_sentences(corpus, num_held_out, with_spans)

    def make(split: str, sentence_id: int, epoch: int) -> Example | None:
      del split
      return make_example(sentence_id, epoch)

    ids = {'train': train, 'validation': held_out}
    return TaskExamples(name, ids, make, shapes, {})

  masked = [
    task(
      name,
      masking == 'salient_span',
      MaskedSentences(corpus, masking, lengths, seed),
      masked_shapes(lengths),
    )
    for name, masking in MASKED_TASKS.items()
  ]
  ict = task(
    ICT_TASK,
    False,
    InverseCloze(corpus, lengths, seed),
    inverse_cloze_shapes(lengths),
  )
  return [*masked, ict]


def _question_tasks(
  corpus: Corpus,
  lengths: Lengths,
  questions: QuestionFiles | Mapping[str, QuestionFiles],
) -> list[TaskExamples]:
  by_name = questions if isinstance(questions, Mapping) else {'': questions}
  return [
    question_task(
      f'{QUESTION_TASK}_{name}' if name else QUESTION_TASK,
      files if isinstance(files, Mapping) else {'train': files},
      corpus.wordpiece,
      lengths,
    )
    for name, files in by_name.items()
  ]
