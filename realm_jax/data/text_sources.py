"""Plain text: a file is an article, its name the title."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from realm_jax.data.lines import read_lines
from realm_jax.errors import UserError

TEXT_SUFFIX = '.txt'
MAX_ARTICLE_CHARS = 1 << 20
_COMPRESSED = ('.bz2', '.gz', '.xz')


def is_text_name(path: Path) -> bool:
  """Whether a file is called .txt, compressed or not."""
  return _bare_name(path).lower().endswith(TEXT_SUFFIX)


def read_text(path: Path, skipped: Counter[str]) -> Iterator[tuple[str, str]]:
  """A text file as an article, its lines as they are: each a paragraph.

  A file longer than MAX_ARTICLE_CHARS gives several articles of one title, cut
  at line ends, so that no file has to fit into memory.

  Yields:
    Title, which is the name without .txt, and text.

  Raises:
    UserError: it is damaged, not UTF-8, or no text.
  """
  del skipped  # nothing is left out
  title = _bare_name(path)
  if is_text_name(path):
    title = title[: -len(TEXT_SUFFIX)]
  lines: list[str] = []
  num_chars = 0
  for number, line in read_lines(path):
    if '\0' in line:
      raise UserError(
        f'{path}, line {number}: a null byte. Expected plain text in UTF-8.'
      )
    if lines and num_chars + len(line) > MAX_ARTICLE_CHARS:
      yield title, '\n'.join(lines)
      lines, num_chars = [], 0
    lines.append(line)
    num_chars += len(line) + 1
  yield title, '\n'.join(lines)


def _bare_name(path: Path) -> str:
  return path.stem if path.suffix.lower() in _COMPRESSED else path.name
