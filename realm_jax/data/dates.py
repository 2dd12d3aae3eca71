"""Written dates found by rule."""

# ruff: noqa: RUF001 (dashes of ranges are meant)
import re

from realm_jax.data.spans import Span

DATE = 'DATE'
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
    # 480-323 BC
  | \d{{1,4}}(?:{_DASH}|\sto\s)\d{{1,4}}{_ERA}
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
