"""Labels of blocks: how the two rules differ, and what they cost.

python experiments/answer_labels/run.py disagree --corpus C --questions F...
python experiments/answer_labels/run.py step --corpus C --questions F

See README.md beside this file.
"""

import argparse
import collections
import itertools
import json
import statistics
import tempfile
import time
import unicodedata
from pathlib import Path

import jax
import numpy as np

from realm_jax.bench.timing import machine
from realm_jax.data.batches import Batches
from realm_jax.data.corpus import Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.qa import Question, load_questions
from realm_jax.data.qa_examples import num_answers_of, qa_examples
from realm_jax.data.text_labels import find_text_labels
from realm_jax.index.retriever import Retriever
from realm_jax.index.snapshot import Snapshot
from realm_jax.models.encoder import EncoderConfig
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import (
  Realm,
  RealmConfig,
  init_params,
  split_embedders,
)
from realm_jax.refresh.refresher import Refresher
from realm_jax.runs.finetune import FinetuneConfig
from realm_jax.train.optimizer import OptimizerConfig, make_optimizer
from realm_jax.train.qa_source import QASource, blocks_with_answer
from realm_jax.train.state import create_state
from realm_jax.train.step import make_finetune_step

LENGTHS = Lengths(query_len=32, document_len=288)
_BLOCKS_AT_A_TIME = 512


def wordpiece_labels(corpus: Corpus, examples) -> np.ndarray:
  """[num_questions, num_blocks] bool, by the function that training uses."""
  found = np.zeros((len(examples.question_lens), corpus.num_blocks), bool)
  for start in range(0, corpus.num_blocks, _BLOCKS_AT_A_TIME):
    # The last blocks repeat, so that every call has one shape.
    ids = np.arange(start, start + _BLOCKS_AT_A_TIME)
    blocks = corpus.gather(np.minimum(ids, corpus.num_blocks - 1))
    stop = min(start + _BLOCKS_AT_A_TIME, corpus.num_blocks)
    for row in range(len(found)):
      has = blocks_with_answer(
        blocks.body_ids[None],
        blocks.body_len[None],
        examples.answer_ids[row : row + 1],
        examples.answer_lens[row : row + 1],
      )
      found[row, start:stop] = np.asarray(has)[0, : stop - start]
  return found


def official_only(question: Question, text: str, corpus: Corpus) -> str:
  """Why a block holds an answer's letters, but no answer's wordpieces."""
  here = [a for a in question.answers if a in text]
  lens = [len(corpus.wordpiece.encode(a).token_ids) for a in here]
  if min(lens) > 10:
    return 'longer than 10 wordpieces'
  pieces = set(corpus.wordpiece.encode(text).token_ids.tolist())
  whole = [
    set(corpus.wordpiece.encode(a).token_ids.tolist()) <= pieces for a in here
  ]
  if not any(whole):
    return 'inside a word'
  return 'cut into other pieces'


def wordpiece_only(question: Question, text: str) -> str:
  """Why a block holds an answer's wordpieces, but not its letters."""

  def plain(value: str) -> str:
    value = unicodedata.normalize('NFD', value)
    return ''.join(c for c in value if not unicodedata.combining(c))

  if any(a.lower() in text.lower() for a in question.answers):
    return 'case'
  if any(plain(a).lower() in plain(text).lower() for a in question.answers):
    return 'accents'
  joined = ''.join(plain(text).lower().split())
  if any(''.join(plain(a).lower().split()) in joined for a in question.answers):
    return 'spaces'
  return 'other'


def disagree(args: argparse.Namespace) -> dict:
  """Both rules on the same questions and all blocks of a corpus."""
  corpus = Corpus.open(args.corpus)
  questions = [
    question
    for path in args.questions
    for question in itertools.islice(load_questions(path), args.num_questions)
    if not question.is_regex
  ]
  examples = qa_examples(
    questions, corpus.wordpiece, LENGTHS, num_answers_of(questions)
  )
  answers = [question.answers for question in questions]
  start = time.perf_counter()
  labels = find_text_labels(corpus, answers)
  automaton_seconds = time.perf_counter() - start
  official = np.zeros((len(questions), corpus.num_blocks), bool)
  for row in range(len(questions)):
    official[row, labels.blocks(row)] = True
  start = time.perf_counter()
  texts = [corpus.text(i) for i in range(corpus.num_blocks)]
  plain = np.array(
    [[any(a in text for a in own) for text in texts] for own in answers]
  )
  loop_seconds = time.perf_counter() - start
  pieces = wordpiece_labels(corpus, examples)
  kinds: dict[str, collections.Counter] = {
    'official only': collections.Counter(),
    'wordpiece only': collections.Counter(),
  }
  shown = collections.defaultdict(list)
  for row, block in zip(*np.nonzero(official != pieces), strict=True):
    question, text = questions[row], texts[block]
    if official[row, block]:
      side, kind = 'official only', official_only(question, text, corpus)
    else:
      side, kind = 'wordpiece only', wordpiece_only(question, text)
    kinds[side][kind] += 1
    if len(shown[side, kind]) < 3:
      shown[side, kind].append(
        [question.question, list(question.answers[:3]), int(block)]
      )
  for (side, kind), rows in shown.items():
    for row in rows:
      print(side, '|', kind, '|', *row)
  return {
    'questions': len(questions),
    'blocks': corpus.num_blocks,
    'equal_to_plain_loop': bool((official == plain).all()),
    'seconds': {'automaton': automaton_seconds, 'plain loop': loop_seconds},
    'pairs': {
      'both': int((official & pieces).sum()),
      'official only': int((official & ~pieces).sum()),
      'wordpiece only': int((pieces & ~official).sum()),
    },
    'kinds': {side: dict(counts) for side, counts in kinds.items()},
    'questions_with_a_right_block': {
      'official': int(official.any(axis=1).sum()),
      'wordpiece': int(pieces.any(axis=1).sum()),
    },
  }


def step(args: argparse.Namespace) -> dict:
  """A step at the original's small size, and the labels alone."""
  corpus = Corpus.open(args.corpus)
  questions = [q for q in load_questions(args.questions[0]) if not q.is_regex]
  examples = qa_examples(
    questions, corpus.wordpiece, LENGTHS, num_answers_of(questions)
  )
  config = FinetuneConfig(batch_size=args.batch_size)
  model = RealmConfig(
    EncoderConfig(
      num_layers=2,
      hidden_size=128,
      num_heads=2,
      feed_forward_size=512,
      vocab_size=corpus.wordpiece.size,
    ),
    share_embedders=False,
  )
  model, params = split_embedders(model, init_params(model, jax.random.key(0)))
  embeds = np.random.default_rng(0).normal(size=(corpus.num_blocks, 128))
  retriever = Retriever(
    make_embed(model, Realm.embed_queries),
    corpus,
    LENGTHS,
    snapshot=Snapshot(embeds.astype(np.float32)),
  )
  with tempfile.TemporaryDirectory() as folder:
    source = QASource(
      Batches(range(len(questions)), examples, config.batch_size, 0),
      retriever,
      Refresher(Path(folder), retriever, None, 'off'),
      config.beam_size,
      config.num_read,
    )
    optimizer, _ = make_optimizer(
      OptimizerConfig(1e-5).for_stage(1000, config.frozen, params), params
    )
    state = create_state(params, optimizer)
    run = make_finetune_step(model, optimizer)
    times = collections.defaultdict(list)
    for number in range(args.rounds + 4):  # the first ones compile
      start, start_cpu = time.perf_counter(), time.process_time()
      batch, _ = source.next_batch(state)
      jax.block_until_ready(batch)
      made = time.perf_counter()
      state, metrics = run(state, batch, jax.random.key(0))
      jax.block_until_ready((state, metrics))
      if number >= 4:
        times['step'].append(time.perf_counter() - start)
        times['step, CPU'].append(time.process_time() - start_cpu)
        times['batch'].append(made - start)
      # What the step has just labelled, once more, alone.
      ids = np.random.default_rng(number).integers(
        corpus.num_blocks, size=(config.batch_size, config.beam_size)
      )
      blocks = corpus.gather(ids)
      start, start_cpu = time.perf_counter(), time.process_time()
      jax.block_until_ready(
        blocks_with_answer(
          blocks.body_ids,
          blocks.body_len,
          batch.answer_ids,
          batch.answer_lens,
        )
      )
      if number >= 4:
        times['labels'].append(time.perf_counter() - start)
        times['labels, CPU'].append(time.process_time() - start_cpu)
  median = {name: statistics.median(values) for name, values in times.items()}
  return {
    'machine': machine(),
    'batch_size': config.batch_size,
    'beam_size': config.beam_size,
    'blocks': corpus.num_blocks,
    'joint_len': batch.joint.token_ids.shape[-1],
    'body_ids': list(blocks.body_ids.shape),
    'median_seconds': median,
    'cpu_seconds_a_question': median['step, CPU'] / config.batch_size,
    'labels_share': median['labels'] / median['step'],
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('what', choices=('disagree', 'step'))
  parser.add_argument('--corpus', required=True)
  parser.add_argument('--questions', nargs='+', required=True)
  parser.add_argument('--num-questions', type=int, default=250, help='a file')
  parser.add_argument('--batch-size', type=int, default=8)
  parser.add_argument('--rounds', type=int, default=10)
  args = parser.parse_args()
  print(json.dumps({'disagree': disagree, 'step': step}[args.what](args)))


if __name__ == '__main__':
  main()
