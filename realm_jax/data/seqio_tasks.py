"""seqio tasks over a corpus and over question files (adapter; extra `data`).

    realm_ssm            sentences with a salient span masked
    realm_random_span    with a random span masked
    realm_random_token   with 15 % of the pieces masked
    realm_ict            sentences and their blocks
    openqa               questions and answers
    realm_masked         mixture of the first three, at equal rates

Examples come from the numpy functions that the trainer reads through Grain
(MaskedSentences, InverseCloze, QAExamples), a function of seed, epoch and
sentence each; so both see the same ones, whatever the order and the shards.
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
from realm_jax.data.seqio_pipeline import (
  Shapes,
  TaskExamples,
  make_features,
  make_preprocessor,
  make_source,
)
from realm_jax.data.seqio_questions import (
  answer_metrics,
  postprocess_answers,
  question_task,
)
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

QuestionFiles = str | Path | Mapping[str, str | Path]


def register_tasks(
  corpus_folder: str | Path,
  lengths: Lengths,
  seed: int = 0,
  questions: QuestionFiles | Mapping[str, QuestionFiles] | None = None,
  prefix: str = '',
  num_held_out: int = 512,
) -> list[str]:
  """Registers tasks over a corpus, and the mixture of its masked sentences.

  The sentence tasks have splits train and validation, the held-out sentences
  of split_sentences; for the question tasks see question_task. Every feature
  has a fixed shape that lengths decides, not seqio's sequence_length. Shuffled,
  a task visits all its examples in a new order in every epoch. A mixture that
  is not repeated ends with the first of its tasks that does.

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
    The names registered, the mixture last.

  Raises:
    ImportError: seqio is not installed.
    FileNotFoundError: there is no such corpus or question file.
    UserError: the corpus has no salient spans, a question file is bad, or a
      name is no seqio name or belongs to a task that is not ours. Nothing is
      registered then.
  """
  seqio = require('seqio', 'data')
  corpus = Corpus.open(corpus_folder)
  all_examples = [
    *_sentence_tasks(corpus, lengths, seed, num_held_out),
    *_question_tasks(corpus, lengths, questions or {}),
  ]
  names = [prefix + examples.name for examples in all_examples]
  _check_names(seqio, [*names, prefix + MASKED_MIXTURE])
  vocabulary = wordpiece_vocabulary(corpus.wordpiece)
  here = seqio.SourceInfo(file_path=__file__)
  tasks = {
    examples.name: seqio.Task(
      name,
      source=make_source(examples),
      preprocessors=[make_preprocessor(examples)],
      output_features=make_features(vocabulary, examples.shapes),
      postprocess_fn=postprocess_answers if examples.extra_shapes else None,
      metric_fns=[answer_metrics] if examples.extra_shapes else None,
      source_info=here,
    )
    for name, examples in zip(names, all_examples, strict=True)
  }
  mixture = seqio.Mixture(
    prefix + MASKED_MIXTURE,
    [(tasks[name], 1.0) for name in MASKED_TASKS],
    source_info=here,
  )
  for task in tasks.values():
    _replace(seqio.TaskRegistry, task)
  _replace(seqio.MixtureRegistry, mixture)
  return [*names, mixture.name]


def _replace(registry: Any, provider: Any) -> None:
  registry.remove(provider.name)
  registry.add_provider(provider.name, provider)


def _check_names(seqio: ModuleType, names: Sequence[str]) -> None:
  for name in names:
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
