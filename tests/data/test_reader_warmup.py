import collections
import itertools

import numpy as np
import pytest
import tiny

from realm_jax.data.companions import Companions
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import InverseCloze
from realm_jax.data.reader_warmup import Readings, reader_batch

BATCH = 40


@pytest.fixture(scope='module')
def corpus(tiny_corpus):
  return Corpus.open(tiny_corpus)


@pytest.fixture(scope='module')
def readings(corpus):
  return Readings(corpus, Companions(corpus), tiny.LENGTHS)


@pytest.fixture(scope='module')
def examples(corpus, readings):
  inverse_cloze = InverseCloze(corpus, tiny.LENGTHS)
  made = [
    {**inverse_cloze(number), **readings(number)}
    for number in range(0, 3 * BATCH, 3)
  ]
  return {name: np.stack([e[name] for e in made]) for name in made[0]}


def warmup(examples, corpus, seed=0):
  rng = np.random.default_rng(seed)
  return reader_batch(
    examples, corpus, tiny.LENGTHS, lambda width: rng.random((BATCH, width))
  )


def test_a_reading_has_a_span_and_a_block_with_it_or_without(corpus, readings):
  seen = collections.Counter()
  for number, epoch in itertools.product(range(0, 126, 3), range(6)):
    sentence = corpus.sentences[number]  # ... who lived near ...
    text = corpus.text(sentence.block_id)
    example = readings(number, epoch)
    pieces = example['span_pieces'][: example['num_span_pieces']]
    query = text[sentence.start : sentence.stop]
    blanked = corpus.wordpiece.encode(query).token_ids[pieces].tolist()
    names = {}
    for span in sentence.spans:
      name = text[span.start : span.stop]
      ids = corpus.wordpiece.encode(name).token_ids
      names[tuple(ids[: tiny.LENGTHS.max_masks].tolist())] = name
    name = names[tuple(blanked)]
    block_id = int(example['read_block_id'])
    if block_id == -1:
      seen['null'] += 1
    elif block_id == sentence.block_id:
      seen['own'] += 1
    elif name in corpus.text(block_id):
      seen['companion'] += 1
    else:
      seen['distractor'] += 1
      assert any(other in corpus.text(block_id) for other in names.values())
  # No person stands in two blocks, so there is no companion; a blanked-out
  # town has no distractor, a blanked-out person has one: its town's.
  assert seen.keys() == {'null', 'own', 'distractor'}
  total = sum(seen.values())
  assert seen['own'] / total == pytest.approx(0.5, abs=0.08)
  assert seen['distractor'] / total == pytest.approx(0.35 / 2, abs=0.07)


def test_a_companion_is_read_where_there_is_one(tmp_path):
  rows = [
    {'title': 'A', 'text': 'In 1801 Ada Quist went.'},
    {'title': 'B', 'text': 'Some say that Ada Quist was here in 1801.'},
    {'title': 'C', 'text': 'It was Bela Rook who was here in 1801.'},
  ]
  corpus = Corpus.open(tiny.make_corpus(tmp_path, rows))
  readings = Readings(corpus, Companions(corpus), tiny.LENGTHS)
  blocks = [int(readings(0, epoch)['read_block_id']) for epoch in range(300)]
  shares = {block: blocks.count(block) / 300 for block in (-1, 0, 1, 2)}
  # 1801 has a companion and no distractor, Ada Quist both.
  assert shares[0] == 0
  assert shares[1] == pytest.approx(0.5, abs=0.09)
  assert shares[2] == pytest.approx(0.35 / 2, abs=0.07)
  assert shares[-1] == pytest.approx(0.15 + 0.35 / 2, abs=0.09)


def test_a_reading_depends_on_seed_epoch_and_sentence(corpus, readings):
  again = Readings(corpus, Companions(corpus), tiny.LENGTHS)
  other = Readings(corpus, Companions(corpus), tiny.LENGTHS, seed=1)

  def values(make, epoch):
    return [
      tuple(np.concatenate([np.ravel(v) for v in make(n, epoch).values()]))
      for n in range(20)
    ]

  assert values(readings, 1) == values(again, 1)
  assert values(readings, 1) != values(readings, 2)
  assert values(readings, 1) != values(other, 1)


def test_a_sentence_is_read_beside_its_whole_block(corpus, examples):
  batch = warmup(examples, corpus)
  wordpiece = corpus.wordpiece
  for row in range(BATCH):
    ids = batch.joint.token_ids[row, 0].copy()
    real = batch.mlm_mask[row].astype(bool)
    ids[batch.mlm_positions[row][real]] = batch.mlm_targets[row][real]
    block_id = int(examples['read_block_id'][row])
    query = examples['query_ids'][row, : examples['query_lens'][row]]
    text = corpus.text(block_id) if block_id >= 0 else ''
    body = wordpiece.encode(text).token_ids
    expected = [wordpiece.cls_id, *query, wordpiece.sep_id, *body]
    expected = np.array([*expected, wordpiece.sep_id])
    seen = ids[: len(expected)]
    masked = seen == wordpiece.mask_id  # those for which there was no room
    np.testing.assert_array_equal(seen[~masked], expected[~masked])
    assert masked.sum() == 0 or real.all()
    assert (ids[len(expected) :] == 0).all()


def test_every_target_is_a_blank_and_comes_once(corpus, examples):
  batch = warmup(examples, corpus)
  special = {0, corpus.wordpiece.cls_id, corpus.wordpiece.sep_id}
  for row in range(BATCH):
    real = batch.mlm_mask[row].astype(bool)
    places = batch.mlm_positions[row][real]
    assert len(set(places.tolist())) == len(places)
    blanks = batch.joint.token_ids[row, 0][places]
    assert (blanks == corpus.wordpiece.mask_id).all()
    assert not special & set(batch.mlm_targets[row][real].tolist())
    assert (batch.mlm_positions[row][~real] == 0).all()
  assert batch.mlm_mask.any(axis=1).mean() > 0.9


def test_a_quarter_is_blanked_out_and_most_spans_whole(corpus, examples):
  mask_id = corpus.wordpiece.mask_id
  shares, spans = [], []
  for seed in range(20):
    batch = warmup(examples, corpus, seed)
    blank = batch.joint.token_ids[:, 0] == mask_id
    body = batch.joint.segment_ids[:, 0].astype(bool)
    body &= batch.joint.token_ids[:, 0] != corpus.wordpiece.sep_id
    shares.append(blank[body].mean())
    for row in range(BATCH):
      pieces = examples['span_pieces'][row, : examples['num_span_pieces'][row]]
      spans.append(blank[row, pieces + 1].all())
  assert np.mean(shares) == pytest.approx(0.25, abs=0.03)
  # 0.7, and the rest by chance
  assert 0.68 < np.mean(spans) < 0.85


def test_the_generator_alone_decides(corpus, examples):
  first, again, other = (warmup(examples, corpus, seed) for seed in (1, 1, 2))
  np.testing.assert_array_equal(first.joint.token_ids, again.joint.token_ids)
  assert (first.joint.token_ids != other.joint.token_ids).any()
