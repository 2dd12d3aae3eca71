"""A sentence encoder as retriever: mean pooling, and what it finds."""

import jax
import numpy as np
import pytest
import tiny

from realm_jax.data.corpus import Corpus
from realm_jax.data.featurize import Ragged, document_inputs
from realm_jax.data.qa import load_questions
from realm_jax.data.qa_examples import qa_examples
from realm_jax.eval import dense
from realm_jax.eval.rankers import make_ranker
from realm_jax.index.retriever import Retriever
from realm_jax.models.encoder import Encoder
from realm_jax.models.realm import init_params


@pytest.fixture
def encoder(tiny_corpus, monkeypatch):
  """Corpus, encoder and its parameters, which any folder is read to hold."""
  corpus = Corpus.open(tiny_corpus)
  model = tiny.with_vocab_of(corpus)
  params = init_params(model, jax.random.key(4))
  monkeypatch.setattr(
    dense, 'encoder_config_from', lambda folder: model.encoder
  )
  monkeypatch.setattr(dense, 'load_bert', lambda *arguments: params)
  return corpus, Encoder(model.encoder), params['embedder']['encoder']


def mean_embeds(encoder, params, inputs):
  """[num_texts, hidden_size] float64, of length 1."""
  hidden = np.asarray(encoder.apply({'params': params}, inputs), np.float64)
  means = [
    vectors[mask.astype(bool)].mean(axis=0)
    for vectors, mask in zip(hidden, inputs.mask, strict=True)
  ]
  return np.array([mean / np.linalg.norm(mean) for mean in means])


@pytest.mark.slow
def test_questions_find_what_their_mean_is_nearest_to(
  encoder, tiny_questions, tmp_path
):
  corpus, model, params = encoder
  questions = load_questions(tiny_questions)[:5]
  examples = qa_examples(questions, corpus.wordpiece, tiny.LENGTHS)
  retriever = Retriever(None, corpus, tiny.LENGTHS)
  rank = make_ranker(
    'dense:anywhere', questions, examples, retriever, None, tmp_path
  )
  rows = np.arange(5)
  batch = examples.rows(rows)
  query = retriever.query_inputs(
    Ragged(batch['question_ids'], batch['question_lens'])
  )
  blocks = document_inputs(
    corpus.gather(np.arange(corpus.num_blocks)), corpus.wordpiece, 64, 64
  )
  scores = mean_embeds(model, params, query) @ (
    mean_embeds(model, params, blocks).T
  )
  found = rank(rows, 3)
  best = np.take_along_axis(scores, found, axis=1)
  # Blocks that score alike but for rounding may change places.
  np.testing.assert_allclose(best, -np.sort(-scores, axis=1)[:, :3], atol=1e-5)


@pytest.mark.slow
def test_what_was_embedded_once_is_found_again(
  encoder, tiny_questions, tmp_path, monkeypatch
):
  corpus, _, _ = encoder
  dense.dense_retriever('anywhere', corpus, tiny.LENGTHS, tmp_path)

  def fail(*arguments, **keywords):
    raise AssertionError('embedded again')

  monkeypatch.setattr('realm_jax.refresh.snapshots.embed_blocks', fail)
  dense.dense_retriever('anywhere', corpus, tiny.LENGTHS, tmp_path)
