"""MiniLM's hidden states here and in PyTorch: see README.md beside this file.

  OLD/bin/python run.py theirs --minilm FOLDER --sentences FILE --out theirs.npz
  python run.py compare --minilm FOLDER --theirs theirs.npz

The first needs torch and transformers, the second realm_jax.
"""

import argparse
from pathlib import Path

import numpy as np

MAX_LENGTH = 128


def theirs(minilm: Path, sentences: Path, out: Path) -> None:
  """Hidden states of all positions, by transformers."""
  import torch
  import transformers

  tokenizer = transformers.BertTokenizer(str(minilm / 'vocab.txt'))
  model = transformers.BertModel.from_pretrained(minilm).eval()
  lines = sentences.read_text(encoding='utf-8').splitlines()
  batch = tokenizer(
    lines,
    padding=True,
    truncation=True,
    max_length=MAX_LENGTH,
    return_tensors='pt',
  )
  with torch.no_grad():
    hidden = model(**batch).last_hidden_state.numpy()
  np.savez(
    out,
    token_ids=batch['input_ids'].numpy(),
    mask=batch['attention_mask'].numpy(),
    segment_ids=batch['token_type_ids'].numpy(),
    hidden=hidden,
  )
  print(f'{len(lines)} sentences, {int(batch["attention_mask"].sum())} pieces')


def compare(minilm: Path, path: Path) -> None:
  """The largest deviation of ours over all real positions."""
  import dataclasses

  import jax

  from realm_jax.checkpoints.bert import encoder_config_from, load_bert
  from realm_jax.models.encoder import Encoder
  from realm_jax.models.realm import RealmConfig, init_params
  from realm_jax.types import TextInputs

  encoder = dataclasses.replace(encoder_config_from(minilm), dropout_rate=0.0)
  config = RealmConfig(encoder)
  params = load_bert(minilm, config, init_params(config, jax.random.key(0)))
  with np.load(path) as arrays:
    inputs = TextInputs(
      *(
        arrays[name].astype(np.int32)
        for name in ('token_ids', 'mask', 'segment_ids')
      )
    )
    expected, real = arrays['hidden'], arrays['mask'].astype(bool)
  found = jax.jit(Encoder(config.encoder).apply)(
    {'params': params['embedder']['encoder']}, inputs
  )
  deviation = np.abs(np.asarray(found) - expected)[real]
  print(
    f'largest deviation {deviation.max():.2e}, mean {deviation.mean():.2e}, of '
    f'states up to {np.abs(expected[real]).max():.1f}'
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('what', choices=('theirs', 'compare'))
  parser.add_argument('--minilm', type=Path, required=True)
  parser.add_argument('--sentences', type=Path)
  parser.add_argument('--theirs', type=Path)
  parser.add_argument('--out', type=Path)
  args = parser.parse_args()
  if args.what == 'theirs':
    theirs(args.minilm, args.sentences, args.out)
  else:
    compare(args.minilm, args.theirs)


if __name__ == '__main__':
  main()
