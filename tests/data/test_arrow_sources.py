import json
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from realm_jax.data.sources import Article, identify_source, read_source
from realm_jax.errors import UserError

TABLE = pa.table(
  {
    'id': list(range(5)),
    'title': ['A', None, 'C', 'D', 'E'],
    'text': ['One.', 'Zwö.', '', None, 'Five.'],
  }
)
ARTICLES = [Article('A', 'One.'), Article('', 'Zwö.'), Article('E', 'Five.')]


def write_parquet(path, table):
  pq.write_table(table, path, row_group_size=2)


def write_stream(path, table):
  with pa.ipc.new_stream(path, table.schema) as writer:
    writer.write_table(table, max_chunksize=3)


def write_file(path, table):
  with pa.ipc.new_file(path, table.schema) as writer:
    writer.write_table(table, max_chunksize=3)


WRITERS = pytest.mark.parametrize(
  'write', [write_parquet, write_stream, write_file]
)


def save_to_disk(folder, *tables):
  """What datasets.save_to_disk leaves."""
  folder.mkdir(parents=True)
  names = [f'data-{i:05}-of-{len(tables):05}.arrow' for i in range(len(tables))]
  for name, table in zip(names, tables, strict=True):
    write_stream(folder / name, table)
  (folder / 'dataset_info.json').write_text('{"features": {}}')
  state = {'_data_files': [{'filename': name} for name in names]}
  (folder / 'state.json').write_text(json.dumps(state))
  write_stream(folder / 'cache-0123456789abcdef.arrow', TABLE)
  return folder


@WRITERS
def test_rows_are_articles_whatever_the_file_is_called(tmp_path, write):
  write(tmp_path / 'file', TABLE)
  skipped = Counter()
  assert list(read_source(tmp_path / 'file', skipped)) == ARTICLES
  assert skipped == {'no text': 2}


def test_a_large_row_group_is_not_read_at_once(tmp_path):
  table = pa.table(
    {'text': [f'{i} ' + 'Some text. ' * 900 for i in range(3000)]}
  )
  path = tmp_path / 'file'
  pq.write_table(table, path, use_dictionary=False, compression='none')
  assert path.stat().st_size > 28 << 20
  before = pa.total_allocated_bytes()
  peak = max(pa.total_allocated_bytes() - before for _ in read_source(path))
  assert peak < 20 << 20


@WRITERS
def test_other_string_types_and_a_missing_title_will_do(tmp_path, write):
  texts = ['One.', 'Two.', 'One.'] * 200
  for kind in (pa.large_string(), pa.dictionary(pa.int8(), pa.string())):
    table = pa.table({'text': pa.array(texts).cast(kind), 'x': [[1.0]] * 600})
    write(tmp_path / 'file', table)
    assert [article.text for article in read_source(tmp_path / 'file')] == texts


@WRITERS
@pytest.mark.parametrize(
  'columns, message',
  [
    ({'body': ['x']}, r'columns body \(string\)'),
    ({'text': [b'x']}, r'columns text \(binary\)'),
    ({'text': [['x']]}, r'columns text \(list'),
    ({'text': ['x'], 'title': [3]}, r'title \(int64\)'),
  ],
)
def test_wrong_columns_are_found_before_reading(
  tmp_path, write, columns, message
):
  write(tmp_path / 'file', pa.table(columns))
  with pytest.raises(UserError, match=f'file has .*{message}.*Expected a col'):
    read_source(tmp_path / 'file')


@WRITERS
def test_two_columns_of_one_name_are_refused(tmp_path, write):
  array = pa.array(['x'])
  write(tmp_path / 'file', pa.table([array, array], names=['text', 'text']))
  with pytest.raises(UserError, match=r'has the columns text .*, text'):
    read_source(tmp_path / 'file')


@WRITERS
def test_invalid_utf8_names_file_and_row(tmp_path, write):
  texts = pa.array([b'x'] * 300 + [b'caf\xe9'] + [b'y'] * 5)
  column = pa.Array.from_buffers(pa.string(), len(texts), texts.buffers())
  write(tmp_path / 'file', pa.table({'text': column}))
  with pytest.raises(UserError, match=r'file, row 300: "text" is no valid UTF'):
    list(read_source(tmp_path / 'file'))


@WRITERS
@pytest.mark.parametrize('kept', [0.4, 0.8])
def test_truncated_files_are_refused(tmp_path, write, kept):
  write(tmp_path / 'file', pa.table({'text': ['Some text.'] * 900}))
  content = (tmp_path / 'file').read_bytes()
  (tmp_path / 'file').write_bytes(content[: int(kept * len(content))])
  with pytest.raises(UserError, match=r'file.*truncated or damaged'):
    list(read_source(tmp_path / 'file'))


def test_a_saved_data_set_is_what_its_state_names_in_that_order(tmp_path):
  folder = save_to_disk(tmp_path / 'wiki', TABLE[:2], TABLE[2:])
  assert list(read_source(folder)) == ARTICLES
  before = identify_source(folder)
  write_stream(folder / 'data-00009-of-00010.arrow', TABLE)  # of an older one
  assert list(read_source(folder)) == ARTICLES
  assert identify_source(folder) == before


@pytest.mark.parametrize(
  'state, message',
  [
    ('{"_data_files": [{"filename": "b.arrow"}]}', "names 'b.arrow', which is"),
    ('{"_data_files": [{"filename": "../x.arrow"}]}', r"'../x.arrow', which"),
    ('{"_data_files": 3}', 'TypeError.*Expected what datasets.save_to_disk'),
    ('[]', 'Expected what datasets.save_to_disk writes'),
    ('{', 'not valid JSON'),
    ('{"_data_files": [], "_indices_data_files": [1]}', 'flatten_indices'),
  ],
)
def test_a_bad_state_is_refused_and_its_paths_are_not_followed(
  tmp_path, state, message
):
  write_stream(tmp_path / 'x.arrow', TABLE)
  folder = save_to_disk(tmp_path / 'wiki', TABLE)
  (folder / 'state.json').write_text(state)
  with pytest.raises(UserError, match=message):
    read_source(folder)


def test_of_several_splits_one_has_to_be_named(tmp_path):
  for split, table in (('train', TABLE), ('test', TABLE[:1])):
    save_to_disk(tmp_path / 'wiki' / split, table)
  (tmp_path / 'wiki' / 'dataset_dict.json').write_text('{"splits": []}')
  message = r'wiki holds several .*: test, train\. Name one .*wiki/test'
  with pytest.raises(UserError, match=message):
    read_source(tmp_path / 'wiki')
  assert list(read_source(tmp_path / 'wiki' / 'train')) == ARTICLES


@pytest.mark.parametrize(
  'names', [('train-00000-of-00001', 'test-00000-of-00001'), ('train', 'test')]
)
def test_splits_are_told_apart_by_file_names_too(tmp_path, names):
  for name in names:
    write_parquet(tmp_path / f'{name}.parquet', TABLE)
  with pytest.raises(UserError, match=r'several .*: test, train.*/test\*'):
    read_source(tmp_path)


def test_the_parts_of_one_split_are_read_in_order(tmp_path):
  data = tmp_path / 'data'
  data.mkdir()
  write_parquet(data / 'train-00001-of-00002.parquet', TABLE[2:])
  write_parquet(data / 'train-00000-of-00002.parquet', TABLE[:2])
  (tmp_path / 'README.md').write_text('A data set.')
  assert list(read_source(tmp_path)) == ARTICLES


def test_one_bad_part_is_found_before_reading(tmp_path):
  write_parquet(tmp_path / 'part-0.parquet', TABLE)
  write_parquet(tmp_path / 'part-1.parquet', pa.table({'x': [1]}))
  with pytest.raises(UserError, match=r'part-1.parquet has the columns x'):
    read_source(tmp_path)
