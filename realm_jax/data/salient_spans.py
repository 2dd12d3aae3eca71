"""Salient spans of sentences: named entities and dates.

What masked-language pre-training hides, so that knowledge is needed to fill it
in (REALM, section 3.4: entities of a CoNLL-2003 tagger, and dates by a regular
expression). Dates are found by rule here; entities by any EntityTagger.
"""

# ruff: noqa: RUF001, SIM905 (dashes of date ranges; word lists)
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from realm_jax.data.sentences import SENTENCE_STARTERS, split_sentences

DATE = 'DATE'
NUMBER = 'NUMBER'
ENTITY = 'ENTITY'


class Span(NamedTuple):
  """Half-open character range in a text, and what it is."""

  start: int
  stop: int
  kind: str


class EntityTagger(Protocol):
  """Anything that finds named entities.

  Attributes:
    kinds: every kind of span that tag may return.
  """

  kinds: tuple[str, ...]

  def tag(self, texts: Sequence[str]) -> list[list[Span]]:
    """Entities of each text, in order and without overlap."""
    ...


def find_salient_spans(
  texts: Sequence[str],
  sentences: Sequence[Sequence[tuple[int, int]]],
  tagger: EntityTagger | None,
) -> list[list[tuple[Span, ...]]]:
  """Finds the salient spans of every sentence.

  Args:
    texts: block texts.
    sentences: per text, its sentences as character ranges.
    tagger: finds the entities; None for dates alone.

  Returns:
    Per text and sentence, spans in characters of the *text*, in order, without
    overlap, each inside its sentence. A date wins over an entity it overlaps.
  """
  entities = tagger.tag(texts) if tagger else [[] for _ in texts]
  found = []
  for text, ranges, spans in zip(texts, sentences, entities, strict=True):
    merged = merge_spans(find_dates(text), spans)
    found.append(
      [
        tuple(s for s in merged if start <= s.start and s.stop <= stop)
        for start, stop in ranges
      ]
    )
  return found


def merge_spans(
  preferred: Iterable[Span], others: Iterable[Span]
) -> list[Span]:
  """All preferred spans and those others that overlap none, in order."""
  merged = list(preferred)
  taken = sorted((span.start, span.stop) for span in merged)
  for span in others:
    if all(stop <= span.start or span.stop <= start for start, stop in taken):
      merged.append(span)
  return sorted(merged)


# Dates ----------------------------------------------------------------------

_MONTH = (
  r'(?:January|February|March|April|May|June|July|August|September|October'
  r'|November|December|(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\.?)'
)
_DAY = r'(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?'
_ERA = r'(?:\s?(?:BCE|BC|CE|AD|B\.C\.E?\.?|A\.D\.|C\.E\.))'
_YEAR = r'(?:[12]\d{3}(?![\d%])(?!,\d)(?!\.\d)(?!\s?-\s?[a-z]))'
# A year of one to four digits is one where an era or a whole date says so.
_ANY_YEAR = rf'(?:\d{{1,4}}{_ERA}|AD\s\d{{1,4}}|A\.D\.\s\d{{1,4}}|{_YEAR})'
_DASH = r'(?:\s?[-–—]\s?)'
_CENTURY = (
  r'(?:(?:\d{1,2}(?:st|nd|rd|th)|first|second|third|fourth|fifth|sixth'
  r'|seventh|eighth|ninth|tenth|eleventh|twelfth|thirteenth|fourteenth'
  r'|fifteenth|sixteenth|seventeenth|eighteenth|nineteenth|twentieth'
  r'|twenty-first)[\s-](?:century|centuries|millennium)' + f'{_ERA}?)'
)
_DATES = re.compile(
  rf"""(?<![\w.,/$£€#-])(?:
    # 14 March 1432, 14th of March 1432, 14-16 March 1432, 14 March
    {_DAY}(?:{_DASH}{_DAY})?\s(?:of\s)?{_MONTH}(?:\s?,?\s{_ANY_YEAR})?
    # March 14, 1432; March 14-16, 1432; March 14; March 1432
  | {_MONTH}\s{_DAY}(?:{_DASH}{_DAY})?(?!\d)(?:\s?,\s{_ANY_YEAR})?
  | {_MONTH}(?:{_DASH}{_MONTH})?(?:\s?,|\sof)?\s{_ANY_YEAR}
    # 19th century, sixteenth century BC
  | {_CENTURY}
    # 1920s, 1920s-1930s, '60s
  | (?:1\d|20)\d0(?:'|’)?s(?:{_DASH}(?:(?:1\d|20)?\d0(?:'|’)?s))?
    # 1914-1918, 1914-18, 1914 to 1918; 44 BC, AD 79; 1432
  | {_ANY_YEAR}(?:(?:{_DASH}|\sto\s){_ANY_YEAR}|[-–/]\d\d(?!\d))?
  )(?![\w%])""",
  re.VERBOSE,
)
_BARE_NUMBER = re.compile(r'\d{4}$')
# "1,500 of 2000 people" and "2000 metres" hold no years.
_COUNTED = re.compile(
  r'\s?(?:people|persons|men|women|soldiers|troops|inhabitants|students'
  r'|members|years|days|hours|miles|km|kilomet\w+|met(?:re|er)s?|m|ft|feet'
  r'|acres|hectares|tons?|tonnes?|kg|kilograms?|pounds?|lbs?|dollars|euros'
  r'|copies|units|points?|votes|seats|times|words|pages|species|hp|MHz|GHz'
  r'|kHz|Hz|MB|GB|KB|bytes?|bits?|volts?|watts?|K|°|percent|per|sq|square'
  r'|or\smore|others?|different|million|billion)\b'
)
_NOT_BEFORE = re.compile(
  r'(?:\b(?:No\.|number|nearly|almost|roughly|approximately|exactly|over\sthan'
  r'|more\sthan|less\sthan|fewer\sthan|at\sleast|up\sto|US|mph|[A-Z]{2,}'
  r'|page|pp?\.|room|flight|model|series|Windows|NGC|route|highway|ISO|RFC)'
  r'|[=×+*<>≈~])\s?$'
)


def find_dates(text: str) -> list[Span]:
  """Finds written dates, years 1000-2099, decades, centuries, ranges of them.

  A bare number of four digits is a year unless what stands around it says that
  something is counted or numbered.
  """
  spans = []
  for match in _DATES.finditer(text):
    bare = _BARE_NUMBER.match(match[0])
    if bare and not _is_year(text, match):
      continue
    spans.append(Span(match.start(), match.end(), DATE))
  return spans


def _is_year(text: str, match: re.Match) -> bool:
  if not 1000 <= int(match[0]) <= 2099:
    return False
  if _COUNTED.match(text, match.end()):
    return False
  before = text[max(0, match.start() - 16) : match.start()]
  return not _NOT_BEFORE.search(before)


# Entities by rule ------------------------------------------------------------

_UPPER = ''.join(c for c in map(chr, range(0x530)) if c.isupper())
_NAME = rf"(?:[{_UPPER}]\w*(?:['’-](?!s\b)\w+)*)"
# A part of a name: an initial or "U.S.", a title, or a capitalised word.
_PART = (
  rf'(?:(?:[{_UPPER}]\.\s?)*[{_UPPER}]\.(?=\s?[{_UPPER}a-z,;])'
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
_NUMBER = re.compile(
  r"""(?<![\w.,'’/–-])
  [$£€]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?
  (?:\s?%|\s(?:percent|per\scent|hundred|thousand|million|billion|trillion))?
  (?![\w/–-]|[.,:]\d)""",
  re.VERBOSE,
)
# Words that open sentences, and so are capitalised without being names.
_COMMON = frozenset(
  """a about above according across actually additionally after afterwards again
  against ago all almost along already also although always am among an and
  another any anyone anything apart are areas around art as aside at away
  back based be because become before began behind being below besides best
  better between beyond big born both but by called can case certain
  children cities clearly close common compared consequently contrary could
  countries critics currently dates day days death deaths despite did
  different do does due during each earlier early economic eight either
  elements eleven elsewhere end enough especially even eventually every
  everyone everything evidence examples except experts famous far few fewer
  fifty finally find first five following for former forms forty four free
  from further furthermore general generally given go good government great
  greater had half has have having he hence her here high higher him his
  historically history how however hundreds i if important in indeed
  initially inside inspired instead into is it its itself just keep kind
  king known large larger last late later latest law lead least less let
  life like likely likewise little local long low lower made main mainly
  major making man many may maybe me meanwhile members men might modern more
  moreover most mostly much must my named national native natural near
  nearby nearly neither never nevertheless new newer next nine no nobody
  none nonetheless nor normally not notable notably note nothing now
  numerous of off officially often old older on once one ones only onto
  opposite or originally other others otherwise our out outside over overall
  own part parts past people perhaps persons physical plans political
  popular population possible previous prior probably production public put
  rather recent recently regardless relations religious research researchers
  result results same scholars school science scientists second see seven
  several shall she short shortly should show similar similarly since six
  small smaller so social some someone something sometimes soon species
  still students studies study subsequently such supporters ten than thanks
  that the their them themselves then there thereafter therefore these they
  third this those though thousands three through throughout thus time times
  to today together too top total toward towards traditional traditionally
  twelve twenty two under unlike until up upon us used using usually various
  very was water we well were what whatever when whenever where whereas
  whether which while who whoever whole whom whose why wide will with within
  without women words work workers works world would writers year years yes
  yet you young your""".split()
)
_CALENDAR = frozenset(
  """january february march april may june july august september october
  november december monday tuesday wednesday thursday friday saturday sunday
  bc ad bce ce am pm""".split()
)
_ORDINARY_ENDING = re.compile(
  r'(?:ly|ing|ed|ions?|ments?|ness|ers|ors|ists|ians|ies|ous|ive|able|ible'
  r'|ical|ual|ages|ics|isms?|ances?|ences?|ts|es|[^s]ks|ns|ds)$'
)
# Behind these a word is capitalised as at the start of a sentence.
_OPENS_AGAIN = re.compile(r"""(?:[:;•]\s?|''|``|["“‘(\[])\s?$""")


class RuleTagger:
  """Entities by their capitals, and numbers: no model, no training.

  A capitalised sequence counts, with connectors such as "of the" inside. At
  the start of a sentence, words that open sentences ("In", "After") are left
  off a name; a single word there counts only if it stands capitalised
  elsewhere in the text, or is no common word and has no ending of one. Months
  and days alone are no entities.
  """

  kinds = (ENTITY, NUMBER)

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
    if _is_name(text[start:stop], opens, inside_sentences)
  ]


def _skip_openers(text: str, start: int, stop: int, opens: bool) -> int:
  """Where the name starts once the words before it are left off."""
  while start < stop:
    word = re.match(r'\S+', text[start:stop])[0]
    lower = word.lower()
    opener = lower in ('the', 'a', 'an') or (
      opens and lower in SENTENCE_STARTERS
    )
    rest = text[start + len(word) : stop].lstrip()
    if not opener or not rest:
      return start
    start = stop - len(rest)
    # "Some of the Beatles", where the connector led on to the name.
    connector = re.match(rf'{_CONNECTOR}\s', rest)
    if connector:
      start += connector.end()
  return start


def _is_name(name: str, opens: bool, inside_sentences: set[str]) -> bool:
  lower = name.lower()
  if len(name) < 2 or lower in _CALENDAR:
    return False
  if ' ' in name:
    return True
  if not opens:
    return lower not in ('the', 'an', "i'm", "i've")
  if lower in _COMMON:
    return False
  return name in inside_sentences or not _ORDINARY_ENDING.search(name)
