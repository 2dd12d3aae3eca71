"""Folders of tensors: shards, their index, and what is not read."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from realm_jax.checkpoints.tensor_files import TensorFiles
from realm_jax.errors import UserError

A = {'a': np.zeros(2, np.float32)}
B = {'b': np.ones((3, 1), np.float32)}


def write_index(folder, weight_map):
  (folder / 'model.safetensors.index.json').write_text(
    json.dumps({'weight_map': weight_map})
  )


def test_shards_are_one_checkpoint(tmp_path):
  save_file(A, tmp_path / 'model-1.safetensors')
  save_file(B, tmp_path / 'model-2.safetensors')
  files = TensorFiles(tmp_path)
  assert sorted(files.names()) == ['a', 'b']
  np.testing.assert_array_equal(files.read('b'), B['b'])
  assert [path.name for path in files.paths] == [
    'model-1.safetensors',
    'model-2.safetensors',
  ]


def test_of_an_index_only_its_files_are_read(tmp_path):
  save_file(A, tmp_path / 'model-1.safetensors')
  save_file(B, tmp_path / 'model-2.safetensors')
  save_file(A, tmp_path / 'other.safetensors')
  with pytest.raises(UserError, match='both hold a: expected one'):
    TensorFiles(tmp_path)
  write_index(tmp_path, {'a': 'model-1.safetensors'})
  assert TensorFiles(tmp_path).names() == ['a']
  write_index(
    tmp_path, {'a': 'model-1.safetensors', 'b': 'model-3.safetensors'}
  )
  with pytest.raises(
    FileNotFoundError, match=r'lacks model-3\.safetensors, of'
  ):
    TensorFiles(tmp_path)


@pytest.mark.parametrize(
  'text',
  [
    '[]',
    '{}',
    '{"weight_map": []}',
    '{"weight_map": {"a": "../model.safetensors"}}',
    '{"weight_map": {"a": ["b"]}}',
  ],
)
def test_an_index_of_anything_else_is_refused(tmp_path, text):
  (tmp_path / 'model.safetensors.index.json').write_text(text)
  with pytest.raises(UserError, match='is no index of shards'):
    TensorFiles(tmp_path)


def test_a_file_is_no_folder(tmp_path):
  path = tmp_path / 'model.safetensors'
  save_file(A, path)
  with pytest.raises(FileNotFoundError, match=f'is a file. Give {tmp_path} '):
    TensorFiles(path)


def test_a_dtype_that_is_not_read_is_named(tmp_path):
  header = {'a': {'dtype': 'F8_E4M3', 'shape': [2], 'data_offsets': [0, 2]}}
  text = json.dumps(header).encode()
  (tmp_path / 'model.safetensors').write_bytes(
    len(text).to_bytes(8, 'little') + text + b'ab'
  )
  files = TensorFiles(tmp_path)
  for rows in (slice(None), slice(1)):
    with pytest.raises(UserError, match='has a in F8_E4M3, expected'):
      files.read('a', rows)
