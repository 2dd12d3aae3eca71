"""The shapes of written dates, as regular expressions.

Built from named parts for re.VERBOSE, so a space is written [ ]. No part
crosses a line's end. Where digits or a month's name begin a date, START finds
the place and DATES reads on from there; what may stand before them is read
backwards from it: AHEAD_OF_DAY, AHEAD_OF_YEAR, AHEAD. That is six times as
quick as one expression that tries every word as the beginning of a date.
"""

# ruff: noqa: RUF001 (dashes and quotes of real text are meant)
import re

_MONTH = r"""(?:January|February|March|April|May|June|July|August|September
  |October|November|December
  |(?:Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec)\b\.?)"""
_DAY = r'(?:(?:[12]\d|3[01]|0?[1-9])(?:st|nd|rd|th)?(?![\w:%°]|[.,]\d))'
_SEASON = r'(?:[Ss]pring|[Ss]ummer|[Aa]utumn|[Ff]all|[Ww]inter)'
# "mid-1979", "Late 1920s", "mid- to late 1980s"; text tokenised with spaces
# has "late - February".
_PART_WORD = r'(?:[Ee]arly|[Mm]id(?:dle)?|[Ll]ate)'
_PART = rf"""(?:(?:{_PART_WORD}(?:[ ]?-)?[ ](?:to|and|or)[ ])?
  {_PART_WORD}(?:[ ]?-[ ]?|[ ]))"""

_DASH = r'(?:[ ]?(?:--|[-–—])[ ]?)'
_TO = rf'(?:{_DASH}|[ ](?:to|through|until)[ ](?:the[ ])?)'
# Joins parts that share what follows them: "18th and early 19th centuries".
_AND = rf'(?:{_TO}|[ ](?:and|or|&)[ ](?:the[ ])?|/)'

_ERA = r"""(?:[ ]?(?:BCE?|CE|AD|bce?|B\.[ ]?C(?:\.[ ]?E)?\.?|C\.E\.
  |A\.D\.?)(?!\w))"""
_YEAR = r'(?:(?:1\d|20)\d\d(?![\w%]|[.,]\d))'
_SHORT_YEAR = r"(?:['’‘][ ]?\d\d(?![\w%]))"  # '69
_NUMBER = r'(?:\d{1,2},\d{3}|\d{1,5})'
_ERA_YEAR = rf'(?:{_NUMBER}{_ERA}|(?:AD|A\.D\.?)[ ]\d{{1,4}}(?![\w%]|[.,]\d))'
# Three digits are a year where a month stands before and a mark behind them:
# "in August 410,".
_ANY_YEAR = rf'(?:{_ERA_YEAR}|{_YEAR}|[1-9]\d\d(?=[ ]?[;:)]|[ ]?[.,](?!\d)))'
_CIRCA = r'(?:(?:c\.|ca\.|circa)[ ])'
_DECADE = r"(?:(?:1\d|20)\d0(?:[ ]?['’])?s|['’‘][ ]?\d0s)"

# Where DATES may match: a digit, perhaps behind an apostrophe, a month, AD. It
# leads with one set of characters because that makes the search quick.
START = re.compile(
  r"""[0-9'’‘JFMASOND](?:(?<![\w/$£€¥#.].)|(?<=\bc\..))(?<!\d[,:].)
  (?:(?<=[0-9])|(?<=['’‘])[ ]?\d\d|an|eb|ar|pr|ay|u[nlg]|ep|ct|ov|ec|D[ ]
  |\.D)""",
  re.VERBOSE,
)

# Days and months that "and" joins are one date, for the first alone is none.
DATES = re.compile(
  rf"""(?:
    # 14 March 1432; 14th of March, 1432; 14-16 March; 12/13 March
    (?P<day>(?<!-)(?:
      (?:{_DAY}{_AND})?{_DAY}[ ](?:of[ ])?{_MONTH}(?!\w)
    # March 14, 1432; March 14-16, 1432; March 14th
    | {_MONTH}[ ](?:the[ ])?{_DAY}(?:{_AND}{_DAY}(?![ ]{_MONTH}))?
    )(?:[ ]?,?[ ]{_ANY_YEAR})?)
    # March 1432; March of 1432; May and early June 1432; May, June and July '45
  | (?P<month>(?:{_MONTH}(?:[ ]?,[ ]{_MONTH})?{_AND}{_PART}?)?{_MONTH}
      (?:[ ]?,|[ ]of)?[ ](?:{_ANY_YEAR}|{_SHORT_YEAR}))
    # 1920s; 1920s to mid-1930s; 1920s-30s; '60s; 480s BC
  | (?P<decade>(?:\d{{1,3}}0s{_ERA}
      |{_DECADE}(?:{_TO}{_PART}?(?:{_DECADE}|\d0s)
        |{_TO}present(?![ -]day))?))
    # 1432-09-30, 1432/09/30; 30/9/1432, 30.9.1432, 9-30-1432
  | (?P<numeric>(?<!-)(?:
      (?:1\d|20)\d\d(?P<sign>[-/])(?:0[1-9]|1[0-2])(?P=sign)
        (?:0[1-9]|[12]\d|3[01])
    | (?:0?[1-9]|[12]\d|3[01])(?P<mark>[-/.])(?:0?[1-9]|[12]\d|3[01])(?P=mark)
        (?:1\d|20)\d\d))
    # 480-323 BC; 480 and c. 323 BC; 348/47 BC; 44 BC; AD 79; AD 300-500
  | (?P<era>(?<![-–])(?:{_NUMBER}{_AND}{_CIRCA}?{_NUMBER}{_ERA}
      |AD[ ]\d{{1,4}}{_DASH}\d{{1,4}}(?![ ]?[ABC])
      |{_ERA_YEAR}(?:{_TO}{_CIRCA}?(?:{_ERA_YEAR}|{_YEAR}))?))
    # 1432; 1914-1918, 1914-18, 1763-4, 1914 to 1918; 1432-present
  | (?P<bare>
      (?:(?<![-–−])|(?<=[a-z]–)|(?<=(?:[Mm]id|pre)-)|(?<=(?:post|late)-)
        |(?<=early-))
      {_YEAR}(?:{_TO}{_CIRCA}?{_YEAR}|{_TO}present(?![ -]day)
        |{_DASH}\d\d|[-–/]\d\d?)?
    # "In 988, he"; (c. 780-850)
    | (?:(?<=[Ii]n[ ])|(?<=year[ ]))[3-9]\d\d(?=[ ]?,[ ])
    | (?:(?<=c\.[ ])|(?<=ca\.[ ])|(?<=circa[ ]))[2-9]\d\d
        (?:{_DASH}\d{{3,4}})?(?=[ ]?[,;)]))
    # '69, where a season stands before it
  | (?P<short>{_SHORT_YEAR})
  )(?![\w%°′″]|[.,/]\d|-\d)""",
  re.VERBOSE,
)

AHEAD_OF_DAY = re.compile(
  r'\b(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day[ ]?,?[ ]$'
)
AHEAD_OF_YEAR = re.compile(
  rf"""(?<![\w-]){_PART}?(?:{_SEASON}{_AND})?{_SEASON}[ ](?:of[ ])?$""",
  re.VERBOSE,
)
AHEAD = re.compile(rf'(?<![\w-]){_PART}$', re.VERBOSE)

_ORDINAL = r"""(?:\d{1,2}(?:st|nd|rd|th)|(?:[Tt]wenty-)?(?:[Ff]irst|[Ss]econd
  |[Tt]hird|[Ff]ourth|[Ff]ifth|[Ss]ixth|[Ss]eventh|[Ee]ighth|[Nn]inth)
  |[Tt]enth|[Ee]leventh|[Tt]welfth|(?:[Tt]hir|[Ff]our|[Ff]if|[Ss]ix|[Ss]even
  |[Ee]igh|[Nn]ine)teenth|[Tt]wentieth)"""
_ORDINALS = rf'(?:{_PART}?{_ORDINAL}(?:-(?=[ ]))?{_AND})'
CENTURY_WORD = re.compile(r'entur(?:y|ies)|illenni(?:um|a)')
# 19th century; mid-2nd century BC; 18th and early 19th centuries. The first of
# several has no name of its own, so they are one date. A capital is that of a
# name, "20th Century Fox", where another capital follows.
CENTURIES = re.compile(
  rf"""(?<![\w-])(?:
    {_ORDINALS}*{_PART}?{_ORDINAL}(?:[ ]?-[ ]?|[ ])
      (?:century|Century(?![ ][A-Z][a-z])|millennium)
  | (?:{_ORDINALS}+{_PART}?{_ORDINAL}|\d{{1,2}}th)[ ](?:centuries|millennia)
  ){_ERA}?(?!\w)""",
  re.VERBOSE,
)
