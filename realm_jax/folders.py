"""Folders with a manifest: what every stage writes and the next one reads.

A folder is whole when its manifest.json is there. It is written last, to a
temporary name, and renamed: a stage that was stopped leaves a folder without
one, which no reader accepts.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import os
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from realm_jax.errors import UserError

FORMAT_VERSION = 1
MANIFEST = 'manifest.json'
_PACKAGES = (
  'realm_jax',
  'jax',
  'flax',
  'optax',
  'orbax-checkpoint',
  'grain',
  'numpy',
  'tokenizers',
  'pyarrow',
)


def file_checksum(path: Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with open(path, 'rb') as stream:
    return hashlib.file_digest(stream, 'sha256').hexdigest()


def identify_file(path: Path) -> dict[str, Any]:
  """What a file is, whatever folder it lies in: name, bytes and sha256."""
  return {
    'name': path.name,
    'bytes': path.stat().st_size,
    'sha256': file_checksum(path),
  }


def make_folder(path: str | Path) -> Path:
  """Makes a folder to write to, if it is not there.

  Raises:
    UserError: a file is in its place, or it cannot be made.
  """
  path = Path(path)
  try:
    path.mkdir(parents=True, exist_ok=True)
  except (FileExistsError, NotADirectoryError) as error:
    raise UserError(
      f'{path} is a file or lies in one, expected a folder to write to.'
    ) from error
  except OSError as error:
    raise UserError(f'{path} cannot be made: {error}.') from error
  return path


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
  """Waits for whoever holds a lock, and holds it.

  The system gives it up when a process ends, however that happens.

  Args:
    path: a file, which is made and stays.
  """
  try:
    import fcntl
  except ImportError:  # Windows: not guarded
    yield
    return
  with open(path, 'w', encoding='utf-8') as stream:
    fcntl.flock(stream, fcntl.LOCK_EX)
    yield


def write_json(path: Path, value: Any) -> None:
  """Writes JSON so that a reader sees the old file or the new one, whole."""
  with _replacing(path) as stream:
    json.dump(value, stream, indent=2, ensure_ascii=False)
    stream.write('\n')


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
  """Writes JSON values, one a line; a reader sees all of them or none."""
  with _replacing(path) as stream:
    for row in rows:
      stream.write(json.dumps(row, ensure_ascii=False) + '\n')


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[TextIO]:
  """A file that takes the place of another when it is whole and on disk."""
  partial = path.with_name(path.name + '.partial')
  with open(partial, 'w', encoding='utf-8') as stream:
    yield stream
    stream.flush()
    os.fsync(stream.fileno())
  os.replace(partial, path)


def package_versions() -> dict[str, str]:
  """Of Python and of the packages that results depend on."""
  versions = {'python': sys.version.split()[0]}
  for package in _PACKAGES:
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
      versions[package] = importlib.metadata.version(package)
  return versions


def write_manifest(
  folder: Path, kind: str, files: list[str], **fields: Any
) -> dict[str, Any]:
  """Declares a folder whole.

  Args:
    folder: where the files lie.
    kind: what it is: 'corpus', 'run', 'snapshot', ...
    files: names of the files that belong to it, relative to the folder.
    **fields: further entries, such as counts and settings; JSON values.

  Returns:
    The manifest, as read_manifest would return it.
  """
  manifest = {
    'format_version': FORMAT_VERSION,
    'kind': kind,
    'packages': package_versions(),
    'command': shlex.join(sys.argv),
    **fields,
    'files': {
      name: {
        'bytes': (folder / name).stat().st_size,
        'sha256': file_checksum(folder / name),
      }
      for name in files
    },
  }
  write_json(folder / MANIFEST, manifest)
  return manifest


def check_kind(folder: Path, kind: str) -> None:
  """Raises UserError if a folder to write to is whole and something else."""
  path = Path(folder) / MANIFEST
  if path.is_file() and (found := read_json(path).get('kind')) != kind:
    raise UserError(
      f'{folder} is a {found} folder, and no place for this {kind}. Give '
      'another folder, or delete that one.'
    )


def read_json(path: Path) -> Any:
  """Reads a JSON file; raises UserError where it is none."""
  try:
    return json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:
    raise UserError(f'{path} is not valid JSON: {error}.') from error


def is_whole(folder: Path) -> bool:
  """Whether a stage has finished this folder."""
  return (Path(folder) / MANIFEST).is_file()


def read_manifest(
  folder: Path, kind: str, made_by: str, verify: bool = False
) -> dict[str, Any]:
  """Reads and checks the manifest of a folder.

  Args:
    folder: the folder.
    kind: what it must be.
    made_by: the command that makes such a folder, for messages.
    verify: also compare the checksum of every file, not only its size.

  Raises:
    FileNotFoundError: there is no such folder, or it was never finished.
    UserError: it is something else, of another format version, or damaged.
  """
  folder = Path(folder)
  path = folder / MANIFEST
  if not path.is_file():
    problem = 'was never finished' if folder.is_dir() else 'does not exist'
    if folder.is_file():
      problem = 'is a file'
    raise FileNotFoundError(
      f'{kind} folder {folder} {problem} (no {MANIFEST} in it). '
      f'Make it with: {made_by}'
    )
  manifest = read_json(path)
  if manifest.get('kind') != kind:
    raise UserError(
      f'{folder} is a {manifest.get("kind")} folder, expected a {kind} folder.'
    )
  if manifest.get('format_version') != FORMAT_VERSION:
    raise UserError(
      f'{folder} has format version {manifest.get("format_version")}, this '
      f'program reads {FORMAT_VERSION}. Make it again with: {made_by}'
    )
  for name, entry in manifest['files'].items():
    _check_file(folder / name, entry, verify, made_by)
  return manifest


def _check_file(path: Path, entry: dict, verify: bool, made_by: str) -> None:
  if not path.is_file():
    raise UserError(f'{path} is missing. Make it again with: {made_by}')
  size = path.stat().st_size
  if size != entry['bytes']:
    raise UserError(
      f'{path} has {size} bytes, its manifest says {entry["bytes"]}. '
      f'Make it again with: {made_by}'
    )
  if verify and (found := file_checksum(path)) != entry['sha256']:
    raise UserError(
      f'{path} has checksum {found}, its manifest says {entry["sha256"]}. '
      f'Make it again with: {made_by}'
    )
