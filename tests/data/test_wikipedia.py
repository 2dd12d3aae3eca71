import bz2
import tracemalloc
from collections import Counter

import pytest

from realm_jax.data.sources import Article, read_source
from realm_jax.data.wikipedia import Page, read_dump, read_pages
from realm_jax.errors import UserError

PAGE = (
  '<page><title>{title}</title><ns>{ns}</ns><id>7</id>{extra}<revision>'
  '<id>8</id><model>{model}</model><comment>no text</comment>'
  '<text xml:space="preserve">{text}</text></revision></page>'
)


def page(
  title, text='It is a page, and so on.', ns=0, extra='', model='wikitext'
):
  return PAGE.format(title=title, text=text, ns=ns, extra=extra, model=model)


def write_dump(path, *pages, compress=bytes):
  content = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/">'
    f'<siteinfo><sitename>x</sitename></siteinfo>{"".join(pages)}</mediawiki>'
  )
  path.write_bytes(compress(content.encode()))
  return path


def test_pages_come_with_their_fields(tmp_path):
  path = write_dump(
    tmp_path / 'dump.xml',
    page('A &amp; B', '&lt;b&gt;é&lt;/b&gt;'),
    page('Talk:A', ns=1),
    page('C', '#REDIRECT [[A]]', extra='<redirect title="A" />'),
  )
  assert list(read_pages(path)) == [
    Page('A & B', '0', False, 'wikitext', '<b>é</b>'),
    Page('Talk:A', '1', False, 'wikitext', 'It is a page, and so on.'),
    Page('C', '0', True, 'wikitext', '#REDIRECT [[A]]'),
  ]


def test_what_is_no_article_is_skipped_and_counted(tmp_path):
  skipped_pages = {
    'redirect': [
      page('R', extra='<redirect title="A" />'),
      page('R2', '#redirect [[A]]'),
    ],
    'disambiguation': [
      page('Ada (disambiguation)'),
      page('Ada', 'Ada may be: {{disambig}}'),
      page('Ada', 'Ada may be: {{Disambiguation|name}}'),
      page('Ada', 'Ada may be: {{hndis|Ada}}'),
      page('Ada', 'Ada may be: {{Place name disambiguation}}'),
    ],
    'list': [
      page('List of A'),
      page('Lists of A'),
      page('Index of A'),
      page('Outline of A'),
    ],
    'not an article': [page('Talk:A', ns=1)],
    'not wikitext': [page('A', '{}', model='json')],
  }
  kept = [
    page('A'),
    page('Listing'),
    page('B', 'It {{about|x (disambiguation)}} is.'),
  ]
  path = write_dump(
    tmp_path / 'dump.xml',
    *kept,
    *(p for pages in skipped_pages.values() for p in pages),
  )
  skipped = Counter()
  titles = [title for title, *_ in read_dump(path, skipped)]
  assert titles == ['A', 'Listing', 'B']
  assert skipped == {why: len(pages) for why, pages in skipped_pages.items()}


def test_only_the_text_of_the_page_is_read(tmp_path):
  path = write_dump(tmp_path / 'dump.bz2', page('A'), compress=bz2.compress)
  (article,) = read_source(path)
  assert article == Article('A', 'It is a page, and so on.')


def test_the_day_of_the_last_revision_is_kept(tmp_path):
  revision = '<revision><timestamp>{}</timestamp></revision>'
  path = write_dump(
    tmp_path / 'dump.xml',
    page('A', extra=revision.format('2018-12-19T23:59:00Z')),
    page('B', extra=revision.format('yesterday')),
  )
  assert [article.revised for article in read_source(path)] == [
    '2018-12-19',
    '',
  ]


def test_a_truncated_dump_names_itself(tmp_path):
  path = write_dump(tmp_path / 'dump.xml', *(page(f'A{i}') for i in range(9)))
  path.write_bytes(path.read_bytes()[:-60])
  pages = []
  with pytest.raises(UserError, match=r'dump.xml, line 1: .*middle of a page'):
    pages.extend(read_pages(path))

  packed = bz2.compress(path.read_bytes())
  path.write_bytes(packed[:-20])
  with pytest.raises(UserError, match=r'dump.xml.*truncated or damaged'):
    list(read_pages(path))


def test_other_xml_and_damaged_xml_are_refused(tmp_path):
  path = tmp_path / 'other.xml'
  path.write_text('<html><page/></html>')
  with pytest.raises(UserError, match=r'XML of <html>, expected a MediaWiki'):
    list(read_pages(path))
  path.write_text('<mediawiki>\n<page></mediawiki>')
  with pytest.raises(UserError, match=r'other.xml, line 2: .*not well-formed'):
    list(read_pages(path))


def test_entities_are_neither_fetched_nor_expanded(tmp_path):
  secret = tmp_path / 'secret'
  secret.write_text('secret')
  path = tmp_path / 'dump.xml'
  path.write_text(
    f'<!DOCTYPE mediawiki [<!ENTITY x SYSTEM "file://{secret}">]>'
    f'<mediawiki>{page("A", "&x;")}</mediawiki>'
  )
  with pytest.raises(UserError, match='document type declaration'):
    list(read_pages(path))


def test_memory_does_not_grow_with_the_dump(tmp_path):
  pages = [page(f'A{i}', 'word ' * 500) for i in range(800)]  # 2 MB
  path = write_dump(tmp_path / 'dump.xml', *pages)
  del pages
  tracemalloc.start()
  assert sum(1 for _ in read_pages(path, 1 << 14)) == 800
  peak = tracemalloc.get_traced_memory()[1]
  tracemalloc.stop()
  assert peak < 2**19
