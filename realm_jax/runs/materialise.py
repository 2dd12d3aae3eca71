"""Write the examples of a seqio task, for trainers without TensorFlow."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Example, Lengths
from realm_jax.data.materialised import KIND, write_examples
from realm_jax.data.seqio_tasks import register_tasks
from realm_jax.errors import UserError
from realm_jax.folders import check_kind
from realm_jax.optional import require


def materialise(
  corpus: str,
  task: str,
  out: str,
  *,
  split: str = 'train',
  num_epochs: int = 1,
  seed: int = 0,
  questions: str | None = None,
  module: str | None = None,
  lengths: Lengths | None = None,
  console: Console | None = None,
) -> dict[str, Any]:
  """Runs a seqio task or mixture once and keeps its examples.

  Args:
    corpus: folder of a prepared corpus, whose tasks are registered.
    task: name of a task or mixture: see data.seqio_tasks.
    out: folder to write.
    split: of the task.
    num_epochs: sentences get other blanks in every epoch.
    seed: of the blanks.
    questions: a question file, for the task openqa.
    module: a Python module to import first, which registers tasks of its own.
    lengths: sequence lengths, those that the trainer will have.
    console: where to print; None for the terminal.

  Returns:
    The manifest.

  Raises:
    FileNotFoundError: there is no such corpus or question file.
    ImportError: seqio or the module is not installed.
    UserError: there is no such task or split, or out is something else.
  """
  seqio = require('seqio', 'data')
  console = console or Console()
  lengths = lengths or Lengths()
  if num_epochs < 1:
    raise UserError(f'num_epochs is {num_epochs}, expected at least 1.')
  check_kind(Path(out), KIND)
  names = register_tasks(corpus, lengths, seed, questions)
  if module is not None:
    importlib.import_module(module)
  try:
    found = seqio.get_mixture_or_task(task)
  except ValueError as error:
    raise UserError(
      f'There is no task {task!r}, expected one of {", ".join(names)}, or one '
      'that --module registers.'
    ) from error
  if split not in found.splits:
    raise UserError(
      f'Task {task} has no split {split!r}, expected one of '
      f'{", ".join(found.splits)}.'
    )
  dataset = found.get_dataset(
    split=split,
    shuffle=False,
    num_epochs=num_epochs,
    trim_output_features=False,
  )
  manifest = write_examples(
    out,
    track(
      _numbers(dataset),
      'writing examples',
      total=None,
      console=console,
      transient=True,
    ),
    task=task,
    split=split,
    num_epochs=num_epochs,
    seed=seed,
    corpus_fingerprint=Corpus.open(corpus).fingerprint,
    lengths=vars(lengths),
  )
  console.print(
    f'{manifest["num_examples"]:,} examples of {task} in {out}: '
    'pretrain reads them with --examples.'
  )
  return manifest


def _numbers(dataset: Any) -> Iterator[Example]:
  """The examples without their texts."""
  for example in dataset.as_numpy_iterator():
    yield {
      name: value
      for name, value in example.items()
      if np.asarray(value).dtype.kind in 'iu'
    }
