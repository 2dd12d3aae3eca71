import pytest
import tiny

from realm_jax.errors import UserError
from realm_jax.runs.almanac_corpus import AlmanacConfig, prepare_almanac
from realm_jax.runs.quickstart import quickstart
from realm_jax.runs.quickstart_report import summarise


def test_another_almanac_is_not_taken_for_the_one_wanted(tmp_path):
  config = AlmanacConfig(num_documents=120, vocab_size=600)
  prepare_almanac(tmp_path, config, tiny.quiet())
  prepare_almanac(tmp_path, config, tiny.quiet())
  other = AlmanacConfig(num_documents=180, vocab_size=600)
  with pytest.raises(UserError, match='120 documents, expected seed 0 and 180'):
    prepare_almanac(tmp_path, other, tiny.quiet())


def test_no_seed_is_refused_before_anything_is_made(tmp_path):
  with pytest.raises(UserError, match='seeds is 0'):
    quickstart(str(tmp_path / 'out'), seeds=0)
  assert not (tmp_path / 'out').exists()


def test_differences_are_of_each_seed():
  report = summarise(
    [
      {'realm': {'em': 0.5, 'x': 1.0}, 'ict_only': {'em': 0.25}},
      {'realm': {'em': 0.75, 'x': 1.0}, 'ict_only': {'em': 0.0}},
    ]
  )
  assert report['seeds'] == [0, 1]
  difference = report['realm_over_ict_only']
  assert difference.keys() == {'em'}
  assert difference['em']['by_seed'] == [0.25, 0.75]
  assert difference['em']['mean'] == 0.5
  assert difference['em']['standard_error'] == pytest.approx(0.25)
