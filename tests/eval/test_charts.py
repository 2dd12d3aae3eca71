import re
import sys

import numpy as np
import pytest

pytest.importorskip('matplotlib')

from realm_jax.eval import charts
from realm_jax.eval.charts import Curve


def _curve(run, values, quantity='loss'):
  return Curve(quantity, run, list(range(len(values))), values)


def test_records_become_a_curve_a_quantity_and_run():
  runs = {
    'realm': [
      {'step': 15, 'loss': 2.2},
      {'step': 10, 'loss': 3.0},
      {'step': 20, 'loss': 2.0, 'probe_recall@5': 0.5},
      {'step': 10, 'loss': 2.5},  # written again by a resumed run
      {'loss': 9.0},
    ],
    'ict': [{'step': 5, 'loss': 4.0, 'index_age': None}],
  }
  assert charts.curves_from_records(runs) == [
    Curve('probe_recall@5', 'realm', [20], [0.5]),
    Curve('loss', 'realm', [10, 15, 20], [2.5, 2.2, 2.0]),
    Curve('loss', 'ict', [5], [4.0]),
  ]


def test_steps_and_values_must_pair():
  with pytest.raises(ValueError, match='2 steps and 1 values'):
    Curve('loss', 'realm', [1, 2], [0.5])


def test_last_value_skips_what_is_not_finite():
  assert charts.last_value(_curve('a', [1.0, 2.345, np.nan])) == '2.35'
  assert charts.last_value(_curve('a', [np.nan])) == ''
  share = _curve('a', [0.5, 0.8124], 'probe_recall@5')
  assert charts.last_value(share) == '81.2 %'
  assert charts.last_value(_curve('a', [3.0, 400.0], 'index_age')) == '400'


def test_chart_takes_its_colours_from_the_page():
  curves = [_curve('a', [1.0, 2.0]), _curve('b', [2.0, np.nan, 3.0])]
  svg = charts.draw_chart(curves, {'a': 0, 'b': 4})
  assert 'var(--series-1)' in svg and 'var(--series-5)' in svg
  assert 'var(--series-2)' not in svg
  assert 'var(--ink)' in svg and 'var(--grid)' in svg
  assert not re.search('#[0-9a-f]{6}', svg)


def test_runs_differ_without_colours():
  curves = [_curve(str(i), [1.0, 2.0]) for i in range(charts.NUM_SERIES)]
  svg = charts.draw_chart(curves, {str(i): i for i in range(len(curves))})
  dashes = set(re.findall('stroke-dasharray: ([^;"]*)', svg))
  assert len(dashes) == charts.NUM_SERIES - 1  # the first is solid
  samples = {charts.legend_sample(i) for i in range(charts.NUM_SERIES)}
  shapes = {re.sub(r'--series-\d', '', sample) for sample in samples}
  assert len(shapes) == charts.NUM_SERIES


def test_charts_of_a_page_share_no_names():
  first = charts.draw_chart([_curve('a', [1.0, 2.0])], {'a': 0})
  second = charts.draw_chart([_curve('a', [1.0, 2.0], 'other')], {'a': 0})
  names = [re.findall(r'\sid="([^"]*)"', svg) for svg in (first, second)]
  assert names[0] and not set(names[0]) & set(names[1])


def test_chart_is_told_in_words():
  svg = charts.draw_chart([_curve('a<"b"', [1.0, 2.0])], {'a<"b"': 0})
  assert svg.startswith('<svg role="img" aria-label="Loss over training steps:')
  assert 'a&lt;&quot;b&quot; ends at 2.' in svg


def test_drawing_is_deterministic():
  curves = [_curve('a', [1.0, 2.0])]
  assert charts.draw_chart(curves, {'a': 0}) == charts.draw_chart(
    curves, {'a': 0}
  )


def test_long_curves_are_averaged_not_sampled():
  values = np.tile([0.0, 1.0], 5000)
  values[0] = np.inf
  steps, means = charts._thinned(np.arange(len(values)), values)
  assert len(steps) == len(means) <= 200
  np.testing.assert_allclose(means, 0.5, atol=0.02)
  np.testing.assert_allclose(np.diff(steps), 10_000 / len(steps))


def test_curve_of_nothing_but_gaps_is_drawn():
  svg = charts.draw_chart([_curve('a', [np.nan] * 300)], {'a': 0})
  assert 'no values' in svg


def test_missing_matplotlib_names_the_extra(monkeypatch):
  monkeypatch.setitem(sys.modules, 'matplotlib', None)
  with pytest.raises(ImportError, match=r'realm_jax\[report\]'):
    charts.draw_chart([_curve('a', [1.0])], {'a': 0})


def test_a_band_is_of_the_steps_that_all_runs_recorded():
  cells = {
    'a': [
      [{'step': 1, 'loss': 1.0}, {'step': 2, 'loss': 2.0}],
      [{'step': 2, 'loss': 4.0}, {'step': 3, 'loss': 9.0}],
    ],
    'b': [[{'step': 1, 'loss': 5.0}]],
    'c': [[{'step': 1}]],
    'd': [[{'step': 1, 'loss': 1.0}], [{'step': 2, 'loss': 1.0}]],
  }
  two, one = charts.bands_from_records(cells, ['loss', 'accuracy'])
  assert (two.run, two.steps, list(two.values)) == ('a', [2], [3.0])
  assert [list(line) for line in two.band] == [[2.0], [4.0]]
  assert (one.run, one.steps, one.band) == ('b', [1], ())


def test_many_steps_of_several_runs_become_means_over_stretches():
  records = [
    [{'step': step, 'loss': run + 10.0 * (step % 2)} for step in range(40)]
    for run in range(3)
  ]
  (curve,) = charts.bands_from_records({'a': records}, ['loss'])
  np.testing.assert_array_equal(curve.steps, np.arange(20) * 2 + 0.5)
  np.testing.assert_array_equal(curve.values, np.full(20, 6.0))
  np.testing.assert_array_equal(
    curve.band, [np.full(20, 5.0), np.full(20, 7.0)]
  )


def test_a_chart_is_saved_with_its_band_the_same_each_time(tmp_path):
  steps, values = [0, 1, 2], [1.0, 2.0, 1.5]
  bands = ([0.5, 1.0, 1.0], [1.5, 3.0, 2.0])
  curves = [
    Curve('loss', 'with <b>', steps, values, bands),
    Curve('loss', 'without', steps, values),
  ]
  for name in ('one', 'two'):
    charts.save_chart(curves, {'with <b>': 0, 'without': 1}, tmp_path / name)
  svg = (tmp_path / 'one.svg').read_text(encoding='utf-8')
  assert svg == (tmp_path / 'two.svg').read_text(encoding='utf-8')
  assert 'fill-opacity: 0.15' in svg
  assert 'with &lt;b&gt;' in svg
  assert (tmp_path / 'one.png').read_bytes()[:4] == b'\x89PNG'
  page = charts.draw_chart(curves, {'with <b>': 0, 'without': 1})
  assert 'var(--series-1); fill-opacity: 0.15' in page
