"""The almanac on disk: questions, editions, bytes, difficulty."""

import collections
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from realm_jax import folders
from realm_jax.almanac import make_world, questions, write_almanac
from realm_jax.almanac.wording import RELATIONS
from realm_jax.errors import UserError

SPLITS = ('train', 'dev', 'test')
# SHA-256 of what write_almanac(seed=6, num_documents=240) writes. If wordings
# or the plan were changed on purpose, put in the new value: it must be the
# same on every platform and in every process.
PINNED = '303ef9b1cd5a3ac1f852ef99d415d06d320a0254a0e91814771d54887238e158'


def _lines(path):
  with open(path, encoding='utf-8') as stream:
    return [json.loads(line) for line in stream]


@pytest.fixture(scope='module')
def almanac(tmp_path_factory):
  folder = tmp_path_factory.mktemp('almanac')
  manifest = write_almanac(folder)
  texts = {d['title']: d['text'] for d in _lines(folder / 'documents.jsonl')}
  asked = {s: _lines(folder / f'questions.{s}.jsonl') for s in SPLITS}
  return folder, manifest, texts, asked


def test_the_default_has_enough_documents_and_questions(almanac):
  folder, manifest, texts, asked = almanac
  assert len(texts) == 3000
  assert len(asked['train']) >= 4000
  assert len(asked['dev']) >= 300
  assert len(asked['test']) >= 1000
  assert folders.read_manifest(folder, 'almanac', '', verify=True) == manifest
  assert manifest['counts']['documents.jsonl'] == 3000
  assert manifest['counts']['questions.test.jsonl'] == len(asked['test'])


def test_no_entity_is_asked_about_in_two_splits(almanac):
  entities = [{q['entity'] for q in almanac[3][s]} for s in SPLITS]
  assert sum(map(len, entities)) == len(set.union(*entities))


def test_every_split_asks_for_every_relation(almanac):
  for split in SPLITS:
    assert {q['relation'] for q in almanac[3][split]} == set(RELATIONS)


def test_every_answer_stands_in_the_documents_named(almanac):
  _, _, texts, asked = almanac
  for question in itertools.chain(*asked.values()):
    assert question['num_statements'] == len(question['titles']) > 0
    assert question['entity'] in question['question']
    for title in question['titles']:
      assert question['answer'][0] in texts[title]


def test_questions_open_with_a_question_word_and_are_not_repeated(almanac):
  asked = [q['question'] for s in SPLITS for q in almanac[3][s]]
  assert len(set(asked)) == len(asked)
  opening = re.compile(
    r'(Who|Whom|Whose|What|Which|When|Where|How|(On|In|At|To|From) '
    r'(which|what|whom|where)) .*\?'
  )
  assert all(opening.fullmatch(question) for question in asked)


def test_the_iterator_gives_what_is_written(almanac):
  lines = {s: iter(almanac[3][s]) for s in SPLITS}
  for question in questions(make_world()):
    written = next(lines[question.split])
    assert json.loads(json.dumps(question.as_json())) == written


def test_editions_disagree_about_the_changed_facts_and_no_others(tmp_path):
  old, new = tmp_path / 'old', tmp_path / 'new'
  write_almanac(old, seed=3, num_documents=600)
  write_almanac(new, seed=3, num_documents=600, edition='2020')
  differing = {}
  for split in SPLITS:
    name = f'questions.{split}.jsonl'
    for before, after in zip(
      _lines(old / name), _lines(new / name), strict=True
    ):
      assert after == before | {'answer': after['answer']}
      if before['answer'] != after['answer']:
        fact = (before['entity'], before['relation'])
        differing[fact] = (before['answer'], after['answer'])
  changed = _lines(old / 'changed_facts.jsonl')
  assert changed == _lines(new / 'changed_facts.jsonl')
  assert differing == {
    (c['entity'], c['relation']): (c['old_answer'], c['new_answer'])
    for c in changed
  }
  assert len(changed) == len(differing) > 30


def test_bytes_do_not_depend_on_the_process(tmp_path):
  digests = set()
  for hash_seed in ('1', '2'):
    folder = tmp_path / hash_seed
    code = (
      'from realm_jax.almanac import write_almanac; '
      f'write_almanac({str(folder)!r}, seed=6, num_documents=240)'
    )
    subprocess.run(
      [sys.executable, '-c', code],
      check=True,
      cwd=Path(__file__).parents[2],
      env={**os.environ, 'PYTHONHASHSEED': hash_seed},
    )
    digest = hashlib.sha256()
    for path in sorted(folder.glob('*.jsonl')):
      digest.update(path.read_bytes())
    digests.add(digest.hexdigest())
  assert digests == {PINNED}


def test_another_seed_is_another_world(tmp_path):
  for seed in (0, 1):
    write_almanac(tmp_path / str(seed), seed=seed, num_documents=120)
  one, other = (
    {d['title'] for d in _lines(tmp_path / seed / 'documents.jsonl')}
    for seed in '01'
  )
  assert len(one & other) < 12


def test_a_stopped_run_leaves_no_manifest(tmp_path, monkeypatch):
  write_almanac(tmp_path, num_documents=120)

  def stop(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr('realm_jax.almanac.writing.ask', stop)
  with pytest.raises(KeyboardInterrupt):
    write_almanac(tmp_path, num_documents=120)
  assert not folders.is_whole(tmp_path)


def test_bad_arguments_leave_the_folder_alone(tmp_path):
  write_almanac(tmp_path, num_documents=120)
  with pytest.raises(UserError, match='edition'):
    write_almanac(tmp_path, num_documents=120, edition='1999')
  assert folders.is_whole(tmp_path)


def test_word_matching_leaves_room(almanac):
  """BM25 finds a stating document first for about half of the questions."""
  bm25s = pytest.importorskip('bm25s')
  _, _, texts, asked = almanac
  titles = list(texts)
  corpus = [f'{title} {texts[title]}' for title in titles]

  def tokens(lines):
    return bm25s.tokenize(lines, stopwords='en', show_progress=False)

  retriever = bm25s.BM25()
  retriever.index(tokens(corpus), show_progress=False)
  found, _ = retriever.retrieve(
    tokens([q['question'] for q in asked['test']]), k=5, show_progress=False
  )
  by_string, by_title, first = [], [], []
  for question, ids in zip(asked['test'], found, strict=True):
    answer = re.compile(rf'(?<!\w){re.escape(question["answer"][0])}(?!\w)')
    by_string.append(any(answer.search(corpus[i]) for i in ids))
    by_title.append(any(titles[i] in question['titles'] for i in ids))
    first.append(titles[ids[0]] in question['titles'])
  assert 0.45 < np.mean(first) < 0.65
  assert 0.8 < np.mean(by_string) < 0.95
  # hardly any document holds an answer by chance
  assert np.mean(by_string) - np.mean(by_title) < 0.01


def test_years_and_names_are_spread_thin(almanac):
  _, _, texts, _ = almanac
  years = collections.Counter()
  for text in texts.values():
    years.update(set(re.findall(r'\b1[0-9]{3}\b', text)))
  assert np.mean(list(years.values())) < 8
