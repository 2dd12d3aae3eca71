"""SQuAD 1.1 JSON: articles in paragraphs, with questions and answers."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from realm_jax.data.lines import read_head, read_json, whole_characters
from realm_jax.errors import UserError

EXPECTED = (
  'SQuAD 1.1 JSON, {"data": [{"title": ..., "paragraphs": [{"context": ..., '
  '"qas": [...]}]}]}'
)


def is_squad(path: str | Path) -> bool:
  """Whether a file begins as SQuAD JSON does."""
  return bool(re.match(rb'\s*\{\s*"(version|data)"\s*:', read_head(path)))


def read_squad(
  path: str | Path,
) -> Iterator[tuple[str, list[str], list[dict[str, Any]]]]:
  """Articles of a file: title, its paragraphs, its question entries.

  Raises:
    FileNotFoundError: there is no such file.
    UserError: it is not JSON of this shape.
  """
  content = read_json(path, EXPECTED)
  articles = content.get('data') if isinstance(content, dict) else None
  if not isinstance(articles, list):
    raise UserError(f'{path}: no list "data" in it. Expected {EXPECTED}.')
  for number, article in enumerate(articles):
    try:
      title = _text(article.get('title', '')).replace('_', ' ')
      paragraphs = [_text(part['context']) for part in article['paragraphs']]
      entries = [
        entry for part in article['paragraphs'] for entry in part.get('qas', ())
      ]
    except (KeyError, TypeError, AttributeError) as error:
      raise UserError(
        f'{path}, "data" entry {number}: {type(error).__name__} {error}. '
        f'Expected {EXPECTED}.'
      ) from error
    yield title, paragraphs, entries


def _text(value: Any) -> str:
  if not isinstance(value, str):
    raise TypeError(f'{value!r:.40}, expected a string')
  return whole_characters(value)
