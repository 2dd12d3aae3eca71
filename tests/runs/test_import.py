"""Imported models with an index and a corpus of their own."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
from safetensors.numpy import load_file, save_file

from realm_jax.data.block_records import read_block_records
from realm_jax.data.corpus import Corpus
from realm_jax.errors import UserError
from realm_jax.eval.system import open_system, run_snapshot
from realm_jax.predictor import Predictor
from realm_jax.runs import checkpoints
from realm_jax.runs.ask import ask
from realm_jax.runs.checkpoints import export_checkpoint, import_checkpoint
from realm_jax.train.run_folder import load_run

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def published(tiny_corpus, tmp_path_factory):
  """A folder such as Hugging Face's RealmForOpenQA has, and its embeddings."""
  folder = tmp_path_factory.mktemp('published')
  run = tiny.make_untrained_run(folder / 'run', tiny_corpus, stage='finetune')
  embedder, _, reader = export_checkpoint(
    'hf-realm', str(run), str(folder / 'parts'), console=tiny.quiet()
  )
  corpus = Corpus.open(tiny_corpus)
  embeds = np.random.default_rng(3).normal(
    size=(corpus.num_blocks, tiny.MODEL.embed_dim)
  ).astype(np.float32)  # fmt: skip
  tensors = {'block_emb': embeds}
  for prefix, part in (('embedder', embedder), ('reader', reader)):
    loaded = load_file(part / 'model.safetensors')
    tensors |= {f'{prefix}.{key}': value for key, value in loaded.items()}
  openqa = folder / 'openqa'
  openqa.mkdir()
  save_file(tensors, openqa / 'model.safetensors')
  shutil.copy(reader / 'config.json', openqa)
  # one of the published vocabularies has these line ends
  vocab = (reader / 'vocab.txt').read_text()
  (openqa / 'vocab.txt').write_bytes(vocab.replace('\n', '\r\n').encode())
  records = np.empty(corpus.num_blocks, object)
  records[:] = [corpus.text(i).encode() for i in range(corpus.num_blocks)]
  np.save(openqa / 'block_records.npy', records, allow_pickle=True)
  return openqa, embeds


def rewrite_records(openqa, part):
  """Keeps a part of block_records.npy, as bytes of one width."""
  path = openqa / 'block_records.npy'
  texts = list(read_block_records(path))[part]
  np.save(path, np.array([text.encode() for text in texts]))


def import_published(openqa, tmp_path, **kwargs):
  return import_checkpoint(
    'hf-realm',
    [str(openqa)],
    str(tmp_path / 'run'),
    console=tiny.quiet(),
    **kwargs,
  )


def test_a_published_model_answers_over_its_own_blocks(
  published, tiny_corpus, tmp_path, monkeypatch
):
  openqa, embeds = published
  monkeypatch.setattr(checkpoints, '_ROWS', 5)  # does not divide the blocks
  run = import_published(openqa, tmp_path, corpus=str(tmp_path / 'corpus'))
  own, made = Corpus.open(tiny_corpus), Corpus.open(tmp_path / 'corpus')
  assert made.num_blocks == own.num_blocks
  for block_id in (0, 7, own.num_blocks - 1):
    assert made.text(block_id) == own.text(block_id)
    assert made.title(block_id) == ''
  np.testing.assert_array_equal(
    made.gather(np.arange(5)).body_len, own.gather(np.arange(5)).body_len
  )
  assert made.sentences.num_spans.sum() > 0
  system = open_system(run)
  assert system.corpus.fingerprint == made.fingerprint
  snapshot, _ = run_snapshot(load_run(run), made, system.lengths)
  np.testing.assert_array_equal(snapshot.block_embeds, embeds)
  answer = Predictor.load(run).ask('Where did Ada Quist live?')
  assert answer.text in made.text(answer.block_id)


def test_a_corpus_that_is_there_is_used(published, tiny_corpus, tmp_path):
  openqa, _ = published
  run = import_published(openqa, tmp_path, corpus=str(tiny_corpus))
  found = load_run(run).corpus_fingerprint
  assert found == Corpus.open(tiny_corpus).fingerprint


def test_without_a_corpus_the_embeddings_are_left_out(
  published, tmp_path, capsys
):
  openqa, _ = published
  out = str(tmp_path / 'run')
  import_checkpoint('hf-realm', [str(openqa)], out)
  assert 'block embeddings, which are left out' in ' '.join(
    capsys.readouterr().out.split()
  )
  assert not (tmp_path / 'run' / 'index').exists()


def test_what_does_not_fit_is_said(published, tiny_corpus, tmp_path):
  openqa = tmp_path / 'openqa'
  shutil.copytree(published[0], openqa)
  few = tiny.make_corpus(tmp_path / 'few', tiny.documents()[:9])
  with pytest.raises(UserError, match='vocabulary'):
    import_published(openqa, tmp_path, corpus=str(few))
  rewrite_records(openqa, slice(-1))
  with pytest.raises(UserError, match='a row for each block'):
    import_published(openqa, tmp_path, corpus=str(tmp_path / 'corpus'))
  assert not (tmp_path / 'corpus').exists()  # found before the work
  assert not (tmp_path / 'run').exists()
  (openqa / 'block_records.npy').unlink()
  with pytest.raises(FileNotFoundError, match=r'block_records\.npy'):
    import_published(openqa, tmp_path, corpus=str(tmp_path / 'nowhere'))
  tensors = load_file(openqa / 'model.safetensors')
  del tensors['block_emb']
  save_file(tensors, openqa / 'model.safetensors')
  with pytest.raises(UserError, match='no block embeddings'):
    import_published(openqa, tmp_path, corpus=str(tiny_corpus))
  with pytest.raises(UserError, match=r'expected one of bert, hf-realm'):
    import_checkpoint('orqa', [str(openqa)], str(tmp_path / 'run'))
  with pytest.raises(UserError, match=r'entities is .places.'):
    import_published(openqa, tmp_path, entities='places')
  with pytest.raises(FileNotFoundError, match=r'nowhere\.txt does not exist'):
    import_published(openqa, tmp_path, vocab='nowhere.txt')


def test_a_corpus_of_other_blocks_is_refused(
  published, tiny_corpus, tmp_path, capsys
):
  openqa = tmp_path / 'openqa'
  shutil.copytree(published[0], openqa)
  rewrite_records(openqa, slice(None, None, -1))
  with pytest.raises(UserError, match=r'Block 0 of corpus .* other texts'):
    import_published(openqa, tmp_path, corpus=str(tiny_corpus))
  (openqa / 'block_records.npy').unlink()
  out = str(tmp_path / 'unchecked')
  import_checkpoint('hf-realm', [str(openqa)], out, corpus=str(tiny_corpus))
  assert 'was not checked' in ' '.join(capsys.readouterr().out.split())


def test_a_run_goes_on_with_the_same_files_only(published, tmp_path):
  openqa = tmp_path / 'openqa'
  shutil.copytree(published[0], openqa)
  run = import_published(openqa, tmp_path)
  (source,) = load_run(run).settings['sources']
  assert source['name'] == 'model.safetensors'
  (tmp_path / 'run' / 'manifest.json').unlink()  # as if it had been stopped
  import_published(openqa, tmp_path)
  (tmp_path / 'run' / 'manifest.json').unlink()
  tensors = load_file(openqa / 'model.safetensors')
  tensors['reader.cls.predictions.bias'] += 1
  save_file(tensors, openqa / 'model.safetensors')
  with pytest.raises(UserError, match=r'other settings:\n  settings\.sources'):
    import_published(openqa, tmp_path)


def test_blocks_without_titles_are_shown_by_their_words(
  published, tmp_path, capsys
):
  run = import_published(published[0], tmp_path, corpus=str(tmp_path / 'c'))
  (answer,) = ask(run, ['Where did Ada Quist live?'])
  first = answer.documents[0]
  words = ' '.join(first.text.split()[:3])
  shown = ' '.join(capsys.readouterr().out.split())
  assert f'{first.block_id}: {words}' in shown


def test_only_what_is_needed_is_downloaded(
  published, tiny_corpus, tmp_path, monkeypatch
):
  asked = []

  def local_path(path, also):
    asked.append(also)
    return Path(path)

  monkeypatch.setattr(checkpoints, 'local_path', local_path)
  import_published(published[0], tmp_path / 'a')
  import_published(published[0], tmp_path / 'b', corpus=str(tiny_corpus))
  import_published(published[0], tmp_path / 'c', corpus=str(tmp_path / 'new'))
  assert asked == [(), (), ('block_records.npy',)]
