import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data.blocks import clean_text, pack_blocks
from realm_jax.data.wordpiece import WordPiece
from realm_jax.errors import UserError

WORDPIECE = WordPiece.train(['ab cd ef gh. Ij kl mn op.'] * 3, 200)


def words(count, word='ab'):
  return ' '.join([word] * count)


def bodies(packed):
  return [block.text for block in packed.blocks]


def test_whole_sentences_fill_a_block_to_the_last_piece():
  # 3 special + 1 title + 16 body = 20: sentences of 8 pieces go in by two.
  first, second, third = (f'{words(7, w)}.' for w in ('Ab', 'Cd', 'Ef'))
  packed = pack_blocks('gh', f'{first} {second}\n{third}', WORDPIECE, 20)
  assert bodies(packed) == [f'{first} {second}', third]
  assert [block.block_len for block in packed.blocks] == [20, 12]
  assert [block.position for block in packed.blocks] == [0, 1]
  # One piece more of room for the title is one less for the body.
  longer = pack_blocks('gh gh', f'{first} {second}\n{third}', WORDPIECE, 20)
  assert bodies(longer) == [first, second, third]


def test_sentence_ranges_are_in_characters_of_the_block():
  first, second, third = 'Ab cd.', 'Ef gh.', 'Ij kl.'
  packed = pack_blocks('', f'{first} {second}\n{third}', WORDPIECE, 16)
  for block in packed.blocks:
    cut = [block.text[start:stop] for start, stop in block.sentences]
    assert cut == [s for s in (first, second, third) if s in block.text]


def test_a_sentence_longer_than_a_block_is_cut_at_a_word_and_counted():
  packed = pack_blocks('', f'{words(30)}. Cd.', WORDPIECE, 16)
  assert packed.num_cut_sentences == 1
  assert [len(block.token_ids) for block in packed.blocks] == [13, 13, 7]
  assert bodies(packed) == [words(13), words(13), f'{words(4)}. Cd.']


def test_a_word_longer_than_a_block_is_cut_inside():
  word = 'zqxjkvw' * 12  # 84 letters that the vocabulary never saw together
  packed = pack_blocks('', f'Ab {word} cd.', WORDPIECE, 16)
  assert ''.join(bodies(packed)).replace(' ', '') == f'Ab{word}cd.'
  for block in packed.blocks:
    assert block.block_len <= 16
    np.testing.assert_array_equal(
      block.token_ids, WORDPIECE.encode(block.text).token_ids
    )


def test_a_cut_goes_before_the_word_that_does_not_fit_whole():
  assert len(WORDPIECE.encode('zqx').token_ids) == 3
  packed = pack_blocks('', words(9, 'zqx'), WORDPIECE, 16)  # 13 for the body
  assert bodies(packed) == [words(4, 'zqx'), words(4, 'zqx'), 'zqx']


def test_a_character_of_several_pieces_is_never_cut():
  jamo = '\u1112\u1161\u11ab'  # the three pieces of one syllable
  vocab = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', jamo[0]]
  wordpiece = WordPiece([*vocab, *(f'##{c}' for c in jamo)])
  packed = pack_blocks('', '\ud55c' * 9, wordpiece, 16)
  assert bodies(packed) == ['\ud55c' * 4, '\ud55c' * 4, '\ud55c']
  assert [len(block.token_ids) for block in packed.blocks] == [12, 12, 3]


def test_an_absurd_title_is_cut_to_a_quarter_of_the_block():
  packed = pack_blocks(words(50), 'Ab cd.', WORDPIECE, 20)
  assert packed.title_was_cut
  assert len(packed.blocks[0].title_token_ids) == 4
  assert packed.blocks[0].title == words(50)
  assert not pack_blocks(words(4), 'Ab cd.', WORDPIECE, 20).title_was_cut


@pytest.mark.parametrize('text', ['', '\u200b', '\u0301'])
def test_text_without_pieces_gives_no_block(text):
  assert pack_blocks('ab', text, WORDPIECE).blocks == []


def test_too_small_a_block_is_refused():
  with pytest.raises(UserError, match='block_len is 9, expected at least 16'):
    pack_blocks('', 'Ab.', WORDPIECE, 9)


@given(
  title=st.text(max_size=30),
  text=st.text(alphabet='aBé日 .!?\n\u0301한-', max_size=300)
  | st.text(max_size=200),
  block_len=st.integers(16, 40),
)
def test_blocks_hold_the_article_and_encode_to_their_ids(
  title, text, block_len
):
  text = clean_text(text)
  packed = pack_blocks(title, text, WORDPIECE, block_len)
  position = 0
  for block in packed.blocks:
    assert 0 < block.block_len <= block_len
    np.testing.assert_array_equal(
      block.token_ids, WORDPIECE.encode(block.text).token_ids
    )
    position = text.index(block.text, position) + len(block.text)
    assert block.sentences[0][0] == 0
    assert block.sentences[-1][1] == len(block.text)
  ids = [block.token_ids for block in packed.blocks]
  if packed.num_cut_sentences == 0 and ids:
    np.testing.assert_array_equal(
      np.concatenate(ids), WORDPIECE.encode(text).token_ids
    )


def test_clean_text_knows_all_white_space():
  for code in (*range(0x3100), 0xD800, 0xDFFF, 0xFEFF):
    text = f'a{chr(code)}b'
    if chr(code) not in '\r\n':
      whole = text.replace(chr(code), '\ufffd') if code >> 11 == 27 else text
      assert clean_text(text) == ' '.join(whole.split())


def test_clean_text_makes_white_space_uniform():
  text = ' a\xa0 b\t\n\r\n  \nc\u2003d \ud83d '
  assert clean_text(text) == 'a b\nc d \ufffd'
