"""Damaged files: refused by name, or every article of them accounted for.

Pages, invented and real, are damaged by Hypothesis and read the way `prepare`
reads them. The examples are the same in every run.
"""

# ruff: noqa: RUF001 (odd characters are the subject)
import bz2
import csv
import functools
import gzip
import io
import itertools
import json
import lzma
import re
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import numpy as np
import pytest
import tiny
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from realm_jax.data.corpus import Corpus
from realm_jax.data.packing import SKIPPED, Packer, make_tagger
from realm_jax.data.sources import Article, read_source
from realm_jax.data.wikitext import plain_text
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError
from realm_jax.runs.prepare import prepare

SHARED = Path(__file__).resolve().parents[2] / '..' / 'shared' / 'realtext'
DUMP = SHARED / 'enwiki-sample.xml.bz2'
BLOCK_LEN = 40
MAX_SECONDS = 5  # of processor time, for up to 1 MB
_OWN = (
  'Ada Quist was a painter who lived near Arnby. In 1851 she left for good.',
  "'''Belton''' is a town of [[Corva]], {{convert|5|km|mi}} from the sea. It "
  'has 3,500 people.<ref name="a">See {{cite|b=c}}.</ref>\n== History ==\n'
  'It was founded on 3 May 1790.\n{| class="x"\n| a || b\n|}\n* An item of '
  'the list, which is a sentence, ends here.',
  '#REDIRECT [[Belton]]',
  'Zürich—עברית, 한국어 and नमस्ते—are words. He said 👩‍👩‍👧 to e\u0301 at once.',
)
_FIRST = '<mediawiki xml:lang="en"><siteinfo><sitename>x</sitename></siteinfo>'
_ODD = (
  'שלום עולם \u202eabc\u202c ', 'السلام عليكم ', 'e\u0301\u0323' * 9,
  '👩‍👩‍👧🏽 ', '\u200b\u200d\ufeff\u2060', '\u0300' * 40, '각나닭 ', '漢字',
  '\u2028\x85\xa0', '\ufffd\uffff', '𝔸𝕓𝕔 ', 'ﷺ ﬁ ŉ ', '½² ',
)  # fmt: skip
_MARKS = (
  '{{', '}}', '[[', ']]', '{|\n', '\n|}', '\n|-\n', '<ref', '<ref>', '</ref>',
  '<ref name="', '<math>', '<nowiki>', '<!--', '-->', '<b>', '<div style=\'',
  '{{a|', '[[b|', '[[File:c|', '[http://d ', '{{{', "''", '== ', '\n== e',
  '\n*:', '{{as of|²', '{{lang|fr|', '(', ' ,', '. ', '...', '&#', '<br>',
  '{{convert|',
)  # fmt: skip
_COMPRESS = (bytes, bz2.compress, gzip.compress, lzma.compress)


def examples(number):
  return settings(
    max_examples=number,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
  )


def page(title, text, extra=''):
  return (
    f'<page><title>{escape(title)}</title><ns>0</ns><id>7</id>{extra}'
    f'<revision><model>wikitext</model><text bytes="9">{escape(text)}</text>'
    '</revision></page>'
  )


def dump(pages):
  return f'{_FIRST}{"".join(pages)}</mediawiki>'


@functools.cache
def pages_of(origin):
  """(title, wikitext) of some pages; the real ones without realm_jax."""
  if origin == 'own':
    return [(f'Page {i} & more', text) for i, text in enumerate(_OWN)]
  with bz2.open(DUMP, 'rt', encoding='utf-8') as stream:
    start = stream.read(3_000_000)
  found = re.findall(r'<page>.*?</page>', start, re.DOTALL)
  trees = map(ElementTree.fromstring, found)
  pages = [(t.findtext('title'), t.findtext('.//text')) for t in trees]
  return [(title, text[:8000]) for title, text in pages if text][:40]


origins = pytest.mark.parametrize(
  'origin',
  [
    'own',
    pytest.param(
      'real',
      marks=pytest.mark.skipif(
        not DUMP.is_file(), reason='../shared/realtext is absent'
      ),
    ),
  ],
)


@pytest.fixture(scope='module')
def packer():
  texts = [' '.join(text for _, text in pages_of('own')) + ''.join(_ODD)] * 3
  wordpiece = WordPiece.train(texts, 500)
  return Packer(wordpiece, make_tagger('rules'), BLOCK_LEN, 0)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  return tmp_path_factory.mktemp('damaged')


def read(path, packer):
  """Articles and how many were accounted for; None where it was refused."""
  started = time.process_time()
  skipped = Counter()
  try:
    articles = list(read_source(path, skipped, with_wikitext=True))
  except UserError as error:
    assert path.name in str(error)
    assert 'Traceback' not in str(error)
    return None
  chunk = packer(articles)
  assert time.process_time() - started < MAX_SECONDS
  check_blocks(chunk, packer.wordpiece)
  left_out = {k: n for k, n in chunk.counts.items() if k.startswith(SKIPPED)}
  assert '' not in skipped
  kept = chunk.counts['articles']
  assert len(set(chunk.blocks['article_id'].to_pylist())) == kept
  return articles, kept + sum(skipped.values()) + sum(left_out.values())


def check_blocks(chunk, wordpiece):
  blocks = chunk.blocks.to_pylist()
  encodings = wordpiece.encode_batch([block['text'] for block in blocks])
  for block, encoding in zip(blocks, encodings, strict=True):
    np.testing.assert_array_equal(block['token_ids'], encoding.token_ids)
    assert 3 + len(block['title_token_ids']) + len(encoding.token_ids) <= (
      BLOCK_LEN
    )
  stop, last_block = 0, -1
  for row in chunk.sentences.to_pylist():
    if row['block_id'] != last_block:
      stop, last_block = 0, row['block_id']
    assert stop <= row['start'] < row['stop']
    assert row['stop'] <= len(blocks[last_block]['text'])
    stop = row['stop']
    for first, last in zip(row['span_starts'], row['span_stops'], strict=True):
      assert row['start'] <= first < last <= stop


def write(folder, name, content):
  path = folder / name
  path.write_bytes(content)
  return path


# Bytes ----------------------------------------------------------------------

_GARBAGE = (
  b'\0', b'\0' * 99, b'\xff\xfe', b'\xef\xbb\xbf', b'\xc3', b'\xed\xa0\x80',
  b'\x80\x80', 'Ünï'.encode('utf-16'), b'\r', b'\n', b'"', b'\t', b'<', b'{',
  b'\x1f\x8b', b'BZh9', b'\\ud800', b'\\', b']', b'}\n',
)  # fmt: skip


@st.composite
def damages(draw):
  """A function from bytes to damaged bytes."""
  kind = draw(
    st.sampled_from(('cut', 'flip', 'remove', 'insert', 'twice', 'append'))
  )
  place = draw(st.floats(0, 1))
  size = draw(st.integers(1, 60))
  garbage = draw(st.sampled_from(_GARBAGE))
  value = draw(st.integers(1, 255))

  def damage(data):
    at = min(int(place * len(data)), len(data) - 1)
    before, after = data[:at], data[at:]
    return {
      'cut': before,
      'flip': before + bytes([after[0] ^ value]) + after[1:],
      'remove': before + after[size:],
      'insert': before + garbage + after,
      'twice': before + after[:size] + after,
      'append': data + garbage,
    }[kind]

  return damage


def pages_in(content):
  """The pages that another reader finds in XML; None if it is broken."""
  try:
    root = ElementTree.fromstring(content)
  except (ElementTree.ParseError, ValueError, LookupError):
    return None
  return [p.findtext('title', '').strip() for p in root.findall('page')]


@origins
@examples(70)
@given(data=st.data())
def test_a_dump_with_damaged_bytes(origin, data, folder, packer):
  pages = data.draw(
    st.lists(st.sampled_from(pages_of(origin)), min_size=1, max_size=5)
  )
  content = dump(itertools.starmap(page, pages)).encode()
  damaged = data.draw(damages())(content)
  result = read(write(folder, 'damaged.xml', damaged), packer)
  if result is None:
    return
  articles, accounted = result
  titles = pages_in(damaged)
  assert titles is not None  # else the damage went unnoticed
  assert accounted == len(titles)
  whole, _ = read(write(folder, 'whole.xml', content), packer)
  # One page may have changed, and one may be there twice.
  assert sum((Counter(whole) - Counter(articles)).values()) <= 1


@origins
@examples(60)
@given(
  compress=st.sampled_from(_COMPRESS[1:]),
  damage=damages(),
  streams=st.integers(1, 2),
)
def test_a_compressed_dump_with_damaged_bytes(
  origin, compress, damage, streams, folder, packer
):
  content = dump(itertools.starmap(page, pages_of(origin)[:6])).encode()
  half = len(content) // streams
  packed = compress(content[:half]) + compress(content[half:])
  result = read(write(folder, 'packed.xml', damage(packed)), packer)
  if result is not None:  # the damage is to something that says nothing
    assert result == read(write(folder, 'whole.xml', content), packer)


# XML ------------------------------------------------------------------------

_DOCTYPES = (
  '<!DOCTYPE mediawiki [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
  '<!DOCTYPE mediawiki SYSTEM "http://x/y.dtd">',
)
_ENCODINGS = ('utf-8', 'latin-1', 'utf-16', 'utf-7', 'cp037', 'nonsense', '')
_INTO_TEXT = (
  '<b>bold</b>', '<page>', '<text>', '<page></page>', '<title>T</title>', '&x;',
  '&#0;', '&#xD800;', '&amp;', ']]>', '<![CDATA[<page>]]>', '<!-- <page> -->',
  '<?php x ?>', '</text><text>', '</text></revision></page>', '<ns>1</ns>',
  f'<x a="{"y" * 1_000_000}"/>', '<x>' * 30_000,
  '<x>' * 30_000 + '</x>' * 30_000, '\x0b', '\uffff', '</text>lost<text>',
)  # fmt: skip


@st.composite
def broken_xml(draw, pages):
  """A dump with something wrong in its structure."""
  content = dump(itertools.starmap(page, pages))
  tags = list(re.finditer(r'<[^<>]*>', content))
  index = draw(st.integers(0, len(tags) - 2))
  first, second = tags[index], tags[index + 1]
  kind = draw(st.integers(0, 6))
  if kind == 0:  # a tag is gone
    return content[: first.start()] + content[first.end() :]
  if kind == 1:  # two stand in the wrong order
    between = content[first.end() : second.start()]
    swapped = f'{second[0]}{between}{first[0]}'
    return content[: first.start()] + swapped + content[second.end() :]
  if kind == 2:  # something stands inside or between elements
    odd = draw(st.sampled_from(_INTO_TEXT))
    return content[: first.end()] + odd + content[first.end() :]
  if kind == 3:
    return draw(st.sampled_from(_DOCTYPES)) + content
  if kind == 4:
    encoding = draw(st.sampled_from(_ENCODINGS))
    return f'<?xml version="1.0" encoding="{encoding}"?>{content}'
  if kind == 5:  # no root, or another
    root = draw(st.sampled_from(('', 'html', 'mediawiki2')))
    inner = content.removeprefix('<mediawiki xml:lang="en">')
    return f'<{root}>{inner}' if root else inner
  name = re.match(r'</?(\w+)', first[0])[1]  # an element has another name
  return re.sub(rf'(</?){name}\b', r'\1other', content)


@origins
@examples(80)
@given(data=st.data())
def test_a_dump_of_broken_xml(origin, data, folder, packer):
  pages = data.draw(
    st.lists(st.sampled_from(pages_of(origin)), min_size=1, max_size=4)
  )
  content = data.draw(broken_xml(pages)).encode()
  result = read(write(folder, 'broken.xml', content), packer)
  if result is None:
    return
  titles = pages_in(content)
  assert titles is not None and b'<!DOCTYPE' not in content
  assert result[1] == len(titles)
  if b'<other' not in content:
    assert len(titles) >= len(pages)


# Wikitext -------------------------------------------------------------------


@st.composite
def broken_wikitext(draw, text, max_depth):
  """A page's wikitext with marks that are never closed, and odd characters."""
  for _ in range(draw(st.integers(1, 3))):
    marks = ''.join(
      draw(st.lists(st.sampled_from(_MARKS + _ODD), min_size=1, max_size=4))
    )
    repeated = marks * draw(st.integers(1, max_depth))
    at = draw(st.integers(0, len(text)))
    text = text[:at] + repeated[: max_depth * 10] + text[at:]
  return text


def check_broken_wikitext(pages, data, max_depth, folder, packer):
  index = data.draw(st.integers(0, len(pages) - 1))
  title, text = pages[index]
  broken = data.draw(broken_wikitext(text, max_depth))
  assume(len(broken.encode()) <= 1_000_000)
  # What no XML can hold.
  broken = re.sub('[\x00-\x08\x0b-\x1f\ufffe\uffff]', '', broken)
  damaged = [*pages[:index], (title, broken), *pages[index + 1 :]]
  content = dump(itertools.starmap(page, damaged)).encode()
  articles, accounted = read(write(folder, 'marks.xml', content), packer)
  assert accounted == len(pages)
  others = {(t, w) for i, (t, w) in enumerate(pages) if i != index}
  kept = {(article.title, article.text) for article in articles}
  assert {
    pair for pair in others if not re.match('#REDIRECT', pair[1], re.I)
  } - kept <= {pair for pair in others if is_no_article(*pair)}


def is_no_article(title, text):
  return bool(re.match('List|Index|Outline', title)) or bool(
    re.search('disambig|dab|hndis|geodis', f'{title}{text}', re.I)
  )


@origins
@examples(60)
@given(data=st.data())
def test_broken_wikitext_harms_no_other_page(origin, data, folder, packer):
  check_broken_wikitext(pages_of(origin)[:5], data, 300, folder, packer)


@pytest.mark.slow
@examples(25)
@given(data=st.data())
def test_absurd_nesting_takes_seconds(data, folder, packer):
  check_broken_wikitext(pages_of('own'), data, 20_000, folder, packer)


@pytest.mark.slow
@pytest.mark.parametrize('mark', ['{{', '[[a|', '<ref name="', '<b>', '{|\n'])
@pytest.mark.parametrize('closed', [False, True])
def test_marks_nested_100_000_deep(mark, closed, folder, packer):
  close = {'{{': '}}', '[[a|': ']]', '<b>': '</b>', '{|\n': '\n|}'}
  text = _OWN[0] + '\n' + mark * 100_000
  if closed:
    text += close.get(mark, '"/>') * 100_000
  content = dump([page('A', text), page('B', _OWN[0])]).encode()
  articles, accounted = read(write(folder, 'deep.xml', content), packer)
  assert accounted == len(articles) == 2
  assert 'Ada Quist was a painter' in articles[0].plain().text


def test_equals_signs_do_not_overflow_the_stack(run_python):
  # It killed the process, so it is read in another.
  code = (
    'from realm_jax.data.wikitext import plain_text\n'
    'print(plain_text("It is all here.\\n" + "== " * 100_000))'
  )
  assert 'It is all here.' in run_python(code)


@pytest.mark.parametrize(
  'wikitext',
  [
    '{{as of|2016|²}}', '{{as of|2016|' + '1' * 5000 + '}}', ', ' * 50_000,
    '. <!--' * 20_000, '&lt;!--' * 20_000, '{{ab|' * 10_000, '<ref ' * 10_000,
    '{{' + ' ' * 20_000 + '<}}', 'a\0b',
  ],
)  # fmt: skip
def test_wikitext_that_was_too_much(wikitext):
  started = time.process_time()
  text = plain_text(f'It is a page, and so on.\n{wikitext}\nIt ends here then.')
  assert text.startswith('It is a page, and so on.')
  assert time.process_time() - started < 2


# Other formats --------------------------------------------------------------


def json_lines(pages):
  return ''.join(
    json.dumps({'title': t, 'text': w}, ensure_ascii=len(w) % 2 > 0) + '\n'
    for t, w in pages
  ).encode()


def squad(pages):
  entries = [
    {
      'title': t,
      'paragraphs': [{'context': p, 'qas': []} for p in w.split('\n')],
    }
    for t, w in pages
  ]
  return json.dumps({'version': '1.1', 'data': entries}).encode()


def dpr(pages):
  stream = io.StringIO()
  writer = csv.writer(stream, delimiter='\t', lineterminator='\n')
  writer.writerow(('id', 'text', 'title'))
  for i, (title, text) in enumerate(pages):
    writer.writerow((i, ' '.join(text.split()), title))
  return stream.getvalue().encode()


def text_file(pages):
  return '\n'.join(text for _, text in pages).encode()


def count_json_lines(content):
  rows = [json.loads(line) for line in content.split('\n') if line.strip()]
  assert all(isinstance(row['text'], str) for row in rows)
  return len(rows)


def count_squad(content):
  return len(json.loads(content)['data'])


def count_dpr(content):
  lines = (line + '\n' for line in content.removesuffix('\n').split('\n'))
  header, *rows = csv.reader(lines, delimiter='\t', strict=True)
  rows = [dict(zip(header, row, strict=True)) for row in rows if row]
  blank = [row for row in rows if not row['text'].strip()]
  titles = [row['title'] for row in rows if row['text'].strip()]
  runs = [list(run) for _, run in itertools.groupby(titles)]
  return len(blank) + sum(1 if run[0] else len(run) for run in runs)


def count_text(content):
  assert '\0' not in content
  return 1


@pytest.mark.slow
@origins
@pytest.mark.parametrize(
  'name, encode, count',
  [
    ('rows.jsonl', json_lines, count_json_lines),
    ('squad.json', squad, count_squad),
    ('rows.tsv', dpr, count_dpr),
    ('page.txt', text_file, count_text),
  ],
)
@examples(35)
@given(data=st.data())
def test_other_formats(origin, name, encode, count, data, folder, packer):
  pages = data.draw(
    st.lists(st.sampled_from(pages_of(origin)), min_size=1, max_size=5)
  )
  odd = data.draw(st.sampled_from([*_ODD, '\ud800', '\udc00\ud800', '\x1c']))
  if encode not in (json_lines, squad):
    odd = odd.encode(errors='ignore').decode()
  pages.append((f'Odd {odd}', f'{odd}. It is odd, {odd}, and so on. {odd}'))
  if encode is json_lines:  # which can say more than UTF-8
    content = b''.join(
      json.dumps({'title': t, 'text': w}).encode() + b'\n' for t, w in pages
    )
  else:
    content = encode(pages)
  if data.draw(st.booleans()):
    content = data.draw(damages())(content)
  compress = data.draw(st.sampled_from(_COMPRESS))
  result = read(write(folder, name, compress(content)), packer)
  if result is None:
    return
  assert result[1] == count(content.decode().removeprefix('\ufeff'))


def test_a_line_of_10_mb_is_refused_or_read_in_time(folder, packer):
  long = 'It is a word and so on ' * 450_000
  content = json_lines([('A', _OWN[0]), ('B', long)])
  assert read(write(folder, 'long.jsonl', content), packer) is None
  assert read(write(folder, 'long.txt', long.encode()), packer) is None
  content = dump([page('A', long), page('B', _OWN[0])]).encode()
  skipped = Counter()
  started = time.process_time()
  path = write(folder, 'long.xml', content)
  articles = list(read_source(path, skipped, with_wikitext=True))
  assert [len(article.text) for article in articles] == [len(long), 72]
  assert time.process_time() - started < MAX_SECONDS


@pytest.mark.slow
@pytest.mark.parametrize(
  'text',
  ['a ' * 100_000, '.' * 100_000, '漢' * 100_000, 'x' * 500_000, 'A-' * 50_000,
   'e\u0301' * 200_000, '\u200b' * 200_000 + ' so it is.', '. ' * 50_000,
   ('y' * 69 + ' ') * 1000],
)  # fmt: skip
def test_a_text_without_sentences_takes_seconds(text, folder, packer):
  path = write(folder, 'endless.jsonl', json_lines([('A', text)]))
  assert read(path, packer)[1] == 1


def test_parts_of_a_word_that_is_cut_stay_apart():
  # Two parts in one block would be encoded as the word they were.
  letters = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', 'ᄀ', 'ᄀ' + 'ᅡᆨ']
  jamo = ['ᄀ', 'ᅡ', 'ᆨ']
  wordpiece = WordPiece([*letters, *(f'##{j}' for j in jamo)])
  # 12 wordpieces of 13 that fit, then 3, which alone are one.
  word = '가' * 6 + '각'
  packer = Packer(wordpiece, None, 16, 0)
  chunk = packer([Article('', word)])
  assert chunk.blocks.num_rows == 2
  for block in chunk.blocks.to_pylist():
    ids = wordpiece.encode(block['text']).token_ids
    np.testing.assert_array_equal(block['token_ids'], ids)


def test_an_absurd_title_does_not_fill_the_memory(folder, packer):
  text = 'It is a sentence of this page. ' * 5000
  path = write(folder, 'title.jsonl', json_lines([('t' * 1_000_000, text)]))
  articles = list(read_source(path))
  chunk = packer(articles)
  assert chunk.counts['titles cut'] == 1
  assert chunk.blocks.nbytes < 100_000_000


def test_a_filling_that_almost_repeats_takes_no_time(folder, packer):
  content = dpr([('A', 'a ' * 60_000 + 'b')])
  assert read(write(folder, 'filling.tsv', content), packer)[1] == 1


@pytest.mark.parametrize('compress', _COMPRESS[1:])
@pytest.mark.parametrize('behind', [b'garbage', b'BZh9' + b'\xff' * 30])
def test_what_follows_compressed_data_is_not_passed_over(
  compress, behind, folder, packer
):
  packed = compress(json_lines(pages_of('own')))
  path = write(folder, 'behind.jsonl', packed + packed + bytes(8))
  assert read(path, packer)[1] == 2 * len(_OWN)
  assert read(write(folder, 'behind.jsonl', packed + behind), packer) is None


@pytest.mark.parametrize(
  'content, message',
  [
    ('<page><title>A</title><page></page></page>', 'a page inside <page>'),
    ('<page><text>a <b>c</b></text></page>', '<b> inside <text>'),
    ('<page><text>a</text>lost</page>', "text in <page>, 'lost'"),
    ('<pagf></pagf>', 'a <pagf> where a page is expected'),
  ],
)
def test_a_dump_that_would_lose_text_is_refused(content, message, folder):
  path = write(folder, 'lost.xml', f'{_FIRST}{content}</mediawiki>'.encode())
  with pytest.raises(
    UserError, match=f'^{re.escape(f"{path}, line 1: {message}")}'
  ):
    list(read_source(path))


@pytest.mark.parametrize('encoding', ['nonsense', 'utf-7'])
def test_an_unknown_encoding_is_refused(encoding, folder):
  head = f'<?xml version="1.0" encoding="{encoding}"?>'
  path = write(folder, 'code.xml', (head + dump([])).encode())
  with pytest.raises(UserError, match=r'code\.xml'):
    list(read_source(path))


@pytest.mark.parametrize('context', [None, 5, ['a'], {'a': 1}])
def test_a_paragraph_that_is_no_string_is_refused(context, folder):
  entry = {'title': 'A', 'paragraphs': [{'context': context}]}
  path = write(folder, 'odd.json', json.dumps({'data': [entry]}).encode())
  with pytest.raises(UserError, match=r'odd\.json, "data" entry 0: .*a string'):
    list(read_source(path))


# Prepare --------------------------------------------------------------------


@examples(12)
@given(data=st.data())
def test_prepare_counts_every_page(data, tmp_path_factory):
  folder = tmp_path_factory.mktemp('prepared')
  texts = data.draw(
    st.lists(
      st.one_of(
        st.sampled_from(_OWN),
        st.sampled_from([*_ODD, '\ud800', '', ' \n', '\0']),
        broken_wikitext(_OWN[1], 50),
      ),
      min_size=1,
      max_size=6,
    )
  )
  pages = [
    (f'T{i}', text) for i, text in enumerate([*texts, '\udfff ' + _OWN[0]])
  ]
  path = write(
    folder,
    'pages.jsonl',
    ''.join(
      json.dumps({'title': t, 'text': w}) + '\n' for t, w in pages
    ).encode(),
  )
  manifest = prepare(
    [str(path)],
    str(folder / 'corpus'),
    vocab_size=700,
    block_len=BLOCK_LEN,
    workers=1,
    console=tiny.quiet(),
  )
  skipped = sum(manifest['num_skipped'].values())
  assert manifest['num_articles'] + skipped == len(pages)
  corpus = Corpus.open(folder / 'corpus')
  assert len(set(corpus.article_ids.tolist())) == manifest['num_articles']
  tokens = corpus.gather(np.arange(corpus.num_blocks))
  for i in range(corpus.num_blocks):
    ids = corpus.wordpiece.encode(corpus.text(i)).token_ids
    np.testing.assert_array_equal(tokens.body_ids[i, : tokens.body_len[i]], ids)
