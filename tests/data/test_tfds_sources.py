import hashlib

import pytest

from realm_jax.data.sources import Article, identify_source, read_source
from realm_jax.errors import UserError

tfds = pytest.importorskip('tensorflow_datasets', exc_type=ImportError)
tf = pytest.importorskip('tensorflow', exc_type=ImportError)
TEXT = tfds.features.Text()


@pytest.fixture(autouse=True)
def data_dir(tmp_path, monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', str(tmp_path))
  return tmp_path


def store(data_dir, name, splits, features, config='20230601.tiny', version=1):
  """Writes what TFDS would; to run its builders takes more packages."""
  folder = data_dir / name / config / f'{version}.0.0'
  folder.mkdir(parents=True)
  features = tfds.features.FeaturesDict(features)
  infos = []
  for split, rows in splits.items():
    file = f'{name}-{split}.tfrecord-00000-of-00001'
    examples = [
      dict(zip(rows, row, strict=True))
      for row in zip(*rows.values(), strict=True)
    ]
    with tf.io.TFRecordWriter(str(folder / file)) as writer:
      for example in examples:
        writer.write(features.serialize_example(example))
    template = tfds.core.ShardedFileTemplate(
      dataset_name=name,
      data_dir=folder,
      split=split,
      filetype_suffix='tfrecord',
    )
    size = (folder / file).stat().st_size
    infos.append(
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(examples)],
        num_bytes=size,
        filename_template=template,
      )
    )
  tfds.folder_dataset.write_metadata(
    data_dir=folder, features=features, split_infos=infos
  )


@pytest.fixture
def wiki(data_dir):
  rows = {'title': ['A', 'B', 'Ç'], 'text': ['One.', '', 'Dreiß.']}
  small = {'title': ['T'], 'text': ['Test.']}
  features = {'title': TEXT, 'text': TEXT}
  store(data_dir, 'wiki', {'train': rows, 'test': small}, features)
  store(data_dir, 'wiki', {'train': small}, features, version=10)


def test_a_split_of_a_version_is_read_as_text(wiki):
  source = 'tfds:wiki/20230601.tiny:1.0.0:train'
  assert list(read_source(source)) == [
    Article('A', 'One.'),
    Article('Ç', 'Dreiß.'),
  ]
  assert list(read_source(f'{source}[:1]')) == [Article('A', 'One.')]


def test_the_latest_version_and_its_only_split_need_no_names(wiki):
  assert list(read_source('tfds:wiki/20230601.tiny')) == [Article('T', 'Test.')]


def test_a_data_set_is_known_by_version_split_bytes_and_info(wiki, data_dir):
  info = data_dir / 'wiki/20230601.tiny/1.0.0/dataset_info.json'
  found = identify_source('tfds:wiki/20230601.tiny:1.0.0:test')
  assert found.pop('bytes') > 0
  assert found == {
    'name': 'tfds:wiki/20230601.tiny:1.0.0:test',
    'sha256': hashlib.sha256(info.read_bytes()).hexdigest(),
  }


@pytest.mark.parametrize(
  'source, message',
  [
    ('wiki/20230601.tiny:1.0.0', 'has the splits test, train: name one'),
    ('wiki/20230601.tiny:1.0.0:dev', 'has the splits test, train: name one'),
    ('wiki/20230601.tiny:1.0.0:train[', 'has the splits test, train: name one'),
    ('', 'names no data set. Expected tfds:NAME'),
    ('../etc', 'names no data set'),
    ('wiki/..', 'names no data set'),
  ],
)
def test_a_wrong_name_says_what_there_is(wiki, source, message):
  with pytest.raises(UserError, match=f'tfds:.*{message}'):
    read_source(f'tfds:{source}')


def test_what_is_not_prepared_is_not_fetched(wiki):
  message = r'There is 20230601.tiny below it.*tfds build wiki'
  for name in ('wiki', 'wiki/20230601.none:train'):
    with pytest.raises(FileNotFoundError, match=r'tfds build wiki'):
      read_source(f'tfds:{name}')
  with pytest.raises(FileNotFoundError, match=message):
    read_source('tfds:wiki')


def test_features_that_are_no_text_are_found_before_reading(data_dir):
  number = tfds.features.Scalar(tf.int64)
  store(data_dir, 'sums', {'train': {'text': [1]}}, {'text': number})
  store(data_dir, 'names', {'train': {'name': ['a']}}, {'name': TEXT})
  for name, features in (('sums', 'text'), ('names', 'name')):
    message = f'has the features {features}. Expected "text"'
    with pytest.raises(UserError, match=message):
      read_source(f'tfds:{name}/20230601.tiny')


def test_invalid_utf8_names_the_row(data_dir):
  rows = {'text': [b'One.', b'caf\xe9']}
  store(data_dir, 'bad', {'train': rows}, {'text': TEXT})
  with pytest.raises(UserError, match=r'tiny, row 1: invalid UTF-8'):
    list(read_source('tfds:bad/20230601.tiny'))


def test_damaged_files_are_refused(wiki, data_dir):
  folder = data_dir / 'wiki/20230601.tiny/1.0.0'
  (path,) = folder.glob('*train*')
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(UserError, match=r'damaged or missing'):
    list(read_source('tfds:wiki/20230601.tiny:1.0.0:train'))
  (folder / 'features.json').write_text('{')
  with pytest.raises(UserError, match=r'is no whole data set'):
    read_source('tfds:wiki/20230601.tiny:1.0.0:train')
