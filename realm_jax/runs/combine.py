"""A run with the retriever of one run and the reader of another."""

import dataclasses

from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.settings import as_json, differences
from realm_jax.train.run_folder import LoadedRun, RunFolder, load_run

# What the embedders are not made of.
_OF_READERS = (
  'initializer_range',
  'span_hidden_size',
  'max_span_width',
  'span_layer_norm_epsilon',
  'span_mask_bias',
)


def combine(retriever: str, reader: str, out: str) -> str:
  """Makes a run to start from, as the swapped rows of REALM's Table 2 need it.

  Args:
    retriever: folder of the finished run whose embedders are taken.
    reader: folder of the finished run whose reader is taken, with its settings.
    out: the run's folder.

  Returns:
    out.

  Raises:
    FileNotFoundError: a run is missing or unfinished.
    UserError: the two differ in vocabulary, corpus or the model's sizes, or
      out is something else.
  """
  finding, reading = load_run(retriever), load_run(reader)
  _check_alike(finding, reading)
  run = RunFolder(
    out,
    'combined',
    reading.model,
    Corpus.open(reading.corpus_folder),
    {
      'retriever': finding.identity,
      'reader': reading.identity,
      'lengths': reading.settings['lengths'],
      'made_anew': sorted(
        name
        for loaded, is_readers in ((finding, False), (reading, True))
        for name in loaded.untrained
        if (name.split('/')[0] == 'reader') == is_readers
      ),
    },
  )
  if not run.finished:
    params = {**finding.params, 'reader': reading.params['reader']}
    run.finish(params, num_steps=0)
  return out


def _check_alike(finding: LoadedRun, reading: LoadedRun) -> None:
  """Raises UserError unless the parts of two runs fit into one model."""
  for loaded in (finding, reading):
    if not loaded.corpus_folder:
      raise UserError(
        f'Run {loaded.path} was trained on no corpus here, expected a run of '
        'realm-jax ict or pretrain.'
      )
  for what, of_retriever, of_reader in (
    (
      'vocabularies',
      finding.wordpiece.fingerprint,
      reading.wordpiece.fingerprint,
    ),
    ('corpora', finding.corpus_fingerprint, reading.corpus_fingerprint),
  ):
    if of_retriever != of_reader:
      raise UserError(
        f'Runs {finding.path} and {reading.path} are of different {what}: '
        'expected a retriever and a reader of the same.'
      )
  theirs, ours = (
    as_json(dataclasses.asdict(loaded.model))
    for loaded in (finding.computed_as(reading.model), reading)
  )
  lines = [
    f'{path}: {before!r} and {after!r}'
    for path, before, after in differences(theirs, ours, _OF_READERS)
  ]
  if lines:
    raise UserError(
      f'Runs {finding.path} and {reading.path} have other sizes:\n  '
      + '\n  '.join(lines)
    )
