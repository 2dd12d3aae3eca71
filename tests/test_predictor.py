"""Asking from Python and on the screen: how many documents are read."""

import pytest
import tiny

from realm_jax import Predictor
from realm_jax.errors import UserError
from realm_jax.runs.ask import ask

NUM_BLOCKS = 42


@pytest.fixture(scope='module')
def run(tmp_path_factory, tiny_corpus):
  """Folder of a run that counts as fine-tuned, with new parameters."""
  return str(
    tiny.make_untrained_run(
      tmp_path_factory.mktemp('qa'), tiny_corpus, stage='finetune'
    )
  )


@pytest.mark.slow
@pytest.mark.parametrize('num_read', [1, 3, NUM_BLOCKS])
def test_as_many_documents_are_read_as_told(run, num_read):
  answer = Predictor.load(run, num_read=num_read).ask('Where is it?')
  assert len(answer.documents) == num_read


@pytest.mark.parametrize('num_read', [-1, 0, NUM_BLOCKS + 1, 100_000])
def test_more_or_fewer_documents_than_there_are_blocks_are_refused(
  run, num_read
):
  message = f'num_read is {num_read}, expected 1 to 42'
  with pytest.raises(UserError, match=message):
    Predictor.load(run, num_read=num_read)
  with pytest.raises(UserError, match=message):
    ask(run, ['Where is it?'], num_read=num_read, console=tiny.quiet())
