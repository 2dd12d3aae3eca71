import pytest
from rich.console import Console

from realm_jax.eval import tables
from realm_jax.eval.intervals import Interval
from realm_jax.eval.tables import SummaryRow

NAN = float('nan')
ROWS = [
  SummaryRow(
    'ict_only',
    {
      'recall_at_5': Interval(0.5, 0.4, 0.62, 0.05, 3),
      'retrieval_utility': Interval(-0.004, -1.25, 1.2, 0.6, 3),
    },
  ),
  SummaryRow('realm', {'recall_at_5': 0.75, 'em': None}),
  SummaryRow(
    'gold', {'em': 0.5, 'recall_at_5': 1.0, 'f1': NAN}, is_reference=True
  ),
]


def test_shares_are_percentages_and_utilities_nats():
  assert tables.metric_label('recall_at_5') == 'R@5 (%)'
  assert tables.metric_label('em') == 'EM (%)'
  assert tables.metric_label('retrieval_utility') == 'utility (nats)'


def test_markdown_is_the_table_in_full():
  assert tables.markdown_table(ROWS) == (
    '| system | R@5 (%) | utility (nats) | EM (%) | F1 (%) |\n'
    '| --- | ---: | ---: | ---: | ---: |\n'
    '| ict\\_only | 50.0 (40.0 to 62.0) | **0.00** (-1.25 to 1.20) | — | — |\n'
    '| realm | **75.0** | — | — | — |\n'
    '| gold | 100.0 | — | 50.0 | — |\n'
  )


def test_metrics_can_be_chosen_and_ordered():
  header = tables.markdown_table(ROWS, ['em', 'recall_at_5']).splitlines()[0]
  assert header == '| system | EM (%) | R@5 (%) |'


def test_a_lone_row_is_not_the_best():
  [[cell]] = tables.summary_cells([SummaryRow('realm', {'em': 0.5})])
  assert not cell.is_best


def test_a_reference_is_never_the_best():
  rows = [
    SummaryRow('realm', {'em': 0.5}),
    SummaryRow('gold', {'em': 0.5}, is_reference=True),
  ]
  [[ours], [gold]] = tables.summary_cells(rows)
  assert ours.is_best and not gold.is_best


def test_bar_covers_the_interval_of_a_share():
  cells = tables.summary_cells(ROWS)
  assert cells[0][0].bar == (0.4, 0.5, 0.62)
  assert cells[1][0].bar == (0.75, 0.75, 0.75)
  assert cells[0][1].bar is None  # nats


def test_system_names_cannot_break_the_markdown():
  row = SummaryRow('a|b\n<c>', {'em': 0.5})
  line = tables.markdown_table([row]).splitlines()[2]
  assert line == '| a\\|b \\<c\\> | 50.0 |'


def test_screen_shows_half_widths_and_fits_80_columns():
  metrics = ['recall_at_1', 'recall_at_5', 'recall_at_20', 'em', 'f1']
  interval = Interval(0.5, 0.45, 0.56, 0.03, 3)
  rows = [SummaryRow('[red]realm', dict.fromkeys(metrics, interval))]
  console = Console(width=80, color_system=None)
  with console.capture() as captured:
    console.print(tables.rich_table(rows))
  [line] = [x for x in captured.get().splitlines() if 'realm' in x]
  assert '[red]realm' in line  # names are no markup
  assert line.count('50.0 ±5.5') == len(metrics)


@pytest.mark.parametrize('rows', [[], [SummaryRow('realm', {})]])
def test_nothing_to_show_is_still_a_table(rows):
  assert tables.markdown_table(rows).startswith('| system |')
  tables.rich_table(rows)


def test_recall_is_headed_by_its_k_and_whether_it_is_zero_shot():
  assert tables.metric_label('recall_at_5') == 'R@5 (%)'
  assert tables.metric_label('zero_shot_recall_at_20') == '0-shot R@20 (%)'
