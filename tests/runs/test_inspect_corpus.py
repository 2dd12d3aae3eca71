import io

import pytest
import tiny
from rich.console import Console

from realm_jax.errors import UserError
from realm_jax.runs.inspect_corpus import inspect_corpus


def inspect(corpus, **settings):
  """The figures, and what was printed."""
  printed = io.StringIO()
  console = Console(file=printed, width=120)
  checks = inspect_corpus(str(corpus), console=console, **settings)
  return checks, printed.getvalue()


def test_a_sound_corpus_is_shown_with_its_spans(tiny_corpus):
  checks, printed = inspect(tiny_corpus, examples=2)
  assert not checks.warnings
  assert 'Nothing looks wrong' in printed
  assert checks.length_histogram.sum() == len(tiny.documents())
  for figure in (
    'edition',
    'spans a sentence',
    'spans: DATE',
    'Wordpieces of a block',
  ):
    assert figure in printed
  assert printed.count('Many a ') == 2


def test_other_seeds_show_other_blocks(tiny_corpus):
  printed = {inspect(tiny_corpus, seed=seed)[1] for seed in range(3)}
  assert len(printed) == 3


@pytest.mark.parametrize(
  ('rows', 'words'),
  [
    ([{'title': 'A', 'text': 'In 1900 the {{cite}} of [[Bonn|b]].'}], 'Markup'),
    ([{'title': 'A', 'text': 'In 1900 Bonn fell.'}] * 30, 'text of another'),
    ([{'title': 'A', 'text': 'So it is.'}] * 5, 'fewer than 24'),
    ([{'title': 'A', 'text': 'so it is and so it was.'}] * 40, 'salient span'),
  ],
)
def test_what_looks_wrong_is_said(tmp_path, rows, words):
  corpus = tiny.make_corpus(tmp_path, [*rows, *tiny.documents()[:3]])
  checks, printed = inspect(corpus)
  assert any(words in warning for warning in checks.warnings)
  assert 'Warning' in printed


def test_an_article_without_end_is_said(tmp_path, monkeypatch):
  monkeypatch.setattr('realm_jax.data.corpus_checks._MAX_BLOCKS_OF_ARTICLE', 4)
  rows = [{'title': 'Long', 'text': 'In 1900 Ada Quist left. ' * 60}]
  checks, _ = inspect(tiny.make_corpus(tmp_path, rows))
  assert checks.longest_article[0] == 'Long'
  assert any("one article, 'Long'" in warning for warning in checks.warnings)


def test_of_a_large_corpus_a_part_is_read(tiny_corpus):
  checks, printed = inspect(tiny_corpus, max_checked=10, examples=0)
  assert checks.num_checked == 10
  assert 'of 10 blocks that were read' in printed


def test_bad_arguments_are_refused(tiny_corpus, tmp_path):
  with pytest.raises(UserError, match='examples is -1'):
    inspect(tiny_corpus, examples=-1)
  with pytest.raises(FileNotFoundError, match='realm-jax prepare'):
    inspect(tmp_path)
