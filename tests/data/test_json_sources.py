import bz2
import json
from collections import Counter

import pytest

from realm_jax.data.sources import Article, read_source
from realm_jax.errors import UserError


def extracted(title, text, **fields):
  """A line of WikiExtractor --json."""
  row = {'id': '7', 'revid': '8', 'url': 'u', 'title': title, 'text': text}
  return json.dumps(row | fields, ensure_ascii=False) + '\n'


def test_a_tree_of_wiki_extractor_is_read_in_order_and_cleaned(tmp_path):
  tree = tmp_path / 'text'
  (tree / 'AA').mkdir(parents=True)
  (tree / 'AB').mkdir()
  (tree / 'AB' / 'wiki_00').write_text(extracted('Last', 'Z &lt;b&gt;.'))
  (tree / 'AA' / 'wiki_01.bz2').write_bytes(
    bz2.compress(
      extracted('AT&amp;T', 'AT&amp;T\n\nAT&amp;T is &amp;lt; a').encode()
    )
  )
  (tree / 'AA' / 'wiki_00').write_text(
    extracted('Ä', 'Erste.\nZweite.')
    + extracted('Redirect', '')
    + extracted('Stub', 'Stub\n')
  )
  skipped = Counter()
  assert list(read_source(tree, skipped)) == [
    Article('Ä', 'Erste.\nZweite.'),
    Article('AT&T', '\nAT&T is &lt; a'),
    Article('Last', 'Z <b>.'),
  ]
  assert skipped == {'no text': 1, 'title only': 1}


def test_escapes_stay_where_no_revision_says_that_there_are_any(tmp_path):
  path = tmp_path / 'wiki.jsonl'
  row = {'id': '7', 'url': 'u', 'title': 'A', 'text': 'A\nOne &amp; two.'}
  path.write_text(json.dumps(row) + '\n' + json.dumps({'text': 'a &lt; b'}))
  assert list(read_source(path)) == [
    Article('A', 'One &amp; two.'),
    Article('', 'a &lt; b'),
  ]


def test_the_default_format_of_wiki_extractor_says_what_to_do(tmp_path):
  (tmp_path / 'wiki_00').write_text('<doc id="1" title="A">\nA\n\nB\n</doc>\n')
  with pytest.raises(UserError, match=r'wiki_00 is what WikiExt.*--json'):
    read_source(tmp_path)


def test_a_bad_line_in_a_tree_names_its_file(tmp_path):
  (tmp_path / 'wiki_00').write_text(extracted('A', 'One.'))
  (tmp_path / 'wiki_01').write_text(extracted('A', 'One.') + '{"title": "B"}\n')
  with pytest.raises(UserError, match=r'wiki_01, line 2: "text" is missing'):
    list(read_source(tmp_path))
