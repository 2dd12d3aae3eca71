"""Show what a corpus holds, and warn of what looks wrong in it."""

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_checks import CorpusChecks, check_corpus
from realm_jax.data.editions import edition_text
from realm_jax.errors import UserError
from realm_jax.runs.block_progress import block_progress

_BAR = 40  # characters of the longest bar
_STYLES = ('bold green', 'bold cyan', 'bold magenta', 'bold yellow')


def inspect_corpus(
  corpus: str,
  *,
  examples: int = 10,
  max_checked: int = 200_000,
  seed: int = 0,
  console: Console | None = None,
) -> CorpusChecks:
  """Prints figures, lengths, examples with their spans, and warnings.

  Args:
    corpus: folder of a prepared corpus.
    examples: blocks to show, drawn at random.
    max_checked: most blocks whose text is read for the warnings.
    seed: of the draw.
    console: where to print; None for the terminal.

  Returns:
    The figures.

  Raises:
    FileNotFoundError: there is no such corpus.
    UserError: it is damaged, or an argument is negative.
  """
  console = console or Console()
  if examples < 0 or max_checked < 1:
    raise UserError(
      f'examples is {examples} and max_checked {max_checked}, expected at '
      'least 0 and 1.'
    )
  opened = Corpus.open(corpus)
  total = min(max_checked, opened.num_blocks)
  with block_progress(console, 'reading blocks', total, True) as on_progress:
    checks = check_corpus(opened, max_checked, on_progress)
  console.print(_figures(opened, checks))
  console.print(_histogram(checks))
  ids = np.random.default_rng(seed).permutation(opened.num_blocks)[:examples]
  for block_id in np.sort(ids).tolist():
    console.print(_example(opened, block_id), soft_wrap=True)
  for warning in checks.warnings:
    console.print(f'[bold yellow]Warning:[/] {warning}')
  if not checks.warnings:
    console.print('Nothing looks wrong.')
  return checks


def _figures(corpus: Corpus, checks: CorpusChecks) -> Table:
  manifest = corpus.manifest
  num_sentences = manifest['num_sentences']
  num_spans = manifest['num_spans']
  table = Table(title=f'Corpus {corpus.folder}', show_header=False)
  for name, value in (
    ('blocks', f'{corpus.num_blocks:,}'),
    ('articles', f'{manifest["num_articles"]:,}'),
    ('edition', edition_text(manifest)),
    ('sentences', f'{num_sentences:,}'),
    (
      'spans a sentence',
      f'{sum(num_spans.values()) / max(1, num_sentences):.2f}',
    ),
    *((f'spans: {kind}', f'{n:,}') for kind, n in num_spans.items()),
    ('sentences without', f'{np.mean(corpus.sentences.num_spans == 0):.1%}'),
    ('blocks of a text seen before', f'{checks.num_duplicates:,}'),
    ('short blocks', f'{checks.num_short:,}'),
    ('[UNK]', f'{checks.unknown_share:.2%}'),
    ('marks of markup', f'{checks.num_debris:,}'),
    ('vocabulary', f'{manifest["vocab_size"]:,} tokens'),
    ('fingerprint', corpus.fingerprint[:16]),
  ):
    table.add_row(name, value)
  if checks.num_checked < corpus.num_blocks:
    table.caption = f'of {checks.num_checked:,} blocks that were read'
  return table


def _histogram(checks: CorpusChecks) -> Table:
  table = Table(title='Wordpieces of a block', show_header=False, box=None)
  most = checks.length_histogram.max()
  for number, count in enumerate(checks.length_histogram.tolist()):
    first = number * checks.bin_width
    table.add_row(
      f'{first}-{first + checks.bin_width - 1}',
      '█' * round(_BAR * count / most),
      f'{count:,}',
    )
  return table


def _example(corpus: Corpus, block_id: int) -> Text:
  """Title and text of a block, its spans coloured by kind."""
  kinds = corpus.manifest['span_kinds']
  shown = Text.assemble(
    (f'\n{block_id} ', 'dim'), (corpus.title(block_id), 'bold'), '\n'
  )
  text = Text(corpus.text(block_id))
  first, stop = np.searchsorted(
    corpus.sentences.block_ids, [block_id, block_id + 1]
  )
  for sentence in corpus.sentences[int(first) : int(stop)]:
    for span in sentence.spans:
      style = _STYLES[kinds.index(span.kind) % len(_STYLES)]
      text.stylize(style, span.start, span.stop)
  return shown + text
