"""Named entities and numbers by rule, where no model is at hand."""

# ruff: noqa: RUF001, SIM905 (typographic marks are meant; word lists)
import re
from collections.abc import Sequence

from realm_jax.data.sentences import SENTENCE_STARTERS, split_sentences
from realm_jax.data.spans import Span, merge_spans

ENTITY = 'ENTITY'
NUMBER = 'NUMBER'

_UPPER = ''.join(c for c in map(chr, range(0x530)) if c.isupper())
# Not the end of "French-speaking", but all of "Port-au-Prince".
_NAME = (
  rf"(?:[{_UPPER}]\w*(?:(?:['’](?!s\b)|-(?![a-z]+\b(?!-[{_UPPER}])))\w+)*)"
)
# A part of a name: an initial or "U.S.", a title, or a capitalised word.
_PART = (
  rf'(?:(?:[{_UPPER}]\.\s?)*[{_UPPER}]\.(?=\s?[{_UPPER}a-z,;)])'
  rf'|(?:St|Mt|Dr|Mr|Mrs|Ms|Prof|Gen|Col|Capt|Lt|Sgt|Rev|Sen|Gov)\.|{_NAME})'
)
_CONNECTOR = (
  r'(?:of(?:\sthe)?|the|upon|de(?:\sl[ao]s?|l)?|del(?:la|le)?|d[aiou]s?|des|y'
  r'|van(?:\sde[rn]?)?|v[ao]n(?:\sder)?|te[rn]|zu|af|av|bin|ibn|al-|&)'
)
_SEQUENCE = re.compile(
  rf"""(?<![\w.'’-])
  {_PART}(?:(?:\s{_CONNECTOR})?[ ]{_PART})*
  (?:\s\d{{1,3}}(?![\w,.:%–-]))?""",
  re.VERBOSE,
)
# A word before the rest of a name, with the connector between them.
_OPENER = re.compile(
  rf'(?P<word>\S+)\s(?P<connector>{_CONNECTOR}\s)?(?=[{_UPPER}])'
)
_NUMBER = re.compile(
  r"""(?<![\w.,:'’/–-])
  [$£€]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?
  (?:\s?%|\s(?:percent|per\scent|hundred|thousand|million|billion|trillion))?
  (?![\w/–-]|[.,:]\d)""",
  re.VERBOSE,
)
# Words that open sentences, and so are capitalised without being names.
_COMMON = frozenset(
  """a about above according across active actually additional additionally
  adult after afterwards again against ago agricultural agriculture air
  algae all almost along already also although altogether always am amateur
  among amongst an ancient and anger animals another any anyone anything
  apart are areas around art as aside at average away back based be because
  become beer before began behind being bells below besides best better
  between beyond big birds bitumen black blue books born both bread bus but
  by called can carbon case certain children cities clay clearly close code
  coffee comedy commercial common compared comparison consequently contrary
  copies copper corn cotton could countries critics current currently dates
  day days death deaths despite did different direct do does dreams due
  during each earlier early economic eight either electric elements eleven
  elsewhere end enough especially even eventually every everyone everything
  evidence examples except experts exposure extreme famous far female few
  fewer fifty film final finally find fire first fish five following food
  for foreign formal former forms forty four free fresh frogs from full
  further furthermore general generally given go gold good government great
  greater green gross group growth had half has have having he health hence
  her here high higher him his historically history hope how however human
  hundreds hydrogen i if important in indeed indirect individuals initial
  initially insects inside inspired instead into iron is it its itself just
  keep kind king known land large larger last late later latest law lead
  least legal less lesser let letters life like likely likewise lithium
  little livestock local long love low lower made main mainly major making
  male mammals man many mark material may maybe me meanwhile meat members
  men methane might military milk minor model modern more moreover most
  mostly much music must my named national native natural near nearby
  nearly neither never nevertheless new newer next nine nitrogen no nobody
  none nonetheless nor normally not notable notably note nothing now
  numerous of off officially often oil old older on once one ones only onto
  opposite or originally other others otherwise our out outside over
  overall own oxygen part parts past people perhaps persons petroleum
  philosophy physical pilgrims plans plants political popular population
  possible potassium previous primary prior probably production proof
  public pure put rainfall random rather readers recent recently red
  regardless relations religious research researchers result results rice
  rural salt same sand scholars school science scientists second secondary
  see set seven several shall she short shortly should show significant
  silver similar similarly simple since six sleep small smaller so social
  sodium software soil some someone something sometimes soon species
  specific state still stone strong stronger students studies study
  subsequently such sugar supporters symbols tea teams technology ten
  terrain than thanks that the their them themselves then there thereafter
  therefore these they things third this those though thousands three
  through throughout thus time times tin to today together too top total
  toward towards trade traditional traditionally twelve twenty twice two
  under unique unknown unlike until up upon urban us use used using usually
  various very was water we weak well were what whatever wheat when
  whenever where whereas whether which while whilst white who whoever whole
  whom whose why wide will wine with within without women wonder wood words
  work workers works world would writers year years yes yet you young
  your""".split()
)
_CALENDAR = frozenset(
  """january february march april may june july august september october
  november december monday tuesday wednesday thursday friday saturday sunday
  bc ad bce ce am pm""".split()
)
_ORDINARY_ENDING = re.compile(
  r'\w{3}(?:ly|ing|ed|ions?|ments?|ness|ers|ors|ists|ians|ies|ous|ive|[ai]ble'
  r'|[cinrtu]al|[^l]fic|stic|ages|ics|isms?|[ae]nces?|logy|graphy|ts|es|[^s]ks'
  r'|ns|ds|[^s]ss|ity|ure|[eo]tic|opic|[nt]ary|wise)$'
)
# Behind these a word is capitalised as at the start of a sentence.
_OPENS_AGAIN = re.compile(r"""(?:[:;•]\s?|''|``|["“‘(\[])\s?$""")


class RuleTagger:
  """Entities by their capitals, and numbers: no model, no training.

  A capitalised sequence counts, with connectors such as "of the" inside. At
  the start of a sentence, words that open sentences ("In", "After") are left
  off a name; a single word there counts only if it stands capitalised
  elsewhere in the text, or nothing says that it is an ordinary word: no list,
  no ending, no lower-case use in the text. Months and days alone are no
  entities.
  """

  name = 'rules'
  kinds: tuple[str, ...] = (ENTITY, NUMBER)

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """Entities and numbers of each text, in order and without overlap."""
    return [merge_spans(_find_names(t), _find_numbers(t)) for t in texts]


def _find_numbers(text: str) -> list[Span]:
  return [Span(*m.span(), NUMBER) for m in _NUMBER.finditer(text)]


def _find_names(text: str) -> list[Span]:
  found = []
  inside_sentences: set[str] = set()
  for sentence_start, sentence_stop in split_sentences(text):
    for match in _SEQUENCE.finditer(text, sentence_start, sentence_stop):
      start, stop = match.span()
      opens = start == sentence_start or bool(
        _OPENS_AGAIN.search(text, max(sentence_start, start - 4), start)
      )
      start = _skip_openers(text, start, stop, opens)
      opens = opens and start == match.start()
      found.append((start, stop, opens))
      if not opens:
        inside_sentences.add(text[start:stop])
  return [
    Span(start, stop, ENTITY)
    for start, stop, opens in found
    if _is_name(text, start, stop, opens, inside_sentences)
  ]


def _skip_openers(text: str, start: int, stop: int, opens: bool) -> int:
  """Where the name starts once the words before it are left off."""
  while match := _OPENER.match(text, start, stop):
    lower = match['word'].lower()
    # "Some of the Beatles", "Proof of the Vithbeck Law"; not "New York".
    if not (
      lower in ('the', 'a', 'an')
      or (opens and lower in SENTENCE_STARTERS)
      or (opens and match['connector'] and lower in _COMMON)
      or (opens and match['connector'] == 'the ' and lower.endswith('ing'))
    ):
      break
    start = match.end()
  return start


def _is_name(
  text: str, start: int, stop: int, opens: bool, inside_sentences: set[str]
) -> bool:
  name = text[start:stop]
  lower = name.lower()
  if len(name) < 2 or _CALENDAR.issuperset(lower.split(' of ')):
    return False
  if ' ' in name:
    return True
  if not opens:
    return lower not in SENTENCE_STARTERS
  if lower in _COMMON:
    return False
  return name in inside_sentences or not (
    _ORDINARY_ENDING.search(name) or re.search(rf'\b{re.escape(lower)}\b', text)
  )
