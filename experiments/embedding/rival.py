"""Hugging Face's RealmEmbedder in PyTorch, timed on request: see run.py.

Runs where torch (CPU) and transformers 4.36.2 are installed:

  python experiments/embedding/rival.py FOLDER THREADS

makes the model, leaves it in FOLDER/model for the other side, and then answers
a line of JSON with one: {"texts": "real", "batch": 32, "sorted": true} gets
{"seconds": ..., "places": ...}. Texts are in FOLDER/full.npz and real.npz:
token_ids and segment_ids [num_texts, longest], lens [num_texts].
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import RealmConfig, RealmEmbedder


def make_model(folder: Path) -> RealmEmbedder:
  """MiniLM's size, new weights."""
  torch.manual_seed(0)
  config = RealmConfig(
    hidden_size=384,
    num_hidden_layers=6,
    num_attention_heads=12,
    intermediate_size=1536,
    retriever_proj_size=128,
  )
  model = RealmEmbedder(config).eval()
  model.save_pretrained(folder / 'model', safe_serialization=True)
  return model


def embed(
  model: RealmEmbedder,
  texts: dict[str, np.ndarray],
  batch: int,
  by_length: bool,
) -> tuple[np.ndarray, int]:
  """Embeddings, and the places computed: batches padded to their longest."""
  lens = texts['lens']
  order = np.argsort(lens, kind='stable') if by_length else np.arange(len(lens))
  embeds = np.empty((len(lens), 128), np.float32)
  places = 0
  for start in range(0, len(order), batch):
    rows = order[start : start + batch]
    length = int(lens[rows].max())
    mask = np.arange(length) < lens[rows, None]
    inputs = {
      'input_ids': texts['token_ids'][rows, :length],
      'token_type_ids': texts['segment_ids'][rows, :length],
      'attention_mask': mask,
    }
    with torch.no_grad():
      found = model(
        **{
          name: torch.from_numpy(array.astype(np.int64))
          for name, array in inputs.items()
        }
      )
    embeds[rows] = found.projected_score.numpy()
    places += mask.size
  return embeds, places


def main() -> None:
  folder, threads = Path(sys.argv[1]), int(sys.argv[2])
  torch.set_num_threads(threads)
  model = make_model(folder)
  texts = {
    name: dict(np.load(folder / f'{name}.npz')) for name in ('full', 'real')
  }
  first = {name: array[:4] for name, array in texts['real'].items()}
  np.save(folder / 'first.npy', embed(model, first, 4, False)[0])
  print(json.dumps({'torch': torch.__version__}), flush=True)
  for line in sys.stdin:
    asked = json.loads(line)
    chosen = texts[asked['texts']]
    if 'limit' in asked:
      chosen = {name: array[: asked['limit']] for name, array in chosen.items()}
    start = time.perf_counter()
    _, places = embed(model, chosen, asked['batch'], asked['sorted'])
    seconds = time.perf_counter() - start
    print(json.dumps({'seconds': seconds, 'places': places}), flush=True)


if __name__ == '__main__':
  main()
