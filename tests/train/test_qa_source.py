"""Which blocks count as right in fine-tuning."""

from pathlib import Path

import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.finetune import FinetuneConfig, finetune
from realm_jax.train.loop import LoopConfig
from realm_jax.train.reporting import read_metrics


@pytest.mark.slow
@pytest.mark.parametrize(
  ('labels', 'share'), [('official', 0), ('wordpiece', 1)]
)
def test_case_counts_where_texts_are_labels(
  tiny_corpus, tiny_start, tmp_path, labels, share
):
  rows = [
    {**row, 'answer': [answer.upper() for answer in row['answer']]}
    for row in tiny.questions()
    if row['question'].startswith('Where')
  ]
  questions = tmp_path / 'questions.jsonl'
  tiny.write_lines(questions, rows)
  run = finetune(
    str(tiny_corpus),
    str(tmp_path / 'run'),
    str(tiny_start),
    str(questions),
    config=FinetuneConfig(
      batch_size=4, beam_size=42, num_read=2, block_labels=labels
    ),
    lengths=tiny.LENGTHS,
    loop=LoopConfig(num_steps=2, log_every=1, checkpoint_every=2),
  )
  shares = [record['beam_has_answer'] for record in read_metrics(Path(run))]
  assert shares == [share, share]


def test_unknown_labels_are_refused():
  with pytest.raises(UserError, match="block_labels is 'words'"):
    FinetuneConfig(block_labels='words')
