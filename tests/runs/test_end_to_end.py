"""The quickstart, as small as it goes, and without what it must do without."""

import dataclasses
import json

import pytest
import tiny

from realm_jax.models.realm import RealmConfig
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig
from realm_jax.runs.pretrain import PretrainConfig
from realm_jax.runs.quickstart import QuickstartConfig, quickstart
from realm_jax.train.loop import LoopConfig
from realm_jax.train.reporting import read_metrics

pytest.importorskip('jinja2')
pytest.importorskip('bm25s')
pytest.importorskip('matplotlib')

NUM_STEPS = 6


def config() -> QuickstartConfig:
  loop = LoopConfig(num_steps=NUM_STEPS, log_every=2, checkpoint_every=4)
  lengths = dataclasses.replace(
    tiny.LENGTHS, query_len=40, document_len=56, multiple=96
  )
  encoder = dataclasses.replace(tiny.ENCODER, max_positions=96)
  return QuickstartConfig(
    num_documents=120,
    vocab_size=600,
    block_len=56,
    num_eval_questions=20,
    model=RealmConfig(encoder, embed_dim=8, span_hidden_size=12),
    lengths=lengths,
    ict=IctConfig(batch_size=5, reader_batch_size=3),
    ict_loop=loop,
    pretrain=PretrainConfig(
      batch_size=4,
      num_candidates=3,
      refresh='synchronous(every=4)',
      probe_every=4,
    ),
    pretrain_loop=loop,
    finetune=FinetuneConfig(batch_size=3, beam_size=7, num_read=2),
    finetune_loop=loop,
  )


@pytest.fixture(scope='module')
def done(tmp_path_factory):
  """Folder and report of a quickstart."""
  folder = tmp_path_factory.mktemp('quickstart')
  return folder, quickstart(
    str(folder), seeds=1, config=config(), console=tiny.quiet()
  )


@pytest.mark.slow
def test_the_report_has_what_it_promises(done):
  folder, report = done
  assert json.loads((folder / 'report.json').read_text()) == report
  assert report['seeds'] == [0]
  for system in ('realm', 'ict_only'):
    assert {'recall_at_5', 'em', 'retrieval_utility'} <= report[system].keys()
  for system in ('closed_book', 'bm25_reader', 'gold_document'):
    assert 'em' in report[system]
  for system, figures in report.items():
    if system != 'seeds':
      for figure in figures.values():
        (value,) = figure['by_seed']
        assert figure['mean'] == value
  assert 0 <= report['realm']['recall_at_5']['mean'] <= 1


@pytest.mark.slow
def test_the_page_is_self_contained(done):
  page = (done[0] / 'report.html').read_text(encoding='utf-8')
  assert 'REALM on the almanac' in page
  assert 'gold_document' in page
  for outside in ('src="http', 'href="http', '<link'):
    assert outside not in page


@pytest.mark.slow
def test_run_again_it_does_nothing_and_says_the_same(done):
  folder, report = done

  def runs():
    return {
      path: path.stat().st_mtime_ns
      for path in folder.rglob('*')
      if 'evaluation' not in path.parts and path.parent != folder
    }

  before = runs()
  again = quickstart(
    str(folder), seeds=1, config=config(), console=tiny.quiet()
  )
  assert again == report
  assert runs() == before


@pytest.mark.slow
def test_every_stage_was_trained_and_measured(done):
  folder, _ = done
  for stage in ('ict', 'pretrain', 'realm', 'ict_only', 'closed_book'):
    records = read_metrics(folder / 'seed0' / stage)
    losses = [r['step'] for r in records if 'loss' in r]
    assert losses == [2, 4, 6], stage


@pytest.mark.slow
def test_predictions_hold_their_sources(done):
  folder = done[0] / 'seed0' / 'evaluation' / 'realm'
  lines = (folder / 'predictions.jsonl').read_text().splitlines()
  predictions = [json.loads(line) for line in lines]
  assert len(predictions) == 20
  for prediction in predictions:
    (source,) = [
      d
      for d in prediction['documents']
      if d['block_id'] == prediction['block_id']
    ]
    text = source['text'][prediction['start'] : prediction['stop']]
    assert text == prediction['prediction'] != ''
    assert sum(d['probability'] for d in prediction['documents']) <= 1.001
  metrics = json.loads((folder / 'metrics.json').read_text())
  assert metrics['num_questions'] == 20
  right = [p['exact_match'] for p in predictions]
  assert metrics['metrics']['exact_match']['mean'] == pytest.approx(
    sum(right) / 20
  )


@pytest.mark.slow
def test_a_predictor_answers_with_sources(done):
  import realm_jax
  from realm_jax.errors import UserError

  predictor = realm_jax.Predictor.load(str(done[0] / 'seed0' / 'realm'))
  first, second = predictor.ask_all(['Who founded it?', 'Where is it?'])
  assert predictor.ask('Where is it?').text == second.text
  for answer in (first, second):
    (source,) = [d for d in answer.documents if d.block_id == answer.block_id]
    assert source.text[answer.start : answer.stop] == answer.text
    assert sum(d.probability for d in answer.documents) == pytest.approx(1)
  with pytest.raises(UserError, match='Question 2 is empty'):
    predictor.ask_all(['Who?', ' '])


# Arguments: file of questions, folder to write.
CORE = """
import sys
for name in ('tensorflow', 'seqio', 'scann', 'spacy', 'apache_beam', 'gin',
             'tensorflow_datasets', 'bm25s', 'jinja2', 'matplotlib'):
  sys.modules[name] = None
from pathlib import Path
import tiny
from realm_jax.runs.ask import ask
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.runs.ict import IctConfig, ict
from realm_jax.runs.pretrain import pretrain
from realm_jax.train.loop import LoopConfig
questions, out = sys.argv[1:]
corpus = str(tiny.make_corpus(Path(out)))
few = {'lengths': tiny.LENGTHS, 'loop': LoopConfig(num_steps=2)}
ict(corpus, out + '/ict', model=tiny.MODEL, **few,
    config=IctConfig(batch_size=5, reader_batch_size=3))
pretrain(corpus, out + '/pretrain', out + '/ict', **tiny.PRETRAIN)
finetune(corpus, out + '/finetune', out + '/pretrain', questions, **few,
         config=FinetuneConfig(batch_size=3, beam_size=7, num_read=2))
evaluate(out + '/finetune', questions, out + '/evaluation', num_read=2)
(answer,) = ask(out + '/finetune', ['Where did Ada Quist live?'])
assert answer.text
"""


@pytest.mark.slow
def test_core_stages_run_without_the_extras(
  run_python, tiny_questions, tmp_path
):
  run_python(
    CORE,
    str(tiny_questions),
    str(tmp_path),
    PYTHONPATH=str(tiny.FOLDER),
  )
  metrics = json.loads((tmp_path / 'evaluation' / 'metrics.json').read_text())
  assert metrics['num_questions'] == 84
  assert {'exact_match', 'recall_at_20'} <= metrics['metrics'].keys()


@pytest.mark.slow
def test_finetuning_again_with_other_questions_is_refused(done, tiny_questions):
  from realm_jax.errors import UserError

  folder = done[0]
  with pytest.raises(UserError, match=r'settings\.questions'):
    finetune(
      str(folder / 'corpus'),
      str(folder / 'seed0' / 'realm'),
      str(folder / 'seed0' / 'pretrain'),
      str(tiny_questions),
      config=config().finetune,
      lengths=config().lengths,
    )


@pytest.mark.slow
def test_a_run_is_evaluated_on_random_blocks(done, tmp_path):
  folder, _ = done
  result = evaluate(
    str(folder / 'seed0' / 'realm'),
    str(folder / 'almanac' / 'questions.test.jsonl'),
    str(tmp_path),
    ranker='random',
    num_read=2,
    max_questions=5,
  )
  assert result['ranker'] == 'random'
  assert result['num_questions'] == 5
