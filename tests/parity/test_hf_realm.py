"""The same numbers as Hugging Face's PyTorch REALM, forwards and backwards."""

import contextlib
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from parity import deviations, fixtures, names
from parity.pipeline import corpus_of, reader_lengths

from realm_jax import losses
from realm_jax.answer_matching import match_answers, right_spans
from realm_jax.checkpoints.hf_realm import config_from
from realm_jax.data.qa import Question
from realm_jax.data.qa_examples import qa_examples
from realm_jax.eval.answering import Answerer
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.models import realm
from realm_jax.models.encoder import Encoder
from realm_jax.models.inference import make_embed
from realm_jax.train.qa_source import QASource
from realm_jax.train.state import TrainState
from realm_jax.types import TextInputs

# In float64 nothing but the formulas can differ.
TOLERANCES = {'float64': 1e-11, 'float32': 2e-5}


@functools.cache
def param_shapes(config: realm.RealmConfig):
  return jax.eval_shape(lambda: realm.init_params(config, jax.random.key(0)))


class Published:
  """One file of fixtures, its model and its parameters in our layout."""

  def __init__(self, path, dtype: str, prefixes: dict[str, str]):
    self.name = path.stem
    self.arrays = np.load(path)
    self.dtype = dtype
    self.tolerance = TOLERANCES[dtype]
    self.prefixes = prefixes
    theirs = self.theirs = json.loads(str(self.arrays['config']))
    config = config_from(theirs)
    self.config = dataclasses.replace(
      config, encoder=dataclasses.replace(config.encoder, dtype=dtype)
    )
    shapes = param_shapes(self.config)
    self._shapes = {part: shapes[part] for part in prefixes}
    self.params = self._tree('param:', dtype)

  def _tree(self, kind: str, dtype: str):
    """Parameters or gradients of the parts that the file has."""

    def read(part):
      def from_source(source):
        key = kind + self.prefixes[part] + source.key
        if key not in self.arrays:
          return None
        value = self.arrays[key].astype(dtype)
        return value.T if source.transposed else value

      return from_source

    return {
      part: names.fill(self._shapes[part], part, read(part))
      for part in self.prefixes
    }

  def gradients(self, case: str):
    return self._tree(f'grad64:{case}/', 'float64')

  def has_gradients(self, case: str) -> bool:
    return any(key.startswith(f'grad64:{case}/') for key in self.arrays)

  def input_gradient(self, case: str, name: str):
    return self.arrays[f'ingrad64:{case}/{name}']

  def has_input(self, name: str) -> bool:
    return 'input:' + name in self.arrays

  def input(self, name: str):
    value = self.arrays['input:' + name]
    return value.astype(self.dtype) if value.dtype.kind == 'f' else value

  def has_output(self, name: str) -> bool:
    return 'output64:' + name in self.arrays

  def output(self, name: str):
    return self.arrays['output64:' + name]

  def text(self, case: str, before: str = '') -> TextInputs:
    ids = self.input(f'{case}/{before}input_ids')
    rest = [
      self.input(f'{case}/{before}{name}')
      if self.has_input(f'{case}/{before}{name}')
      else np.full_like(ids, default)
      for name, default in (('attention_mask', 1), ('token_type_ids', 0))
    ]
    return TextInputs(ids, *rest)

  def assert_close(self, actual, expected, quantity: str):
    deviations.assert_close(
      actual, expected, self.tolerance, self._quantity(quantity), self.dtype
    )

  def assert_outputs(self, case: str, **found):
    """Compares outputs of a case, by their names there.

    Some may not be recorded of this case: a prediction has no loss.
    """
    recorded = [name for name in found if self.has_output(f'{case}/{name}')]
    assert recorded, f'{self.name}: {case} has none of {sorted(found)}'
    for name in recorded:
      expected = self.output(f'{case}/{name}')
      if expected.dtype.kind == 'f':
        self.assert_close(found[name], expected, name.replace('_', ' '))
      else:
        np.testing.assert_array_equal(found[name], expected, name)

  def _quantity(self, name: str) -> str:
    return f'PyTorch {self.name}: {name}'

  def assert_gradients(self, actual, expected):
    worst = names.assert_trees_close(actual, expected, 10 * self.tolerance)
    quantity = self._quantity('gradients, to the largest entry')
    deviations.record(quantity, self.dtype, worst)


@pytest.fixture(
  params=['float64', pytest.param('float32', marks=pytest.mark.slow)]
)
def published(request, fixtures_folder):
  """Opens a file of fixtures, in float64 and then in float32."""
  stack = contextlib.ExitStack()
  with stack:
    if request.param == 'float64':
      stack.enter_context(jax.enable_x64(True))
    yield lambda name, **prefixes: Published(
      fixtures_folder / 'hf_realm' / name, request.param, prefixes
    )


def each_case(name: str):
  """Runs a test with each case of a file."""
  return pytest.mark.parametrize('case', fixtures.pytorch_cases(name))


def apply(config, params, *args, method):
  return realm.Realm(config).apply({'params': params}, *args, method=method)


def apply_and_look_inside(module, params, *args, method=None):
  """Its output, and what each of its modules gave, by name, as a tree."""
  output, state = module.apply(
    {'params': params}, *args, method=method, capture_intermediates=True
  )
  return output, state['intermediates']


def given_by(module):
  """What a module in the tree of apply_and_look_inside gave."""
  return module['__call__'][0]


def with_gradient(argnums=0):
  """Jits value_and_grad of loss(config, *args): cases of one shape share it."""

  def wrap(loss):
    return jax.jit(
      jax.value_and_grad(loss, argnums=argnums, has_aux=True), static_argnums=0
    )

  return wrap


@with_gradient(argnums=1)
def embedder_loss(config, params, text, cotangent):
  embeds, inside = apply_and_look_inside(
    realm.Realm(config), params, text, method='embed_queries'
  )
  pooled = jnp.tanh(given_by(inside['embedder']['pooler']))
  return (embeds * cotangent).sum(), (embeds, pooled)


@functools.partial(jax.jit, static_argnums=0)
def hidden_states(config, params, text):
  """After the embedding layer and after each other: [layers + 1, ...]."""
  _, inside = apply_and_look_inside(Encoder(config), params, text)
  layers = [f'layers_{i}' for i in range(config.num_layers)]
  return jnp.stack([given_by(inside[name]) for name in ('embeddings', *layers)])


@pytest.mark.slow
@each_case('embedder.npz')
def test_embedder(published, case):
  file = published('embedder.npz', embedder='')
  text = file.text(case)
  (value, (embeds, pooled)), gradients = embedder_loss(
    file.config, file.params, text, file.input(f'{case}/cotangent')
  )
  file.assert_outputs(
    case,
    loss=value,
    projected_score=embeds,
    pooler_output=pooled,
    hidden_states=hidden_states(
      file.config.encoder, file.params['embedder']['encoder'], text
    ),
  )
  file.assert_gradients(gradients, file.gradients(case))


@with_gradient(argnums=1)
def scorer_loss(config, params, queries, candidates, cotangent):
  query_embeds = apply(config, params, queries, method='embed_queries')
  embeds = apply(config, params, candidates, method='embed_documents')
  scores = realm.relevance_scores(query_embeds, embeds)
  return (scores * cotangent).sum(), (query_embeds, embeds, scores)


@each_case('scorer.npz')
def test_relevance_scores(published, case):
  file = published('scorer.npz', embedder='embedder.')
  (value, (query_embeds, embeds, scores)), gradients = scorer_loss(
    file.config,
    file.params,
    file.text(case),
    file.text(case, 'candidate_'),
    file.input(f'{case}/cotangent'),
  )
  file.assert_outputs(
    case,
    loss=value,
    query_score=query_embeds,
    candidate_score=embeds,
    relevance_score=scores,
  )
  file.assert_gradients(gradients, file.gradients(case))


def token_loss(config, params, relevance_scores, joint, labels, mask):
  """Their loss, of every position; a label of -100 has log probability 0."""
  positions = jnp.broadcast_to(jnp.arange(labels.shape[1]), labels.shape)
  targets = jnp.maximum(labels, 0)
  gold = apply(
    config, params, joint, positions, targets, method='gold_log_probs'
  )
  gold = jnp.where(labels[:, None, :] >= 0, gold, 0)
  loss, terms = losses.pretrain_loss(
    relevance_scores,
    gold,
    mask,
    jnp.ones_like(relevance_scores, bool),
    objective='marginal_token',
  )
  return loss, (gold, terms)


token_loss_with_gradient = with_gradient(argnums=(1, 2))(token_loss)


def mlm_mask(file, case, before=''):
  """[batch, joint_len]; a case without one counts all positions."""
  name = f'{case}/{before}mlm_mask'
  if file.has_input(name):
    return file.input(name)
  return np.ones_like(file.input(f'{case}/{before}labels'))


def assert_token_terms(file, case, gold, terms, mask):
  if file.has_output(f'{case}/marginal_log_prob'):
    file.assert_close(
      terms.marginal_log_probs,
      file.output(f'{case}/marginal_log_prob') * mask,
      'marginal log prob',
    )
    file.assert_outputs(
      case, gold_log_prob=gold, candidate_log_prob=terms.candidate_log_probs
    )


@pytest.mark.slow
@each_case('knowledge_aug_encoder.npz')
def test_masked_tokens(published, case):
  """Where nothing is masked theirs has NaN for gradients, ours zeros."""
  file = published('knowledge_aug_encoder.npz', reader='')
  mask = mlm_mask(file, case)
  (value, (gold, terms)), gradients = token_loss_with_gradient(
    file.config,
    file.params,
    file.input(f'{case}/relevance_score'),
    file.text('joint'),
    file.input(f'{case}/labels'),
    mask,
  )
  file.assert_outputs(case, loss=value)
  assert_token_terms(file, case, gold, terms, mask)
  if file.has_gradients(case):
    file.assert_gradients(
      gradients,
      (file.gradients(case), file.input_gradient(case, 'relevance_score')),
    )
  else:
    assert not mask.any()
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(gradients))


def test_log_probs_of_the_whole_vocabulary(published):
  file = published('knowledge_aug_encoder.npz', reader='')
  joint = file.text('joint')
  batch, _, joint_len = joint.token_ids.shape
  positions = np.broadcast_to(np.arange(joint_len), (batch, joint_len))
  log_probs = jax.jit(apply, static_argnums=0, static_argnames='method')(
    file.config, file.params, joint, positions, method='mlm_log_probs'
  )
  logits = file.output('joint/logits').reshape(log_probs.shape)
  file.assert_close(log_probs, jax.nn.log_softmax(logits), 'mlm log probs')


@with_gradient(argnums=(1, 2))
def pretrain_loss(
  config, params, added_scores, queries, candidates, joint, labels, mask
):
  """added_scores are zeros: their gradient is that of the relevance scores."""
  query_embeds = apply(config, params, queries, method='embed_queries')
  embeds = apply(config, params, candidates, method='embed_documents')
  scores = realm.relevance_scores(query_embeds, embeds) + added_scores
  loss, terms = token_loss(config, params, scores, joint, labels, mask)
  return loss, ((query_embeds, embeds, scores), terms)


@pytest.mark.slow
@each_case('pretrain.npz')
def test_embedder_and_reader_trained_together(published, case):
  file = published(
    'pretrain.npz', embedder='scorer.embedder.', reader='encoder.'
  )
  candidates = file.text(case, 'scorer.candidate_')
  mask = mlm_mask(file, case, 'encoder.')
  (value, ((query_embeds, embeds, scores), terms)), gradients = pretrain_loss(
    file.config,
    file.params,
    np.zeros(candidates.token_ids.shape[:2], file.dtype),
    file.text(case, 'scorer.'),
    candidates,
    file.text(case, 'encoder.'),
    file.input(f'{case}/encoder.labels'),
    mask,
  )
  file.assert_outputs(
    case,
    loss=value,
    query_score=query_embeds,
    candidate_score=embeds,
    relevance_score=scores,
  )
  assert_token_terms(file, case, *terms, mask)
  file.assert_gradients(
    gradients,
    (file.gradients(case), file.input_gradient(case, 'relevance_score')),
  )


def answer_loss(
  config, params, retriever_scores, joint, block_mask, has_answers, correct
):
  scores, inside = apply_and_look_inside(
    realm.Realm(config), params, joint, block_mask, method='span_scores'
  )
  beam_mask = jnp.ones_like(retriever_scores, bool)
  loss, terms = losses.orqa_loss(
    retriever_scores, beam_mask, has_answers, scores, correct
  )
  return loss, (scores, terms, inside['reader'])


answer_loss_with_gradient = with_gradient(argnums=(1, 2))(answer_loss)


class Spans:
  """The spans of a joint sequence, and which of them are answers."""

  def __init__(self, file, joint_len: int):
    self.starts, self.stops = realm.span_positions(
      joint_len, file.config.max_span_width
    )

  def correct(self, starts, ends):
    """[1, num_read, num_spans]; their ends are inclusive, -1 is no answer."""
    stops = np.where(ends < 0, -1, ends + 1)
    return losses.span_correct(
      starts[None], stops[None], self.starts, self.stops
    )

  def none_correct(self, num_read: int):
    return np.zeros((1, num_read, len(self.starts)), bool)

  def best(self, joint_scores) -> dict:
    """The prediction for the one question, by their names."""
    block, span = np.unravel_index(
      joint_scores[0].argmax(), joint_scores[0].shape
    )
    return {
      'block_idx': block,
      'candidate': span,
      'start_pos': self.starts[[span]],
      'end_pos': self.stops[[span]] - 1,
    }


def assert_answers(file, case, spans, value, terms, correct):
  """What is recorded of losses, labels and the prediction of a question."""
  file.assert_outputs(
    case,
    loss=value,
    retriever_loss=terms.retriever_loss[0],
    reader_loss=terms.reader_loss[0],
    reader_correct=correct[0],
    **spans.best(terms.joint_scores),
  )
  if file.has_output(f'{case}/retriever_correct'):
    right = file.output(f'{case}/retriever_correct')
    assert terms.has_right_block[0] == right.any()


def assert_inside_the_reader(file, scores, terms, inside):
  """What the cases of the reader have in common: hidden states and scores."""
  hidden = given_by(inside['encoder'])[0]
  start_and_end = given_by(inside['span_head']['start_and_end'])
  start_projection, end_projection = np.split(
    start_and_end.reshape(*hidden.shape[:-1], -1), 2, axis=-1
  )
  file.assert_outputs(
    'shared',
    sequence_output=hidden,
    start_projection=start_projection,
    end_projection=end_projection,
  )
  inside_block = file.output('shared/span_mask')
  assert (scores[0][~inside_block] < -1e30).all()
  for name, array in (('span', scores), ('joint', terms.joint_scores)):
    file.assert_close(
      array[0][inside_block],
      file.output(f'shared/{name}_logits')[inside_block],
      f'{name} logits',
    )


@pytest.mark.slow
@each_case('reader.npz')
def test_answer_spans(published, case):
  file = published('reader.npz', reader='')
  joint = TextInputs(*(part[None] for part in file.text('shared')))
  num_read, joint_len = joint.token_ids.shape[1:]
  spans = Spans(file, joint_len)
  file.assert_outputs(
    'shared', candidate_starts=spans.starts, candidate_ends=spans.stops - 1
  )
  relevance_scores = file.input('shared/relevance_score')[None]
  has_answers = np.zeros(relevance_scores.shape, bool)
  correct = spans.none_correct(num_read)
  if file.has_input(f'{case}/has_answers'):
    has_answers = file.input(f'{case}/has_answers')[None]
    correct = spans.correct(
      file.input(f'{case}/start_positions')[:num_read],
      file.input(f'{case}/end_positions')[:num_read],
    )
  (value, (scores, terms, inside)), gradients = answer_loss_with_gradient(
    file.config,
    file.params,
    relevance_scores,
    joint,
    file.input('shared/block_mask')[None, :num_read],
    has_answers,
    correct,
  )
  assert_answers(file, case, spans, value, terms, correct)
  assert_inside_the_reader(file, scores, terms, inside)
  if file.has_gradients(case):
    expected = file.input_gradient(case, 'relevance_score')[None]
    file.assert_gradients(gradients, (file.gradients(case), expected))


@with_gradient(argnums=1)
def question_loss(
  config, params, question, embeds, joint, block_mask, has_answers, correct
):
  query_embeds = apply(config, params, question, method='embed_queries')
  retriever_scores = realm.relevance_scores(query_embeds, embeds)
  value, (_, terms, _) = answer_loss(
    config,
    params,
    retriever_scores,
    joint,
    block_mask,
    has_answers,
    correct,
  )
  return value, (retriever_scores, terms)


def joint_of(file, case, num_read: int) -> TextInputs:
  """[1, num_read, joint_len] each: their question and blocks."""
  return TextInputs(
    *(
      file.output(f'{case}/concat.{name}')[None, :num_read]
      for name in ('input_ids', 'attention_mask', 'token_type_ids')
    )
  )


@pytest.mark.slow
@each_case('openqa.npz')
def test_open_question_answering(published, case):
  """From the question's ids to the answer's, with their joint inputs."""
  file = published('openqa.npz', embedder='embedder.', reader='reader.')
  found_ids = file.output(f'{case}/retrieved_block_ids')
  num_read = min(file.theirs['reader_beam_size'], len(found_ids))
  joint = joint_of(file, case, num_read)
  spans = Spans(file, joint.token_ids.shape[-1])
  has_answers = np.zeros((1, len(found_ids)), bool)
  correct = spans.none_correct(num_read)
  if file.has_output(f'{case}/has_answers'):
    has_answers = file.output(f'{case}/has_answers')[None]
    correct = spans.correct(
      file.output(f'{case}/start_positions')[:num_read],
      file.output(f'{case}/end_positions')[:num_read],
    )
  (value, (retriever_scores, terms)), gradients = question_loss(
    file.config,
    file.params,
    file.text('shared'),
    file.arrays['param:block_emb'].astype(file.dtype)[None, found_ids],
    joint,
    file.output(f'{case}/block_mask')[None, :num_read],
    has_answers,
    correct,
  )
  best = spans.best(terms.joint_scores)
  answer = slice(best['start_pos'][0], best['end_pos'][0] + 1)
  file.assert_outputs(
    case,
    relevance_score=retriever_scores[0],
    predicted_answer_ids=joint.token_ids[0, best['block_idx'], answer],
  )
  assert_answers(file, case, spans, value, terms, correct)
  if file.has_gradients(case):
    file.assert_gradients(gradients, file.gradients(case))


class System:
  """Their blocks and parameters in this library's own pipeline."""

  def __init__(self, file, folder):
    vocab = folder / 'vocab.txt'
    vocab.write_text('\n'.join(file.input('shared/vocab')), encoding='utf-8')
    self.params = file.params
    self.num_read = file.theirs['reader_beam_size']
    self.corpus = corpus_of(file.input('shared/block_records'), vocab, folder)
    self.lengths = reader_lengths(file.theirs['reader_seq_len'])
    self.retriever = Retriever(
      make_embed(file.config, realm.Realm.embed_queries),
      self.corpus,
      self.lengths,
      snapshot=Snapshot(file.arrays['param:block_emb']),
    )
    self.answerer = Answerer(file.config, self.retriever)

  def examples(self, question: str, answers):
    """The one question, as fine-tuning reads it."""
    questions = [Question(question, tuple(answers))]
    return qa_examples(questions, self.corpus.wordpiece, self.lengths).rows([0])

  def read(self, examples, num_found: int):
    """The batch in which all blocks that are found are read."""
    source = QASource(
      iter([examples]),
      self.retriever,
      tiny.no_refresh(self.corpus.folder, self.retriever),
      num_found,
      num_found,
    )
    batch, _ = source.next_batch(TrainState(jnp.int32(0), self.params, None))
    return batch

  def answer(self, examples, found_ids):
    (answer,) = self.answerer.answer(
      self.params, examples, found_ids[None, : self.num_read]
    )
    return answer


def assert_same_texts(found: TextInputs, expected: TextInputs):
  """Compares what is not padding; their lengths may differ."""
  length = expected.mask.shape[-1]
  assert not np.any(found.mask[..., length:])
  for have, want in zip(found, expected, strict=True):
    np.testing.assert_array_equal(
      (have * found.mask)[..., :length], want * expected.mask
    )


def assert_labels_agree(file, case, batch):
  """Which of the blocks, as far as they are read, hold an answer, and where."""
  answers = batch.answer_ids, batch.answer_lens
  matches = match_answers(batch.joint.token_ids, batch.block_mask, *answers)
  np.testing.assert_array_equal(
    matches.any(axis=(2, 3))[0], file.output(f'{case}/has_answers')
  )
  expected = file.output(f'{case}/reader_correct')
  joint = joint_of(file, case, len(expected))
  length = joint.token_ids.shape[-1]
  right = right_spans(
    batch.joint.token_ids[:, : len(expected), :length],
    batch.block_mask[:, : len(expected), :length],
    *answers,
    file.config.max_span_width,
  )
  np.testing.assert_array_equal(right[0], expected)


def squeezed(text: str) -> str:
  """Without spaces: their decoder sets them by rules of its own."""
  return ''.join(text.split())


@pytest.mark.slow
def test_open_question_answering_from_text(published, tmp_path):
  """From the texts of question and blocks to the answer's."""
  cases = fixtures.pytorch_cases('openqa.npz')
  if not cases:
    pytest.skip('no case in openqa.npz')
  file = published('openqa.npz', embedder='embedder.', reader='reader.')
  system = System(file, tmp_path)
  question = str(file.input('shared/question'))
  for case in cases:
    has_answers = file.has_input(f'{case}/answers')
    answers = file.input(f'{case}/answers') if has_answers else ()
    examples = system.examples(question, map(str, answers))
    found_ids = file.output(f'{case}/retrieved_block_ids')
    batch = system.read(examples, len(found_ids))
    np.testing.assert_array_equal(
      batch.beam_embeds[0], file.arrays['param:block_emb'][found_ids]
    )
    assert_same_texts(batch.question, file.text('shared'))
    assert_same_texts(batch.joint, joint_of(file, case, len(found_ids)))
    if has_answers:
      assert_labels_agree(file, case, batch)
    answer = system.answer(examples, found_ids)
    assert answer.block_id == found_ids[file.output(f'{case}/block_idx')]
    expected = str(file.output(f'{case}/predicted_answer'))
    assert squeezed(answer.text) == squeezed(expected).removeprefix('##')
