"""Embedding documents, timed in turn beside the machine's matrix products.

What is timed is what a refresh does: tokens are gathered, sorted by length, put
together on the host and embedded on the devices, in batches padded to a few
lengths. Documents are of full length, or as long as real ones are.
"""

import dataclasses
import statistics
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from realm_jax.bench.floors import PRODUCT, READ, Probes
from realm_jax.bench.timing import machine, time_in_turn
from realm_jax.costs.embedding import embedding_flops
from realm_jax.data.corpus import BlockTokens, Corpus
from realm_jax.data.examples import Lengths
from realm_jax.data.featurize import PAIR_SPECIALS
from realm_jax.data.wordpiece import SPECIAL_TOKENS, WordPiece
from realm_jax.models.inference import make_embed
from realm_jax.models.realm import Realm, RealmConfig, init_params
from realm_jax.refresh.embed_blocks import BlockTable, fill_table
from realm_jax.refresh.throughput import Throughput
from realm_jax.sharding import Layout
from realm_jax.types import NULL_BLOCK_ID

FULL, REAL = 'full length', 'real lengths'
# Of made-up lengths: blocks that are packed full, but for a last sentence that
# did not fit; the others are ends of articles, of any length.
_FULL_SHARE, _FULL_FROM = 0.6, 0.85
_SHORTEST = 16
_TITLE_LEN = 4


class MadeUpBlocks:
  """Blocks of given lengths and random wordpieces; embedded as a Corpus is.

  Attributes:
    num_blocks: how many.
    block_lens: [num_blocks] int32, special tokens included.
    wordpiece: of special tokens alone.
  """

  def __init__(self, block_lens: np.ndarray, vocab_size: int, seed: int = 0):
    """Draws the wordpieces."""
    self.num_blocks = len(block_lens)
    self.block_lens = block_lens.astype(np.int32)
    self.wordpiece = WordPiece([*SPECIAL_TOKENS, 'a'])
    longest = int(block_lens.max())
    self._token_ids = np.random.default_rng(seed).integers(
      min(len(SPECIAL_TOKENS), vocab_size - 1),
      vocab_size,
      (self.num_blocks, longest),
      np.int32,
    )

  def gather(self, block_ids: np.ndarray) -> BlockTokens:
    """As Corpus has it; block_ids are [num_ids]."""
    lens = np.where(
      block_ids == NULL_BLOCK_ID, 0, self.block_lens[block_ids] - PAIR_SPECIALS
    )
    title_lens = np.minimum(lens, _TITLE_LEN)
    tokens = self._token_ids[block_ids]
    return BlockTokens(
      tokens[:, :_TITLE_LEN], title_lens, tokens, lens - title_lens
    )


def made_up_lens(num_blocks: int, document_len: int) -> np.ndarray:
  """[num_blocks] int32; lengths such as packing articles into blocks leaves."""
  rng = np.random.default_rng(0)
  full = rng.uniform(_FULL_FROM * document_len, document_len + 1, num_blocks)
  rest = rng.uniform(
    min(_SHORTEST, document_len - 1), document_len + 1, num_blocks
  )
  is_full = rng.random(num_blocks) < _FULL_SHARE
  return np.where(is_full, full, rest).astype(np.int32)


def sampled_lens(corpus: Corpus, num_blocks: int) -> np.ndarray:
  """[num_blocks] int32; lengths of as many of a corpus's blocks, evenly."""
  lens = np.sort(corpus.block_lens)
  places = (np.arange(num_blocks) + 0.5) / num_blocks * len(lens)
  return lens[places.astype(np.int64)]


def measure_embedding(
  model: RealmConfig,
  lengths: Lengths,
  real_lens: np.ndarray,
  rounds: int,
  layout: Layout | None = None,
) -> dict[str, Any]:
  """Times both kinds of documents in turn with the machine's own rates.

  Args:
    model: whose document embedder is timed, with new parameters.
    lengths: document_len and multiple are used.
    real_lens: [num_blocks] of blocks; there are as many of full length.
    rounds: times that each is measured.
    layout: of a mesh whose devices share the work; None for one device.

  Returns:
    JSON values: 'machine'; 'rates', operations and bytes a second of one
    device, or of all of a CPU; 'parts', for FULL and REAL seconds,
    documents_per_second, tokens_per_second, padding_share, flops_per_second
    and ratio_to_products (of all devices); medians of rounds, ratios of the
    rounds' own.
  """
  device = jax.local_devices()[0]
  num_devices = 1 if layout is None else layout.mesh.size
  shared = 1 if device.platform == 'cpu' else num_devices
  probes = Probes(device.platform, model.encoder.dtype)
  params = init_params(model, jax.random.key(0))
  embed = make_embed(model, Realm.embed_documents, layout)
  vocab_size = model.encoder.vocab_size
  full_lens = np.full_like(real_lens, lengths.document_len)
  calls = {
    name: _Embedding(
      embed, params, MadeUpBlocks(lens, vocab_size), lengths, layout
    )
    for name, lens in ((FULL, full_lens), (REAL, real_lens))
  }
  seconds = time_in_turn({**probes.calls, **calls}, rounds)
  both = list(zip(seconds[PRODUCT], seconds[READ], strict=True))
  rates = [shared * probes.rates(*pair)['flops_per_second'] for pair in both]
  return {
    'machine': {**machine(), 'rounds': rounds, 'num_devices': num_devices},
    'lengths': dataclasses.asdict(lengths),
    'num_blocks': len(real_lens),
    'rates': probes.rates(
      statistics.median(seconds[PRODUCT]), statistics.median(seconds[READ])
    ),
    'parts': {
      name: _figures(call.throughput, model, seconds[name], rates)
      for name, call in calls.items()
    },
  }


class _Embedding:
  """A call that embeds all of some blocks.

  Attributes:
    throughput: of the last call.
  """

  def __init__(
    self,
    embed: Callable,
    params: Any,
    blocks: MadeUpBlocks,
    lengths: Lengths,
    layout: Layout | None,
  ):
    self._args = embed, params, blocks, lengths
    self._layout = layout
    self.throughput = Throughput()

  def __call__(self) -> np.ndarray:
    self.throughput = Throughput()
    table = BlockTable(self._args[2])
    fill_table(
      table, *self._args, layout=self._layout, throughput=self.throughput
    )
    return table.embeds()


def _figures(
  throughput: Throughput,
  model: RealmConfig,
  seconds: list[float],
  rates: list[float],
) -> dict[str, float]:
  """What the times of some blocks mean beside the rounds' matrix products."""
  flops = embedding_flops(model, throughput.num_texts)
  median = statistics.median(seconds)
  return {
    'seconds': median,
    'documents_per_second': throughput.num_blocks / median,
    'tokens_per_second': throughput.num_tokens / median,
    'padding_share': throughput.padding_share,
    'flops_per_second': flops / median,
    'ratio_to_products': statistics.median(
      flops / own / rate for own, rate in zip(seconds, rates, strict=True)
    ),
  }
