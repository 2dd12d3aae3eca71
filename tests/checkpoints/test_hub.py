"""Names on the Hugging Face hub, without the hub."""

import huggingface_hub
import pytest
from huggingface_hub import errors

from realm_jax.checkpoints.hub import local_path
from realm_jax.errors import UserError


@pytest.fixture
def hub(monkeypatch, tmp_path):
  """A hub with one repository, which has the files that the test adds."""
  monkeypatch.chdir(tmp_path)
  folder = tmp_path / 'cache' / 'repository'
  folder.mkdir(parents=True)
  asked = []

  def snapshot_download(name, allow_patterns):
    if name != 'owner/model':
      raise errors.LocalEntryNotFoundError(f'no {name}\nmore words')
    asked.append(allow_patterns)
    return str(folder)

  monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot_download)
  return folder, asked


def test_a_path_is_a_path(hub, tmp_path):
  _, asked = hub
  (tmp_path / 'owner').mkdir()
  for path in ('owner/model', 'model', '/nowhere/model', './a/b', 'a/b/c'):
    assert str(local_path(path)) == path.removeprefix('./')
  assert not asked


@pytest.mark.parametrize('weights', ['model.safetensors', 'pytorch_model.bin'])
def test_a_name_is_downloaded(hub, weights):
  folder, asked = hub
  (folder / weights).write_bytes(b'')
  assert local_path('owner/model') == folder
  assert not any('block_records.npy' in patterns for patterns in asked)
  local_path('owner/model', ('block_records.npy',))
  assert 'block_records.npy' in asked[-1]
  assert not any(pattern == '*' for patterns in asked for pattern in patterns)


def test_what_cannot_be_had_is_said(hub):
  with pytest.raises(UserError, match=r'could not be had .* no other/model$'):
    local_path('other/model')
  with pytest.raises(UserError, match='has neither'):
    local_path('owner/model')
