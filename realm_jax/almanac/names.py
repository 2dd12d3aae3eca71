"""Invented names, composed of shared parts and never given twice.

A place or a surname is a stem and an ending ('Vell' + 'marsh'), so many names
share one or the other. The k-th name is found by arithmetic alone: a
permutation of the product of the parts, so nothing need be remembered, and
names are unique at any scale. Surnames and places take different products of
the same parts, so that no surname is also a place.
"""

from realm_jax.almanac.draws import Draws


def _words(text: str) -> tuple[str, ...]:
  return tuple(text.split())


_ONSETS = _words(
  'Bl Br Cr Dr Dw Fl Gl Gr H J Kl Kr M N Pr Qu Sk Sm Str Thr Tw V Vr Y'
)
_NUCLEI = _words('ell orn ann und ith amb eld osk urr ent ilv arl')
_CODAS = _words('l n r s d m v th k b g st nd rn sk')
_LINKS = ('', *(vowel + coda for coda in _CODAS for vowel in 'aeiou'))
_ENDINGS = _words(
  'marsh brook ford wick holm stead dale fell moor mere gate haven bridge '
  'combe thorpe well cliff field water hurst den garth low crest barrow shaw '
  'reach hollow beck strand grove lea'
)
_FIRST_STARTS = _words(
  'Ba Be Ca Do E Fa Gi Ha I Jo Ka Lo Mi Ne O Pe Ra Se Ti U Va We Yo Za'
)
_FIRST_ENDS = _words(
  'rin dda nna lso mara ric vena thil bert sta lwen dric lia nell gan dessa '
  'vi mund tta rus'
)
_ADJECTIVES = _words(
  'Silent Broken Golden Hidden Distant Burning Frozen Patient Hollow '
  'Crimson Wandering Secret Gilded Bitter Gentle Restless Borrowed Faithful '
  'Forgotten Narrow Painted Sleeping Stubborn Wounded Honest Idle Lonely '
  'Merry Pale Quiet Rusted Scarlet Tangled Unwritten Velvet Winter Yellow '
  'Careless Drowned Empty Ancient Blind Clever Crooked Dancing Early Fallen '
  'Foolish Green Haunted Jealous Laughing Modest Noble Ragged Scented '
  'Singing Stolen Thirsty Vanished'
)
_MATERIALS = (
  '',
  *_words(
    'Amber Birch Cedar Chalk Clay Copper Coral Cotton Flint Glass Granite Iron '
    'Ivory Lead Linen Marble Oak Paper Pearl Pewter Salt Sand Silk Silver '
    'Slate Stone Straw Timber Tin Wax Willow Wool'
  ),
)
_NOUNS = _words(
  'Harbour Lantern Orchard Mirror Bridge Candle Garden Voyage Ladder Needle '
  'Shepherd Window Anchor Basket Carriage Compass Crown Door Feather Ferry '
  'Fountain Hammer Harvest Island Kettle Key Loom Meadow Mill Oath Pilgrim '
  'Quarrel Ransom River Sail Saddle Spindle Stair Tailor Tower Trumpet '
  'Valley Violin Wager Watchman Wedding Wheel Widow Witness Whistle Almond '
  'Baker Bell Cellar Chimney Cousin Drum Fiddler Gardener Goose Heron '
  'Juggler Lion Miller Nephew Oven Parrot Pilot Quilt Raven Smith Sparrow '
  'Sundial Swan Thief Umbrella Uncle Weaver Well Wolf'
)
FAMILY = 4  # people in a row who share a surname
_ROOM = 3  # products of parts for each name used


class _Permutation:
  """A fixed shuffle of range(size), computed element by element.

  A Feistel network over the next power of four; results beyond size are put
  through again until they fall below it.
  """

  def __init__(self, size: int, seed: int):
    self.size = size
    self._half = max(1, ((size - 1).bit_length() + 1) // 2)
    self._keys = [
      Draws(seed * 8 + turn).below(1 << 62) | 1 for turn in range(4)
    ]

  def __getitem__(self, index: int) -> int:
    if not 0 <= index < self.size:
      raise ValueError(f'name {index} asked of an inventory of {self.size}')
    half = self._half
    low_bits = (1 << half) - 1
    while True:
      left, right = index >> half, index & low_bits
      for key in self._keys:
        mixed = ((right + 1) * key & 0xFFFFFFFFFFFF) >> (48 - half)
        left, right = right, left ^ (mixed & low_bits)
      index = left << half | right
      if index < self.size:
        return index


class Names:
  """The names of one world.

  Args:
    seed: of the world.
    num_places: how many place names will be asked for.
    num_people: how many names of people.
    num_works: how many titles.
  """

  def __init__(
    self, seed: int, num_places: int, num_people: int, num_works: int
  ):
    num_first = 64 if num_people < 20_000 else 400
    all_first = [a + b for b in _FIRST_ENDS for a in _FIRST_STARTS]
    self._first = all_first[:: len(all_first) // num_first][:num_first]
    self._num_surnames = max(160, -(-_ROOM * num_people // num_first))
    needed = _ROOM * num_places // 2 + self._num_surnames
    unlinked = len(_ONSETS) * len(_NUCLEI) * len(_ENDINGS)
    self._links = _LINKS[: max(1, -(-needed // unlinked))]
    self._compounds = _Permutation(unlinked * len(self._links), seed)
    num_families = num_first // FAMILY * self._num_surnames
    self._families = _Permutation(num_families, seed + 1)
    plain = len(_ADJECTIVES) * len(_NOUNS)
    self._materials = _MATERIALS[: max(1, -(-2 * num_works // plain))]
    self._works = _Permutation(plain * len(self._materials), seed + 2)

  def _compound(self, index: int) -> str:
    rest, ending = divmod(self._compounds[index], len(_ENDINGS))
    rest, nucleus = divmod(rest, len(_NUCLEI))
    link, onset = divmod(rest, len(_ONSETS))
    stem = _ONSETS[onset] + _NUCLEI[nucleus] + self._links[link]
    return stem + _ENDINGS[ending]

  def place(self, index: int) -> str:
    """The index-th place name, one capitalised word."""
    return self._compound(self._num_surnames + index)

  def person(self, index: int) -> str:
    """The index-th person; each FAMILY in a row share their surname."""
    family, member = divmod(index, FAMILY)
    num_groups = len(self._first) // FAMILY
    surname, group = divmod(self._families[family], num_groups)
    first = self._first[member * num_groups + group]
    return f'{first} {self._compound(surname)}'

  def work(self, index: int) -> str:
    """The index-th title: 'The Silent Harbour'."""
    rest, noun = divmod(self._works[index], len(_NOUNS))
    material, adjective = divmod(rest, len(_ADJECTIVES))
    words = ('The', _ADJECTIVES[adjective], self._materials[material],
             _NOUNS[noun])  # fmt: skip
    return ' '.join(word for word in words if word)
