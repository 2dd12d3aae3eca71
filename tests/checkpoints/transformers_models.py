"""Run by an interpreter with torch and transformers 4.36, not by pytest.

  python transformers_models.py make FOLDER     random models and what they say
  python transformers_models.py run FOLDER OUT  what the models of FOLDER say

Writes or reads FOLDER/{embedder,encoder,reader,...}, each as save_pretrained
has it, and OUT/<name>.npz (FOLDER itself with make): input_ids and output.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import transformers

CLASSES = {
  'embedder': transformers.RealmEmbedder,
  'query_embedder': transformers.RealmEmbedder,
  'document_embedder': transformers.RealmEmbedder,
  'encoder': transformers.RealmKnowledgeAugEncoder,
  'reader': transformers.RealmReader,
  'scorer': transformers.RealmScorer,
  'openqa': transformers.RealmForOpenQA,
}
CONFIG = {
  'vocab_size': 29,
  'hidden_size': 12,
  'retriever_proj_size': 7,
  'num_hidden_layers': 2,
  'num_attention_heads': 3,
  'num_candidates': 1,
  'intermediate_size': 10,
  'max_position_embeddings': 16,
  'span_hidden_size': 5,
  'max_span_width': 3,
  'reader_beam_size': 1,
  'num_block_records': 11,
  'initializer_range': 0.3,
  'hidden_dropout_prob': 0.0,
  'attention_probs_dropout_prob': 0.0,
  'pad_token_id': 1,
}
IDS = np.array([[2, 17, 5, 3, 28, 11, 6, 9, 3]])


def output(name: str, model: torch.nn.Module) -> np.ndarray:
  """What the tests compare: embeddings, log probabilities or best span."""
  ids = torch.tensor(IDS) % model.config.vocab_size
  with torch.no_grad():
    if name.endswith('embedder'):
      return model(ids).projected_score.numpy()
    if name == 'encoder':
      logits = model(ids, relevance_score=torch.zeros(1, 1)).logits
      return torch.log_softmax(logits, dim=-1).numpy()
    if name == 'reader':
      hidden = model.realm(ids).last_hidden_state
      scores, _, _ = model.qa_outputs(hidden, torch.ones_like(ids))
      return scores.numpy()
    if name == 'openqa':  # how well each block fits the question
      return (model.embedder(ids).projected_score @ model.block_emb.T).numpy()
    query = model.query_embedder(ids).projected_score
    return torch.cat([query, model.embedder(ids).projected_score]).numpy()


def make(folder: Path) -> None:
  torch.manual_seed(0)
  config = transformers.RealmConfig(**CONFIG)
  for name in ('embedder', 'encoder', 'reader', 'scorer', 'openqa'):
    model = CLASSES[name](config).eval()
    if name == 'scorer':
      model.query_embedder = transformers.RealmEmbedder(config).eval()
    for parameter in model.parameters():  # biases and scales, too
      torch.nn.init.normal_(parameter, std=0.3)
    if name == 'openqa':
      torch.nn.init.normal_(model.block_emb)
    for safe, suffix in ((True, ''), (False, '_bin')):
      path = folder / (name + suffix)
      model.save_pretrained(path, safe_serialization=safe)
      words = ''.join(f'w{i}\n' for i in range(5, CONFIG['vocab_size']))
      (path / 'vocab.txt').write_text(
        '[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n' + words
      )
    save(folder, name, model)


def run(folder: Path, out: Path) -> None:
  for path in sorted(folder.iterdir()):
    if path.name in CLASSES:
      model, info = CLASSES[path.name].from_pretrained(
        path, output_loading_info=True
      )
      assert not info['unexpected_keys'], info
      assert not info['missing_keys'], info
      save(out, path.name, model.eval())


def save(out: Path, name: str, model: torch.nn.Module) -> None:
  ids = IDS % model.config.vocab_size
  np.savez(out / f'{name}.npz', input_ids=ids, output=output(name, model))


if __name__ == '__main__':
  if sys.argv[1] == 'make':
    make(Path(sys.argv[2]))
  else:
    run(Path(sys.argv[2]), Path(sys.argv[3]))
