"""Whether a bare number is a year, by what stands around it.

Where nothing speaks against it, it is: of the numbers from 1000 to 2099 that
Wikipedia writes without a comma, some 98 in 100 are years.
"""

# ruff: noqa: RUF001 (dashes, quotes and signs of real text are meant)
import re

# How far back and ahead anything is looked for.
_REACH = 24

_UNIT = r"""(?:km|cm|mm|nm|µm|m|mi|miles?|(?:kilo|centi|milli)?met(?:re|er)s?
  |yd|yards?|ft|feet|foot|inch(?:es)?|acres?|ha|hectares?|square|sq|cubic
  |t|tons?|tonnes?|kg|g|mg|kilograms?|pounds?|lbs?|lit(?:re|er)s?|gallons?
  |barrels?|hp|bhp|[kKMGT]?Hz|[KMGT]B|[kMGT]?W|[kMG]Wh?|[kM]?Pa|kJ|V|K|bits?
  |bytes?|volts?|watts?|pixels|dpi|rpm|RPM|mph|kcal|calories|cc|percent|per
  |UTC|GMT|hrs?|h|million|billion|cm−1|cm-1)[23²³]?(?![\w’'])"""
# These a year may stand before too: "in 1984 people still ...".
_THINGS = r"""(?:people|persons?|men|women|children|soldiers|troops|blacks
  |inhabitants|residents|households|families|students|pupils|members|workers
  |employees|journalists|prisoners|casualties|deaths|refugees|years?|months
  |weeks|days|hours|minutes|seconds|times|words|pages|copies|units|points?
  |votes|seats|jobs|homes|houses|buildings|villages|churches|species|stars
  |dollars|euros|yen|francs|rubles|others?|different|or[ ]more)\b"""
_COUNTED = re.compile(
  rf'[ ]?(?:-[ ]?)?(?:(?P<unit>{_UNIT})|(?P<things>{_THINGS}))'
  rf"""|(?:[ ](?:and|or)[ ]|[ ]?--?[ ]?|[ ]?–[ ]?)\d{{1,2}},?\d{{3}}[ ]?{_UNIT}
  |[ ](?:by|x)[ ]\d|[ ]?[°×=]|-[a-z](?!orn\b|uilt\b|ra\b)""",
  re.VERBOSE,
)
_IN = re.compile(r'\b(?:[Ii]n|[Ss]ince|[Dd]uring|[Uu]ntil|[Bb]y|year|FY)[ ]$')

# Things that have numbers, and quantities that are more or less.
_NUMBERED = re.compile(
  r"""(?:\b(?:[Nn]os?\.|[Nn]umber(?:ed)?|[Pp]ages?|pp?\.|[Rr]oom|[Ll]ines?
  |[Ff]light|[Mm]odel|[Rr]oute|[Hh]ighway|[Ii]nterstate|[Cc]hannel|[Cc]hapter
  |[Cc]odes?|[Ff]requency|[Rr]esolution|[Bb]ox|Type|type|Mark|Mk|Class
  |Windows|Office|Boeing|Airbus|Peugeot|Fiat|BMW|Nokia|Atari|Intel
  |ISO|IEC|EN|DIN|RFC|NGC|IC|HD|HIP|SAO|PSR|USD|EUR|GBP|INR|CAD|AUD|Rs\.?
  |§)|[=×+*<>≈~$£€¥§]|\d[ ](?:by|x))[ ]?$""",
  re.VERBOSE,
)
_QUANTITY = re.compile(
  r"""\b(?:nearly|almost|roughly|approximately|exactly|[Ss]ome|only|another|per
  |every|[Tt]here[ ](?:are|were)|(?:more|less|fewer)[ ]than|total[ ]of)[ ]$""",
  re.VERBOSE,
)
# "Up to 2002, ..." is a year, "up to 1200 calls" is none.
_LIMIT = re.compile(r'\b(?:[Aa]t least|[Uu]p to)[ ]$')
_SINCE = re.compile(r'\b(?:since|until|through|to|from|before|by) at least[ ]$')
_MARK = re.compile(r'[ ]?[,.;:)]')
# "About 1200 blacks fled": a round number of several things.
_ABOUT = re.compile(r'\b(?:[Aa]bout|[Aa]round|[Oo]ver|with|all)[ ]$')
_SEVERAL = re.compile(r'[ ][a-z]+(?<!u)(?<!i)(?<!a)s\b')

# A title: "1984", `` 1999 '', 1984 (novel).
_OPENED = re.compile(r'(?:["“‘]|``[ ]?)$')
_CLOSED = re.compile(r"""[ ]?(?:["”’]|'')""")
_TITLE = re.compile(
  r'[ ]?\((?:[a-z]+[ ])?(?:novel|film|movie|album|song|book|game|opera)\)'
)


def is_year(text: str, start: int, stop: int) -> bool:
  """Whether the number or range of numbers text[start:stop] is of years."""
  before = text[max(0, start - _REACH) : start]
  after = text[stop : stop + _REACH]
  counted = _COUNTED.match(after)
  if counted and not (counted['things'] and _IN.search(before)):
    return False
  if _NUMBERED.search(before) or _QUANTITY.search(before):
    return False
  if _LIMIT.search(before):
    return bool(_MARK.match(after) or _SINCE.search(before))
  if text[start:stop].endswith('00') and _ABOUT.search(before):
    return not _SEVERAL.match(after)
  if _OPENED.search(before) and _CLOSED.match(after):
    return False
  return not _TITLE.match(after)
