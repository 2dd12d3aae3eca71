import re
import threading
import time
from pathlib import Path

import pytest

from realm_jax.errors import UserError
from realm_jax.sweeps.cells import Cell, SweepConfig, cells_of
from realm_jax.sweeps.stages import Sources, Stage, plan_cell, sweep_config

GIN = [Path(__file__).parent / 'tiny.gin']
ALMANAC = Sources()


def plan(*settings, seed=0, sources=ALMANAC, command=()):
  return plan_cell(Cell('a', {}, settings), seed, GIN, command, sources)


def names(run):
  """Kind -> names of the stages."""
  found: dict[str, list[str]] = {}
  for stage in run.stages:
    found.setdefault(stage.kind, []).append(stage.name)
  return found


@pytest.mark.parametrize(
  ('setting', 'same'),
  [
    ('finetune.FinetuneConfig.beam_size=7', ['almanac', 'ict', 'pretrain']),
    ('pretrain.PretrainConfig.num_candidates=2', ['almanac', 'ict']),
    ('ict.IctConfig.batch_size=9', ['almanac']),
    ('almanac_corpus.AlmanacConfig.num_documents=130', []),
    (
      'evaluate.evaluate.max_questions=3',
      ['almanac', 'ict', 'pretrain', 'finetune'],
    ),
  ],
)
def test_a_stage_is_another_where_what_it_reads_is(setting, same):
  usual, changed = names(plan()), names(plan(setting))
  assert usual.keys() == changed.keys()
  shared = [kind for kind in usual if usual[kind] == changed[kind]]
  assert shared == same


def test_every_seed_has_runs_of_its_own_and_the_same_almanac():
  first, second = names(plan()), names(plan(seed=1))
  assert first['almanac'] == second['almanac']
  for kind in ('ict', 'pretrain', 'finetune', 'evaluate'):
    assert not set(first[kind]) & set(second[kind])


@pytest.mark.parametrize(
  ('retriever', 'reader', 'kinds'),
  [
    ('realm', 'realm', ['almanac', 'ict', 'pretrain']),
    ('ict', 'ict', ['almanac', 'ict']),
    ('realm', 'ict', ['almanac', 'ict', 'pretrain', 'combine']),
    ('ict', 'realm', ['almanac', 'ict', 'pretrain', 'combine']),
    ('random', 'scratch', ['almanac', 'ict']),
    ('random', 'ict', ['almanac', 'ict', 'ict', 'combine']),
  ],
)
def test_only_the_parts_that_are_needed_are_trained(retriever, reader, kinds):
  run = plan(
    f'cells.CellConfig.retriever="{retriever}"',
    f'cells.CellConfig.reader="{reader}"',
  )
  assert [stage.kind for stage in run.stages] == [
    *kinds,
    'evaluate',
    'finetune',
    'evaluate',
  ]
  needs_pretraining = 'realm' in (retriever, reader)
  assert (run.pretrained is not None) == needs_pretraining


def test_without_finetuning_only_documents_are_found():
  run = plan('cells.CellConfig.finetune=False')
  assert run.evaluations.keys() == {'start'}
  assert 'finetune' not in names(run)
  with pytest.raises(UserError, match='there is nothing to measure'):
    plan(
      'cells.CellConfig.finetune=False',
      "cells.SweepConfig.metrics=('final/f1',)",
    )


def test_only_what_the_table_has_is_measured():
  run = plan("cells.SweepConfig.metrics=('final/f1',)")
  assert run.evaluations.keys() == {'final'}


def test_what_a_cell_sets_stands_over_the_command_line():
  setting = 'pretrain.PretrainConfig.num_candidates={}'
  over = plan(setting.format(2), command=[setting.format(4)])
  assert over.pretrained.name == plan(setting.format(2)).pretrained.name


def test_questions_are_known_by_their_content(
  tiny_corpus, tiny_questions, tmp_path
):
  def sources(questions):
    return Sources(str(tiny_corpus), str(questions), str(questions))

  copy = tmp_path / 'copy.jsonl'
  copy.write_bytes(tiny_questions.read_bytes())
  other = tmp_path / 'other.jsonl'
  other.write_bytes(tiny_questions.read_bytes() + b'\n')
  usual = names(plan(sources=sources(tiny_questions)))
  assert usual == names(plan(sources=sources(copy)))
  changed = names(plan(sources=sources(other)))
  assert usual['pretrain'] == changed['pretrain']
  assert usual['finetune'] != changed['finetune']
  with pytest.raises(FileNotFoundError, match='no file'):
    plan(sources=sources(tmp_path / 'missing.jsonl'))


def test_weights_are_known_by_content(tiny_corpus, tiny_questions, tmp_path):
  def planned(bert):
    questions = str(tiny_questions)
    sources = Sources(str(tiny_corpus), questions, questions, bert=str(bert))
    return names(plan(sources=sources))

  for folder, tensors in (('a', b'1'), ('b', b'1'), ('c', b'2')):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / 'vocab.txt').write_text('[PAD]\n')
    (tmp_path / folder / 'model.safetensors').write_bytes(tensors)
  assert planned(tmp_path / 'a') == planned(tmp_path / 'b')
  assert planned(tmp_path / 'a')['ict'] != planned(tmp_path / 'c')['ict']
  # of the hub: not here before ict downloads it
  assert planned('owner/a')['ict'] != planned('owner/b')['ict']


def test_part_of_the_sources_is_refused():
  with pytest.raises(UserError, match='--questions, --test-questions is miss'):
    Sources(corpus='corpus').check()
  Sources().check()
  Sources(bert='weights').check()


def test_a_wrong_setting_names_its_cell():
  with pytest.raises(UserError, match=r"Cell 'a': .*num_candidate\b"):
    plan('pretrain.PretrainConfig.num_candidate=2')


def test_a_file_without_axes_is_no_sweep(tmp_path):
  path = tmp_path / 'none.gin'
  path.write_text('from __gin__ import dynamic_registration\n')
  with pytest.raises(UserError, match='No axes are bound'):
    sweep_config([path], [])


SWEEPS = sorted(
  (Path(__file__).parents[2] / 'gin_configs' / 'sweeps').glob('*.gin')
)


@pytest.mark.parametrize('path', SWEEPS, ids=lambda path: path.stem)
def test_the_sweeps_that_come_along_can_be_planned(path):
  config = sweep_config([path], [])
  assert isinstance(config, SweepConfig)
  runs = [
    plan_cell(cell, config.seeds[0], [path], [], Sources())
    for cell in cells_of(config)
  ]
  ends = {run.evaluations[next(reversed(run.evaluations))].name for run in runs}
  assert len(ends) == len(runs), 'two cells are the same'
  text = path.read_text(encoding='utf-8')
  for words in ('realm-jax sweep', r'two (idle|slow) cores', 'GPU', 'paper'):
    assert re.search(words, text)


def test_a_stage_is_made_by_one_process_at_a_time(tmp_path, monkeypatch):
  inside, most = [], []

  def make(self, stages):
    inside.append(self.name)
    most.append(len(inside))
    time.sleep(0.05)
    inside.pop()

  monkeypatch.setattr(Stage, '_run', make)
  stage = Stage('ict', {})
  threads = [
    threading.Thread(target=stage.run, args=(tmp_path,)) for _ in range(4)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert most == [1, 1, 1, 1]
