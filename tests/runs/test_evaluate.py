"""Evaluating: what is measured, what is refused, what is kept."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tiny

from realm_jax import folders
from realm_jax.errors import UserError
from realm_jax.eval import rankers, verdicts
from realm_jax.runs import evaluate as module
from realm_jax.runs.evaluate import evaluate
from realm_jax.runs.score import score

NUM_BLOCKS = 42


@pytest.fixture(scope='module')
def run(tmp_path_factory, tiny_corpus):
  """Folder of a run that counts as fine-tuned, with new parameters."""
  return str(
    tiny.make_untrained_run(
      tmp_path_factory.mktemp('qa'), tiny_corpus, stage='finetune'
    )
  )


QUESTIONS = [
  *tiny.questions()[:4],
  {'question': 'When did he leave?', 'answer': ['8'], 'regex': True},
  {'question': 'Who was it?', 'answer': ['[a-z0-9]'], 'regex': True},
]


@pytest.fixture
def questions(tmp_path):
  return str(tiny.write_lines(tmp_path / 'questions.jsonl', QUESTIONS))


@pytest.fixture
def out(tmp_path):
  return tmp_path / 'out'


def read_predictions(out):
  lines = (out / 'predictions.jsonl').read_text().splitlines()
  return [json.loads(line) for line in lines]


@pytest.mark.parametrize('num_read', [-1, 0, NUM_BLOCKS + 1, 100_000])
def test_more_or_fewer_documents_than_there_are_blocks_are_refused(
  run, questions, out, num_read
):
  with pytest.raises(UserError) as caught:
    evaluate(run, questions, str(out), num_read=num_read)
  assert f'num_read is {num_read}, expected 1 to 42' in str(caught.value)
  assert not out.exists()


@pytest.mark.parametrize('max_questions', [-1, 0])
def test_fewer_than_one_question_is_refused(run, questions, out, max_questions):
  with pytest.raises(UserError, match=f'max_questions is {max_questions}, exp'):
    evaluate(run, questions, str(out), max_questions=max_questions)
  assert not out.exists()


@pytest.mark.slow
def test_as_many_documents_are_read_as_told(run, questions, out, monkeypatch):
  """Even if that is more than are judged."""
  monkeypatch.setattr(module, 'DEFAULT_KS', (1, 5))
  monkeypatch.setattr(verdicts, '_SHOWN_DOCUMENTS', 50)
  result = evaluate(run, questions, str(out), num_read=NUM_BLOCKS)
  assert result['num_read'] == NUM_BLOCKS
  for prediction in read_predictions(out):
    assert len(prediction['documents']) == NUM_BLOCKS
    assert len(prediction['hits']) == 5


def test_expressions_have_no_f1_and_are_also_searched_for(run, questions, out):
  metrics = evaluate(run, questions, str(out), num_read=2)['metrics']
  predictions = read_predictions(out)
  assert ['f1' in p for p in predictions] == [True] * 4 + [False] * 2
  assert metrics['exact_match']['num_questions'] == 6
  assert metrics['f1']['num_questions'] == 4
  assert metrics['f1']['mean'] == pytest.approx(
    np.mean([p['f1'] for p in predictions[:4]])
  )
  assert metrics['regex_search']['num_questions'] == 2
  for prediction in predictions[4:]:
    assert prediction.keys() >= {'exact_match', 'regex_search'}


@pytest.fixture(scope='module')
def evaluated(run, tmp_path_factory):
  """An evaluation of QUESTIONS from all blocks."""
  folder = tmp_path_factory.mktemp('evaluated')
  questions = str(tiny.write_lines(folder / 'questions.jsonl', QUESTIONS))
  console = tiny.quiet()
  shown = verdicts._SHOWN_DOCUMENTS
  verdicts._SHOWN_DOCUMENTS = NUM_BLOCKS
  result = evaluate(
    run, questions, str(folder), num_read=NUM_BLOCKS, console=console
  )
  verdicts._SHOWN_DOCUMENTS = shown
  return SimpleNamespace(
    questions=questions,
    folder=folder,
    result=result,
    predictions=read_predictions(folder),
    printed=console.file.getvalue(),
  )


def test_where_an_answer_was_read_is_told_and_counted(evaluated):
  for row, prediction in zip(QUESTIONS, evaluated.predictions, strict=True):
    source = prediction['documents'][prediction['answer_rank'] - 1]
    assert source['block_id'] == prediction['block_id']
    text = source['text'][prediction['start'] : prediction['stop']]
    assert text == prediction['prediction']
    if 'titles' in row:
      named = source['title'] in row['titles']
      assert prediction['from_named_article'] == named
    else:
      assert 'from_named_article' not in prediction
  counts = {'document': 0, 'article': 0}
  for name, group in evaluated.result['by_answer_source'].items():
    kind = 'document' if name.startswith('document') else 'article'
    counts[kind] += group['num_questions']
  assert counts == {'document': 6, 'article': 4}


def test_figures_are_also_told_and_printed_by_type_of_question(evaluated):
  types = evaluated.result['by_question_type']
  assert {name: group['num_questions'] for name, group in types.items()} == {
    'when': 3,
    'where': 2,
    'who': 1,
  }
  assert types['when']['f1']['num_questions'] == 2
  assert 'f1' not in types['who']
  for words in ('type of question', 'answer read in'):
    assert words in evaluated.printed


def test_groups_are_shown_with_the_metrics_that_any_of_them_has():
  table = module._groups(
    'type',
    {
      'who': {'num_questions': 2, 'exact_match': {'mean': 0.5}},
      'when': {'num_questions': 1, 'f1': {'mean': 0.25}},
    },
  )
  assert {c.header: [*c.cells] for c in table.columns} == {
    'type': ['who', 'when'],
    'questions': ['2', '1'],
    'exact_match': ['0.500', ''],
    'f1': ['', '0.250'],
  }


def test_where_all_was_read_a_right_span_was_there(evaluated):
  oracle = evaluated.result['metrics']['reader_oracle']
  assert (oracle['mean'], oracle['num_questions']) == (1, 4)


def test_predictions_are_scored_as_the_original_scores_them(evaluated):
  found = score(
    evaluated.questions,
    str(evaluated.folder / 'predictions.jsonl'),
    console=tiny.quiet(),
  )
  assert found['num_total'] == 6
  assert found['accuracy'] == evaluated.result['metrics']['exact_match']['mean']


def test_a_retriever_has_no_predictions_to_score(tiny_start, questions, out):
  evaluate(str(tiny_start), questions, str(out), max_questions=2)
  with pytest.raises(UserError, match='one that answers, not only retrieves'):
    score(questions, str(out / 'predictions.jsonl'))


@pytest.mark.slow
def test_the_utility_of_what_was_read_is_averaged(
  run, questions, out, monkeypatch
):
  monkeypatch.setattr(verdicts, '_SHOWN_DOCUMENTS', 7)
  metrics = evaluate(run, questions, str(out), num_read=7)['metrics']
  expected = [
    np.mean([d['retrieval_utility'] for d in p['documents']])
    for p in read_predictions(out)
  ]
  assert metrics['retrieval_utility']['mean'] == pytest.approx(
    np.mean(expected)
  )
  monkeypatch.setattr(verdicts, '_SHOWN_DOCUMENTS', 2)
  again = evaluate(run, questions, str(out / 'b'), num_read=7)['metrics']
  assert again['retrieval_utility'] == metrics['retrieval_utility']


def test_a_run_that_answers_nothing_has_figures_of_retrieval_alone(
  tiny_start, questions, out
):
  result = evaluate(str(tiny_start), questions, str(out))
  assert result['metrics'].keys() == {
    'recall_at_1',
    'recall_at_5',
    'recall_at_20',
    'mean_reciprocal_rank',
  }
  assert result['num_read'] is None
  assert result['stage'] == 'ict'


@pytest.fixture
def counted(monkeypatch):
  """How often something was ranked."""
  calls = []

  def make_ranker(kind, *arguments):
    calls.append(kind)
    return rankers.make_ranker(kind, *arguments)

  monkeypatch.setattr(module, 'make_ranker', make_ranker)
  return calls


def test_what_was_measured_is_not_measured_again(run, questions, out, counted):
  result = evaluate(run, questions, str(out), num_read=2)
  assert result['step'] == 0
  written = {path: path.stat().st_mtime_ns for path in out.iterdir()}
  assert evaluate(run, questions, str(out), num_read=2) == result
  assert json.loads((out / 'metrics.json').read_text()) == result
  assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == written
  assert len(counted) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
  'other',
  ['num_read', 'max_questions', 'ranker', 'questions', 'run', 'corpus'],
)
def test_other_inputs_are_measured_anew(
  run, tiny_start, questions, out, counted, tmp_path, tiny_corpus, other
):
  # Where it does not matter, a run that reads nothing: that is quicker.
  start = run if other == 'num_read' else str(tiny_start)
  first = evaluate(start, questions, str(out), num_read=2)
  arguments: dict[str, Any] = {'num_read': 2}
  if other == 'questions':  # the same file with other content
    tiny.write_lines(tmp_path / 'questions.jsonl', tiny.questions()[2:5])
  elif other == 'run':
    start = run
  elif other == 'corpus':
    from realm_jax.runs.prepare import prepare

    source = tiny.write_lines(tmp_path / 'few.jsonl', tiny.documents()[:9])
    prepare(
      [str(source)],
      str(tmp_path / 'few'),
      vocab=str(tiny_corpus / 'vocab.txt'),
      block_len=tiny.BLOCK_LEN,
      console=tiny.quiet(),
    )
    arguments['corpus'] = str(tmp_path / 'few')
  else:
    value = {'num_read': 3, 'max_questions': 4, 'ranker': 'random'}[other]
    arguments[other] = value
  second = evaluate(start, questions, str(out), **arguments)
  assert len(counted) == 2
  assert second != first
  assert json.loads((out / 'metrics.json').read_text()) == second
  assert len(read_predictions(out)) == second['num_questions']


@pytest.mark.slow
@pytest.mark.parametrize('lost', ['predictions.jsonl', 'metrics.json'])
def test_what_is_not_whole_is_measured_anew(run, questions, out, counted, lost):
  result = evaluate(run, questions, str(out), num_read=2)
  (out / lost).unlink()
  assert evaluate(run, questions, str(out), num_read=2) == result
  assert (out / lost).is_file()
  assert len(counted) == 2


@pytest.mark.slow
def test_an_evaluation_that_is_killed_does_not_look_whole(
  run, questions, out, monkeypatch
):
  evaluate(run, questions, str(out), num_read=2)
  before = (out / 'predictions.jsonl').read_text()
  dumps, calls = json.dumps, []

  def die(value, **options):
    calls.append(value)
    if len(calls) == 3:
      raise KeyboardInterrupt
    return dumps(value, **options)

  monkeypatch.setattr(
    folders,
    'json',
    SimpleNamespace(dumps=die, loads=json.loads, dump=json.dump),
  )
  with pytest.raises(KeyboardInterrupt):
    evaluate(run, questions, str(out), num_read=3)
  assert not (out / 'metrics.json').exists()
  assert (out / 'predictions.jsonl').read_text() == before


def test_a_mistake_leaves_the_figures_that_are_there(run, questions, out):
  result = evaluate(run, questions, str(out), num_read=2, max_questions=3)
  with pytest.raises(UserError, match='ranker is'):
    evaluate(run, questions, str(out), ranker='bm52')
  assert json.loads((out / 'metrics.json').read_text()) == result


def test_a_folder_of_something_else_is_refused(run, questions, tiny_corpus):
  for folder, kind in ((run, 'run'), (str(tiny_corpus), 'corpus')):
    with pytest.raises(UserError, match=f'is a {kind} folder'):
      evaluate(run, questions, folder)
