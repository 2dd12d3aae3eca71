"""Speed and memory of prepare on a large dump: see README.md.

  python experiments/text_quality/run.py --dump enwiki-sample.xml.bz2 \\
    --wikiextractor PYTHON3.10 --vocab vocab.txt --out runs/text_quality

The dump is repeated, its titles numbered, until it is large enough.
"""

import argparse
import bz2
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path


def repeat_dump(source: Path, target: Path, num_bytes: int) -> None:
  """Writes the pages of a dump again and again, plain."""
  with bz2.open(source, 'rt', encoding='utf-8') as stream:
    raw = stream.read()
  first, last = raw.index('<page>'), raw.rindex('</page>') + len('</page>')
  pages = raw[first:last]
  with open(target, 'w', encoding='utf-8') as stream:
    stream.write(raw[:first])
    number = 0
    while stream.tell() < num_bytes:
      stream.write(re.sub('</title>', f' {number}</title>', pages))
      number += 1
    stream.write(raw[last:])


def timed(title: str, *command: str | Path) -> dict[str, float]:
  """Runs a command: wall and processor time, and the largest process."""
  before = resource.getrusage(resource.RUSAGE_CHILDREN)
  start = time.perf_counter()
  subprocess.run(
    [str(part) for part in command],
    check=True,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  wall = time.perf_counter() - start
  after = resource.getrusage(resource.RUSAGE_CHILDREN)
  cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
  result = {
    'wall': wall,
    'cpu': cpu,
    'largest_process_mib': after.ru_maxrss / 1024,
  }
  print(title, {name: round(value, 1) for name, value in result.items()})
  return result


def print_speed(corpus: Path, seconds: dict[str, float]) -> None:
  manifest = json.loads((corpus / 'manifest.json').read_text())
  blocks = manifest['num_blocks']
  print(f'{blocks:,} blocks, {blocks / seconds["cpu"]:,.0f} a second and core')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--dump', type=Path, required=True)
  parser.add_argument('--vocab', type=Path, required=True)
  parser.add_argument('--wikiextractor', help='a Python that has it')
  parser.add_argument('--out', type=Path, default=Path('runs/text_quality'))
  parser.add_argument('--megabytes', type=int, default=210)
  parser.add_argument('--rounds', type=int, default=1)
  parser.add_argument('--workers', type=int, default=1)
  parser.add_argument('--entities', default='none')
  args = parser.parse_args()
  args.out.mkdir(parents=True, exist_ok=True)
  dump = args.out / f'dump-{args.megabytes}.xml'
  if not dump.is_file():
    repeat_dump(args.dump, dump, args.megabytes * 1_000_000)
  prepare = [
    Path(sys.executable).parent / 'realm-jax',
    *('prepare', '--vocab', args.vocab, '--entities', args.entities),
    *('--workers', str(args.workers)),
  ]
  ratios: dict[str, list[float]] = {'wall': [], 'cpu': []}
  for _ in range(args.rounds):
    for name in ('ours', 'theirs', 'json'):
      shutil.rmtree(args.out / name, ignore_errors=True)
    ours = timed('dump to blocks', *prepare, dump, '--out', args.out / 'ours')
    print_speed(args.out / 'ours', ours)
    if not args.wikiextractor:
      continue
    extract = timed(
      'WikiExtractor',
      *(args.wikiextractor, '-m', 'wikiextractor.WikiExtractor', dump),
      *('--json', '--processes', str(args.workers), '-o', args.out / 'json'),
    )
    pack = timed(
      'packing its JSON',
      *(*prepare, args.out / 'json', '--out', args.out / 'theirs'),
    )
    print_speed(args.out / 'theirs', pack)
    for name, values in ratios.items():
      values.append((extract[name] + pack[name]) / ours[name])
  for name, values in ratios.items():
    if values:
      print(
        f'{name}: WikiExtractor and packing take '
        f'{statistics.median(values):.2f} times ours, median of '
        f'{", ".join(f"{value:.2f}" for value in values)}'
      )


if __name__ == '__main__':
  os.environ.setdefault('TOKENIZERS_PARALLELISM', 'false')
  main()
