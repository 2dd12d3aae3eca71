"""The data sets that papers report, their splits and sizes."""

import re
from pathlib import Path
from typing import NamedTuple

from realm_jax.errors import UserError
from realm_jax.optional import require


class DataSet(NamedTuple):
  """A data set of questions.

  Attributes:
    name: short, as in the names of seqio tasks.
    title: as papers call it.
    file_names: pattern of what its files' names begin with.
    num_questions: split -> questions, as published with ORQA, or with DPR
      where ORQA's release leaves the data set out.
    has_expressions: its answers are regular expressions.
  """

  name: str
  title: str
  file_names: str
  num_questions: dict[str, int]
  has_expressions: bool = False


class Split(NamedTuple):
  """One split of a data set: 'train', 'dev' or 'test'."""

  data_set: DataSet
  split: str


DATA_SETS = {
  data_set.name: data_set
  for data_set in (
    DataSet(
      'nq',
      'Natural Questions, open',
      r'natural[-_ ]?questions|nq',
      {'train': 79_168, 'dev': 8_757, 'test': 3_610},
    ),
    DataSet(
      'webq',
      'WebQuestions',
      r'web[-_ ]?questions|webq',
      {'train': 3_417, 'dev': 361, 'test': 2_032},
    ),
    DataSet(
      'trec',
      'CuratedTREC',
      r'curated[-_ ]?trec|trec',
      {'train': 1_353, 'dev': 133, 'test': 694},
      has_expressions=True,
    ),
    DataSet(
      'triviaqa',
      'TriviaQA, unfiltered',
      r'trivia[-_ ]?qa|trivia|unfiltered-web',
      {'train': 78_785, 'dev': 8_837, 'test': 11_313},
    ),
    DataSet(
      'squad',
      'SQuAD, open',
      r'squad',
      {'train': 78_713, 'dev': 8_886, 'test': 10_570},
    ),
  )
}
_SPLITS = {'train': 'train', 'dev': 'dev', 'validation': 'dev', 'test': 'test'}
_HASH_BUCKETS = 100_000


def recognise(path: str | Path) -> Split | None:
  """What a file is of, by its name, such as CuratedTrec.resplit.test.jsonl.

  The name begins with that of the data set and has the split as a word of its
  own; None where it is not so.
  """
  name = Path(path).name.lower()
  split = re.search(r'(?<![a-z])(train|dev|validation|test)(?![a-z])', name)
  for data_set in DATA_SETS.values():
    if split and re.match(rf'(?:{data_set.file_names})(?![a-z])', name):
      return Split(data_set, _SPLITS[split[1]])
  return None


def standard_questions(folder: str | Path) -> dict[str, dict[str, Path]]:
  """The files of a folder that are of these data sets, by their names.

  Returns:
    name -> split -> file, as seqio_tasks.register_tasks takes them: tasks
    openqa_nq, openqa_webq, openqa_trec, openqa_triviaqa and openqa_squad, of
    which openqa_all is the mixture.

  Raises:
    FileNotFoundError: there is no such folder.
    UserError: two files are of one split, or there is none.
  """
  files: dict[str, dict[str, Path]] = {}
  for path in sorted(Path(folder).iterdir()):
    found = recognise(path)
    if found is None or not path.is_file():
      continue
    splits = files.setdefault(found.data_set.name, {})
    if found.split in splits:
      raise UserError(
        f'{splits[found.split]} and {path} are both {found.data_set.title}, '
        f'{found.split}. Leave one of them in the folder.'
      )
    splits[found.split] = path
  if not files:
    raise UserError(
      f'{folder} has no file that is named as one of a standard data set, such '
      'as NaturalQuestions.train.jsonl or CuratedTrec.test.jsonl.'
    )
  return files


def size_warning(path: str | Path, num_questions: int) -> str | None:
  """What to say where a file has not the published number of questions.

  Args:
    path: of the file, whose name is looked at.
    num_questions: that it holds.
  """
  found = recognise(path)
  if found is None:
    return None
  published = found.data_set.num_questions[found.split]
  if num_questions == published:
    return None
  return (
    f'{path} has {num_questions:,} questions; {found.data_set.title}, '
    f'{found.split}, was published with {published:,}. Figures are not '
    'comparable with those of papers unless the questions are the same.'
  )


def is_dev_question(question: str) -> bool:
  """Whether ORQA's split of Natural Questions puts a training question in dev.

  TensorFlow's fast string hash (FarmHash, Fingerprint64) of the question modulo
  100,000 ends in 0.

  Raises:
    ImportError: TensorFlow is not installed.
  """
  strings = require('tensorflow', 'data').strings
  bucket = int(strings.to_hash_bucket_fast(question, _HASH_BUCKETS))
  return bucket % 10 == 0
