"""Writes an almanac to a folder."""

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TextIO

from realm_jax import folders
from realm_jax.almanac.documents import compose
from realm_jax.almanac.questions import SPLITS, AlmanacQuestion, ask
from realm_jax.almanac.world import EDITIONS, make_world

DOCUMENTS = 'documents.jsonl'
CHANGED_FACTS = 'changed_facts.jsonl'
_MADE_BY = 'realm_jax.almanac.write_almanac'


def questions_file(split: str) -> str:
  """The file name of the questions of a split."""
  return f'questions.{split}.jsonl'


def write_almanac(
  folder: str | Path,
  seed: int = 0,
  num_documents: int = 3000,
  edition: str = '2018',
) -> dict[str, Any]:
  """Writes the documents and questions of an invented world.

  The same arguments give the same bytes everywhere. Documents are written as
  they are made: memory does not grow with num_documents.

  Args:
    folder: made if missing; files of an earlier almanac are replaced.
    seed: non-negative; another seed, another world.
    num_documents: at least 120; the default gives over a thousand questions
      about entities that no training question asks about.
    edition: '2018', or '2020', in which some offices have changed hands and
      some towns have grown.

  Returns:
    The manifest; its counts say how many documents and questions there are.

  Raises:
    UserError: an argument is out of its range, or the folder is something else.
  """
  world = make_world(seed, num_documents, edition)
  folder = folders.make_folder(folder)
  folders.check_kind(folder, 'almanac')
  (folder / folders.MANIFEST).unlink(missing_ok=True)
  names = [DOCUMENTS, *map(questions_file, SPLITS), CHANGED_FACTS]
  counts = dict.fromkeys(names, 0)
  with ExitStack() as stack:
    files = {
      name: stack.enter_context(
        open(folder / name, 'w', encoding='utf-8', newline='\n')
      )
      for name in names
    }

    def write(name: str, value: dict[str, Any]) -> None:
      _write_line(files[name], value)
      counts[name] += 1

    for province in world.provinces():
      articles = compose(world, province)
      for article in articles:
        write(DOCUMENTS, {'title': article.title, 'text': article.text})
      asked = None
      for question in ask(world, province, articles):
        write(questions_file(question.split), question.as_json())
        fact = (question.entity, question.relation)
        if question.answers[0] != question.answers[1] and fact != asked:
          write(CHANGED_FACTS, _changed(question))
        asked = fact
  return folders.write_manifest(
    folder,
    'almanac',
    names,
    made_by=_MADE_BY,
    seed=seed,
    edition=edition,
    editions=list(EDITIONS),
    counts=counts,
  )


def _changed(question: AlmanacQuestion) -> dict[str, Any]:
  old, new = question.answers
  return {
    'question': question.question,
    'old_answer': [old],
    'new_answer': [new],
    'entity': question.entity,
    'relation': question.relation,
    'titles': question.titles,
    'split': question.split,
  }


def _write_line(stream: TextIO, value: dict[str, Any]) -> None:
  stream.write(json.dumps(value, ensure_ascii=False) + '\n')
