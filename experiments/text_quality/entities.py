"""Speed of entity taggers, and the rules against spaCy: see README.md.

  python experiments/text_quality/entities.py --dump enwiki-sample.xml.bz2

Sentences are drawn from the whole dump; both taggers read the same ones, each
as a text of its own. An entity is found where both its ends are spaCy's.
"""

import argparse
import random
import time
from collections.abc import Sequence
from pathlib import Path

from realm_jax.data.dates import find_dates
from realm_jax.data.packing import make_tagger
from realm_jax.data.rule_tagger import ENTITY
from realm_jax.data.sentences import split_sentences
from realm_jax.data.sources import read_source
from realm_jax.data.spans import Span, merge_spans

Found = list[list[Span]]


def draw_sentences(dump: Path, count: int, seed: int) -> list[str]:
  """Sentences of 5 words or more, in the order of the dump."""
  sentences = [
    article.text[start:stop]
    for article in read_source(dump)
    for start, stop in split_sentences(article.text)
    if article.text.count(' ', start, stop) >= 4
  ]
  drawn = sorted(random.Random(seed).sample(range(len(sentences)), count))
  return [sentences[i] for i in drawn]


def timed(name: str, sentences: Sequence[str]) -> Found:
  """What a tagger finds; prints its speed, in processor time."""
  tagger = make_tagger(name)
  assert tagger is not None
  tagger.tag(sentences[:50])  # what is only done once
  start = time.process_time()
  found = tagger.tag(sentences)
  seconds = time.process_time() - start
  total = sum(map(len, found))
  print(
    f'{tagger.name}: {total:,} spans in {seconds:.2f} s of processor time, '
    f'{total / seconds:,.0f} spans and {len(sentences) / seconds:,.0f} '
    'sentences a second and core'
  )
  return found


def names_only(sentences: Sequence[str], found: Found) -> Found:
  """Without numbers, and without what overlaps a date, which goes first."""
  kept = []
  for sentence, spans in zip(sentences, found, strict=True):
    dates = find_dates(sentence)
    merged = merge_spans(dates, [s for s in spans if s.kind != 'NUMBER'])
    kept.append([span for span in merged if span not in dates])
  return kept


def ends(found: Found) -> set[tuple[int, int, int]]:
  return {(i, s.start, s.stop) for i, row in enumerate(found) for s in row}


def report(rules: Found, spacy: Found) -> None:
  """Prints precision, recall and F1, and recall by kind."""
  ours, theirs = ends(rules), ends(spacy)
  both = len(ours & theirs)
  precision, recall = both / len(ours), both / len(theirs)
  f1 = 2 * both / (len(ours) + len(theirs))
  print(
    f'{len(ours):,} entities by rule, {len(theirs):,} by spaCy, {both:,} alike:'
    f' precision {precision:.3f}, recall {recall:.3f}, F1 {f1:.3f}'
  )
  overlapping = sum(
    any(s.start < t.stop and t.start < s.stop for t in row)
    for ours_here, row in zip(rules, spacy, strict=True)
    for s in ours_here
  )
  print(f'{overlapping / len(ours):.3f} of those by rule overlap one of spaCy')
  kinds = sorted({span.kind for row in spacy for span in row})
  for kind in kinds:
    of_kind = ends([[s for s in row if s.kind == kind] for row in spacy])
    share = len(of_kind & ours) / len(of_kind)
    print(f'  {kind}: {share:.3f} of {len(of_kind):,} found')


def show(
  sentences: Sequence[str], rules: Found, spacy: Found, count: int
) -> None:
  """Prints sentences on which the two disagree."""
  numbers = [
    i
    for i, (ours, theirs) in enumerate(zip(rules, spacy, strict=True))
    if ends([ours]) != ends([theirs])
  ]
  for i in random.Random(0).sample(numbers, min(count, len(numbers))):
    text = sentences[i]
    print(f'\n{text}')
    for name, spans, others in (
      ('rules', rules[i], spacy[i]),
      ('spaCy', spacy[i], rules[i]),
    ):
      alone = ends([spans]) - ends([others])
      print(f'  {name} alone:', [text[a:b] for _, a, b in sorted(alone)])


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--dump', type=Path, required=True)
  parser.add_argument('--sentences', type=int, default=2000)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--show', type=int, default=0, help='disagreements')
  args = parser.parse_args()
  sentences = draw_sentences(args.dump, args.sentences, args.seed)
  rules, spacy = (
    names_only(sentences, timed(name, sentences)) for name in ('rules', 'spacy')
  )
  assert {span.kind for row in rules for span in row} == {ENTITY}
  report(rules, spacy)
  show(sentences, rules, spacy, args.show)


if __name__ == '__main__':
  main()
