import numpy as np
import pytest

from realm_jax.data import materialised as module
from realm_jax.data.materialised import MaterialisedExamples, write_examples
from realm_jax.errors import UserError


def examples(number=11):
  return [
    {'ids': np.arange(i, i + 4, dtype=np.int32), 'length': np.int32(i)}
    for i in range(number)
  ]


@pytest.mark.parametrize('shard_size', [3, 4, 100])
def test_examples_come_back_by_row(tmp_path, monkeypatch, shard_size):
  monkeypatch.setattr(module, '_SHARD_SIZE', shard_size)
  manifest = write_examples(tmp_path, iter(examples()), task='mine')
  opened = MaterialisedExamples(tmp_path)
  assert opened.num_examples == manifest['num_examples'] == 11
  assert opened.shapes == {'ids': (4,), 'length': ()}
  assert opened.manifest['task'] == 'mine'
  for row in (10, 0, 3, 4):
    found = opened(row, epoch=7)
    assert found['ids'].tolist() == list(range(row, row + 4))
    assert found['length'] == row
    assert found['length'].shape == ()


def test_a_stopped_rewriting_leaves_nothing_that_is_whole(tmp_path):
  write_examples(tmp_path, examples())
  with pytest.raises(ZeroDivisionError):
    write_examples(tmp_path, (1 / 0 for _ in '1'))
  with pytest.raises(FileNotFoundError, match='never finished'):
    MaterialisedExamples(tmp_path)


def test_bad_examples_are_refused(tmp_path, monkeypatch):
  with pytest.raises(UserError, match='no examples'):
    write_examples(tmp_path, [])
  with pytest.raises(FileNotFoundError, match='realm-jax materialise'):
    MaterialisedExamples(tmp_path)
  monkeypatch.setattr(module, '_SHARD_SIZE', 11)
  other = {'ids': np.zeros(5, np.int32), 'length': np.int32(0)}
  with pytest.raises(UserError, match='have shapes'):
    write_examples(tmp_path, [*examples(), other])


def test_examples_of_other_lengths_are_refused(tmp_path):
  write_examples(tmp_path, examples(), task='mine')
  opened = MaterialisedExamples(tmp_path)
  opened.check_shapes({'ids': (4,)})
  with pytest.raises(UserError, match=r'ids is \[4\], expected \[5\]; mask is'):
    opened.check_shapes({'ids': (5,), 'mask': (3,)})
