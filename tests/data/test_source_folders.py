import hashlib
import os
from collections import Counter

import pytest

from realm_jax.data.sources import Article, identify_source, read_source
from realm_jax.errors import UserError

TREE = {'b/two.txt': 'Two.', 'one.txt': 'One.'}
LEFT_BEHIND = ['.hidden.txt', '.git/x.txt', '_SUCCESS', 'README.md']
LEFT_BEHIND += ['.one.txt.crc', 'one.txt.crc', '_temporary/0/three.txt']


def write_tree(folder, tree=None):
  for name, text in (TREE if tree is None else tree).items():
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
  return folder


def test_hidden_files_and_what_tools_leave_are_ignored(tmp_path):
  folder = write_tree(tmp_path / 'texts')
  before = identify_source(folder)
  write_tree(folder, dict.fromkeys(LEFT_BEHIND, '\0'))
  skipped = Counter()
  assert list(read_source(folder, skipped)) == [
    Article('two', 'Two.'),
    Article('one', 'One.'),
  ]
  assert not skipped
  assert identify_source(folder) == before


def test_links_are_not_followed_and_counted(tmp_path):
  secret = write_tree(tmp_path / 'secret', {'s.txt': 'Secret.'})
  folder = write_tree(tmp_path / 'texts')
  (folder / 'file.txt').symlink_to(secret / 's.txt')
  (folder / 'sub').symlink_to(secret)
  (folder / 'up').symlink_to(folder)
  (folder / 'again.txt').symlink_to('one.txt')
  os.mkfifo(folder / 'pipe.txt')
  skipped = Counter()
  articles = list(read_source(folder, skipped))
  assert [article.text for article in articles] == ['Two.', 'One.']
  assert skipped == {'link, not followed': 4, 'pipe or device': 1}
  (tmp_path / 'link').symlink_to(folder)  # but what is named is read
  assert list(read_source(tmp_path / 'link')) == articles


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
  os.mkfifo(tmp_path / 'pipe')
  with pytest.raises(UserError, match=r'pipe is a pipe or a device'):
    read_source(tmp_path / 'pipe')


@pytest.mark.parametrize(
  'tree, message',
  [
    (
      {'a.txt': 'One.', 'b.jsonl': '{"text": "Two."}', 'c.txt': 'Three.'},
      r'holds 2 plain text \(a.txt\), 1 JSON lines \(b.jsonl\). Expected files '
      'of one kind: JSON lines.*Name the files',
    ),
    ({'a.txt': 'One.', 'x/b.pdf': '%PDF'}, r'holds .*1 of no known .*x/b.pdf'),
    ({'b.pdf': '%PDF'}, r'holds 1 of no known format \(b.pdf\). Expected'),
    ({'.x': 'x', 'a.txt': '', 'b.txt': ' '}, r'holds nothing .*\(2 empty file'),
  ],
)
def test_a_folder_that_cannot_be_read_says_what_is_in_it(
  tmp_path, tree, message
):
  folder = write_tree(tmp_path / 'texts', tree)
  with pytest.raises(UserError, match=f'texts {message}'):
    read_source(folder)


def test_an_empty_folder_and_one_of_links_say_so(tmp_path):
  with pytest.raises(UserError, match=r'holds nothing to read \(no files\)'):
    read_source(tmp_path)
  (tmp_path / 'blob.txt').symlink_to('/etc/hostname')
  with pytest.raises(UserError, match=r'\(1 link, not followed\). Expected'):
    read_source(tmp_path)


def test_a_name_that_is_not_utf8_is_refused_in_printable_words(tmp_path):
  with open(os.fsencode(tmp_path) + b'/caf\xe9.txt', 'w') as stream:
    stream.write('One.')
  with pytest.raises(UserError, match=r'not UTF-8: rename it') as caught:
    read_source(tmp_path)
  str(caught.value).encode('utf-8')


def test_the_digest_of_a_folder_is_that_of_names_and_contents(tmp_path):
  folder = write_tree(tmp_path / 'texts')
  found = identify_source(str(folder))
  lines = ''.join(
    f'{name}\0{hashlib.sha256(text.encode()).hexdigest()}\n'
    for name, text in sorted(TREE.items())
  )
  assert found == {
    'name': 'texts',
    'bytes': 8,
    'sha256': hashlib.sha256(lines.encode()).hexdigest(),
  }
  (folder / 'one.txt').rename(folder / 'uno.txt')
  assert identify_source(folder)['sha256'] != found['sha256']


def test_a_file_is_known_by_its_own_digest(tmp_path):
  path = tmp_path / 'a.txt'
  path.write_text('One.')
  assert identify_source(path) == {
    'name': 'a.txt',
    'bytes': 4,
    'sha256': hashlib.sha256(b'One.').hexdigest(),
  }
  with pytest.raises(UserError, match=r'no format known'):
    path.rename(tmp_path / 'a.pdf')
    identify_source(tmp_path / 'a.pdf')
