"""Hugging Face's REALM in PyTorch, a training step on request: see run.py.

Runs where torch (CPU) and transformers 4.36.2 are installed:

  python experiments/step_speed/rival.py FOLDER THREADS

FOLDER/size.json has the sizes of the model, FOLDER/NUMBER.npz the batches. It
answers a line of JSON with one: {"batch": 0, "head": "all"} gets
{"seconds": 1.5, "cpu_seconds": 2.9, "loss": 10.3}. With head 'all' the
vocabulary is scored at every position, as RealmKnowledgeAugEncoder does; with
'masked' where a token is to be predicted.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from transformers import RealmConfig, RealmKnowledgeAugEncoder, RealmScorer

PARTS = ('query', 'documents', 'joint')


def load_batch(path: Path) -> dict[str, torch.Tensor]:
  with np.load(path) as arrays:
    return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


class Training:
  """Scorer, reader and Adam."""

  def __init__(self, size: dict[str, int]):
    torch.manual_seed(0)
    config = RealmConfig(**size)
    self.scorer = RealmScorer(config).train()
    self.reader = RealmKnowledgeAugEncoder(config).train()
    params = [*self.scorer.parameters(), *self.reader.parameters()]
    self.optimizer = torch.optim.Adam(params, lr=3e-5)

  def step(self, batch: dict[str, torch.Tensor], head: str) -> float:
    """One update; the loss before it."""
    self.optimizer.zero_grad()
    query, documents, joint = (
      {
        'input_ids': batch[f'{part}_token_ids'],
        'attention_mask': batch[f'{part}_mask'],
        'token_type_ids': batch[f'{part}_segment_ids'],
      }
      for part in PARTS
    )
    scores = self.scorer(
      **query,
      **{f'candidate_{name}': value for name, value in documents.items()},
    ).relevance_score
    if head == 'all':
      loss = self.reader(
        **joint,
        relevance_score=scores,
        labels=batch['labels'],
        mlm_mask=batch['label_mask'],
      ).loss
    else:
      loss = self._loss_of_masked(joint, scores, batch)
    loss.backward()
    self.optimizer.step()
    return float(loss)

  def _loss_of_masked(
    self,
    joint: dict[str, torch.Tensor],
    scores: torch.Tensor,
    batch: dict[str, torch.Tensor],
  ) -> torch.Tensor:
    """What the reader computes, with its head at masked positions only."""
    positions, targets = batch['mlm_positions'], batch['mlm_targets']
    batch_size, num_candidates = scores.shape
    flat = {name: value.flatten(0, 1) for name, value in joint.items()}
    hidden = self.reader.realm(**flat)[0]
    hidden = hidden.unflatten(0, (batch_size, num_candidates))
    # [batch, num_candidates, max_masks, hidden_size]
    rows = positions[:, None, :, None].expand(
      -1, num_candidates, -1, hidden.shape[-1]
    )
    logits = self.reader.cls(hidden.gather(2, rows))
    targets = targets[:, None].expand(-1, num_candidates, -1)
    gold = -torch.nn.functional.cross_entropy(
      logits.flatten(0, 2), targets.flatten(), reduction='none'
    ).view(targets.shape)
    joint_gold = scores.log_softmax(-1)[..., None] + gold
    # [batch, max_masks]
    marginal = joint_gold.logsumexp(1)
    mask = batch['mlm_mask'].float()
    return -(marginal * mask).sum() / mask.sum()


def main() -> None:
  folder, threads = Path(sys.argv[1]), int(sys.argv[2])
  torch.set_num_threads(threads)
  training = Training(json.loads((folder / 'size.json').read_text()))
  batches: dict[int, dict[str, torch.Tensor]] = {}
  print(json.dumps({'torch': torch.__version__}), flush=True)
  for line in sys.stdin:
    asked = json.loads(line)
    number = asked['batch']
    if number not in batches:
      batches[number] = load_batch(folder / f'{number}.npz')
    start, start_cpu = time.perf_counter(), time.process_time()
    loss = training.step(batches[number], asked['head'])
    found = {
      'seconds': time.perf_counter() - start,
      'cpu_seconds': time.process_time() - start_cpu,
      'loss': loss,
    }
    print(json.dumps(found), flush=True)


if __name__ == '__main__':
  main()
