import html.parser
import re
import sys

import pytest

pytest.importorskip('matplotlib')
pytest.importorskip('jinja2')

from realm_jax.eval import report
from realm_jax.eval.charts import Curve
from realm_jax.eval.intervals import Interval
from realm_jax.eval.report import ExampleAnswer, RetrievedDocument
from realm_jax.eval.tables import SummaryRow
from realm_jax.types import NULL_BLOCK_ID

EVIL = '<script>alert("&")</script>'
VOID = {'meta', 'br', 'hr', 'img', 'link', 'input'}


class _Page(html.parser.HTMLParser):
  """The elements of a page: fails where they do not nest."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.attributes = [], [], []
    self.marked, self.text = [], ''
    self.feed(text)
    assert self.open == []

  def handle_starttag(self, tag, attributes):
    self.tags.append(tag)
    self.attributes += attributes
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.attributes += attributes

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if 'style' not in self.open:
      self.text += data
    if 'mark' in self.open:
      self.marked.append(data)


@pytest.fixture(scope='module')
def page_text(tmp_path_factory):
  path = tmp_path_factory.mktemp('report') / 'report.html'
  text = 'The Lantern & the <sea> stood at Arvik from 1821.'
  start = text.index('1821')
  documents = [
    RetrievedDocument(
      f'Arvik {EVIL}', text, 0.625, -1.5, [(4, 11), (start, start + 4)], True
    ),
    RetrievedDocument('Orm', 'A river.', 0.25, None, (), False, 7),
    RetrievedDocument('', '', 0.125, 0.0, block_id=NULL_BLOCK_ID),
  ]
  report.write_report(
    path,
    f'REALM {EVIL}',
    summary_rows=[
      SummaryRow(EVIL, {'em': Interval(0.5, 0.25, 0.75, 0.1, 3)}),
      SummaryRow('closed_book', {'em': 0.1}, is_reference=True),
    ],
    curves=[
      Curve('probe_recall@5', EVIL, [0, 10], [0.5, 0.75]),
      Curve('loss', EVIL, [0, 10], [3.0, 2.0]),
      Curve('loss', 'other', [0, 10], [3.0, 2.5]),
    ],
    examples=[
      ExampleAnswer(f'Since when? {EVIL}', '1821', ['1821'], True, documents),
      ExampleAnswer('Where?', EVIL, ['Orm', 'the Orm'], False),
    ],
    notes=[f'Three seeds. {EVIL}'],
    config={'seeds': [0, 1, 2], 'gin': f'a = 1\nb = 2 {EVIL}'},
  )
  assert [entry.name for entry in path.parent.iterdir()] == ['report.html']
  return path.read_text(encoding='utf-8')


@pytest.fixture(scope='module')
def page(page_text):
  return _Page(page_text)


def test_page_loads_nothing_and_runs_nothing(page, page_text):
  assert 'script' not in page.tags and 'link' not in page.tags
  assert '://' not in page_text and '@import' not in page_text
  for name, value in page.attributes:
    assert not name.startswith('on') and name != 'src'
    if name.endswith('href'):
      assert value.startswith('#')
  assert all(
    target.startswith('#') for target in re.findall(r'url\(([^)]*)', page_text)
  )


def test_what_is_written_is_text_everywhere(page):
  # Title twice, table, three legend entries less one, question, prediction,
  # document, note and settings: each shows the characters themselves.
  assert page.text.count(EVIL) == 10


def test_spans_are_marked_in_their_document(page):
  assert page.marked == ['Lantern', '1821']
  assert 'The Lantern & the <sea> stood at Arvik from 1821.' in page.text
  assert page.text.count('Lantern') == 1


def test_documents_come_with_probability_and_utility(page):
  words = ' '.join(page.text.split())
  assert '✓ has an answer 0.625 -1.50' in words
  assert 'Orm 0.250 —' in words
  assert 'no document 0.125 0.00 (no text)' in words


def test_verdicts_are_words(page):
  words = ' '.join(page.text.split())
  assert '1 of these 2 are answered right' in words
  assert words.count('✓ right') == 1 and words.count('✗ wrong') == 1
  assert 'Orm · the Orm' in words


def test_table_shows_intervals(page):
  words = ' '.join(page.text.split())
  assert 'EM (%)' in words and '50.0 25.0 to 75.0' in words


def test_a_chart_a_quantity(page):
  assert page.tags.count('figure') == 2
  assert 'Probe recall at 5' in page.text


def test_empty_parts_have_no_section(tmp_path):
  report.write_report(tmp_path / 'report.html', 'Nothing yet')
  page = _Page((tmp_path / 'report.html').read_text(encoding='utf-8'))
  assert 'section' not in page.tags and 'Nothing yet' in page.text


@pytest.mark.parametrize(
  'spans', [[(3, 3)], [(0, 9)], [(-1, 2)], [(2, 4), (3, 5)], [(4, 5), (0, 1)]]
)
def test_spans_outside_of_the_text_are_refused(spans):
  with pytest.raises(ValueError, match='half-open ranges within 0 to 8'):
    RetrievedDocument('Orm', 'A river.', 0.5, spans=spans)


def test_too_many_runs_are_refused(tmp_path):
  curves = [Curve('loss', f'run {i}', [0], [1.0]) for i in range(9)]
  with pytest.raises(ValueError, match='curves has 9 runs, expected at most 8'):
    report.write_report(tmp_path / 'report.html', 'Many', curves=curves)
  assert list(tmp_path.iterdir()) == []


def test_missing_jinja2_names_the_extra(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'jinja2', None)
  with pytest.raises(ImportError, match=r'realm_jax\[report\]'):
    report.write_report(tmp_path / 'report.html', 'x')


def test_importing_the_report_imports_neither(run_python):
  code = (
    'import sys, realm_jax.eval.report\n'
    "print({'matplotlib', 'jinja2', 'jax'} & set(sys.modules))"
  )
  assert run_python(code).strip() == 'set()'
