"""The few templates of Wikipedia that stand for words inside a sentence."""

# ruff: noqa: RUF001 (typographic dashes are meant)
from collections.abc import Callable, Sequence


def stands_for_words(name: str) -> bool:
  """Whether template_text may give anything for a template of this name."""
  return name.startswith('lang-') or name in _TEMPLATES


def template_text(name: str, values: Sequence[str], lower_case: bool) -> str:
  """What a template reads as.

  Args:
    name: the template's, lower-case, with spaces.
    values: its parameters without a name, in order, as text.
    lower_case: it has the parameter "lc": it stands inside a sentence.

  Returns:
    Its words; empty for every template that stands for none.
  """
  if name.startswith('lang-'):
    return ''.join(values[:1])
  if name not in _TEMPLATES:
    return ''
  text = _TEMPLATES[name](list(values))
  return text.replace('As', 'as', 1) if lower_case else text


def _nth(index: int) -> Callable[[list[str]], str]:
  return lambda values: values[index] if index < len(values) else ''


def _constant(text: str) -> Callable[[list[str]], str]:
  return lambda values: text


def _prefixed(prefix: str) -> Callable[[list[str]], str]:
  return lambda values: ' '.join([prefix, *values[:1]])


def _joined(separator: str) -> Callable[[list[str]], str]:
  return lambda values: separator.join(values)


def _convert(values: list[str]) -> str:
  """{{convert|5|km|mi}} -> 5 km; {{convert|2|to|3|m}} -> 2 to 3 m."""
  if len(values) > 3 and values[1] in ('to', '-', '–', 'and', 'by', 'x', 'or'):
    middle = values[1] if values[1] in '-–' else f' {values[1]} '
    return f'{values[0]}{middle}{values[2]} {_unit(values[3])}'
  return f'{values[0]} {_unit(values[1])}' if len(values) > 1 else ''


def _unit(unit: str) -> str:
  return _UNITS.get(unit, unit)


_UNITS = {
  'sqmi': 'square miles',
  'sqkm': 'km²',
  'km2': 'km²',
  'm2': 'm²',
  'm3': 'm³',
  'C': '°C',
  'F': '°F',
}
_MONTHS = (
  'January', 'February', 'March', 'April', 'May', 'June', 'July', 'August',
  'September', 'October', 'November', 'December',
)  # fmt: skip


def _as_of(values: list[str]) -> str:
  """{{as of|2016|4}} -> As of April 2016."""
  year, *rest = values or ['']
  numbers = [int(v) for v in rest if v.isdecimal() and len(v) <= 4]
  month = numbers[0] if numbers and 1 <= numbers[0] <= 12 else None
  words = [str(numbers[1])] if month and len(numbers) > 1 else []
  words += [_MONTHS[month - 1]] if month else []
  return ' '.join(['As of', *words, year]) if year else ''


def _fraction(values: list[str]) -> str:
  if len(values) == 3:
    return f'{values[0]} {values[1]}/{values[2]}'
  return '/'.join(values)


_TEMPLATES: dict[str, Callable[[list[str]], str]] = {
  **dict.fromkeys(
    (
      'nowrap', 'nobr', 'small', 'smaller', 'big', 'em', 'strong', 'abbr',
      'tooltip', 'lang-en', 'nihongo', 'linktext', 'not a typo', 'sic', 'angbr',
      'keypress', 'var', 'mvar', 'math', 'smallcaps', 'sc', 'underline', 'flag',
      'flagcountry', 'flagu', 'vanchor', 'visible anchor', 'anchored',
      'allcaps', 'unicode', 'polytonic', 'script', 'hebrew', 'iw-ref', 'ill',
      'interlanguage link', 'quote', 'blockquote', 'cquote', 'rquote', 'zh',
      'no wrap', 'formatnum', 'gaps', 'val', 'num', 'plainlist',
    ),
    _nth(0),
  ),
  **dict.fromkeys(
    ('lang', 'transl', 'transliteration', 'ipa', 'color'), _nth(1)
  ),
  **dict.fromkeys(('convert', 'cvt'), _convert),
  **dict.fromkeys(('as of', 'asof'), _as_of),
  **dict.fromkeys(('frac', 'fraction', 'sfrac'), _fraction),
  **dict.fromkeys(('chem', 'chem2', 'su'), _joined('')),
  **dict.fromkeys(
    ('ndash', 'mdash', 'spaced ndash', 'snd', 'spnd', 'spaced en dash', '--',
     'dash', 'emdash', 'endash'),
    _constant(' – '),
  ),
  **dict.fromkeys(('nbsp', 'space', 'spaces', 'thinsp', '·', 'dot'),
                  _constant(' ')),
  **dict.fromkeys(("'", "'s", 'apostrophe'), _constant("'")),
  **dict.fromkeys(('circa', 'c.', 'ca.'), _prefixed('c.')),
  'uss': _prefixed('USS'),
  'hms': _prefixed('HMS'),
  'ss': _prefixed('SS'),
  'rms': _prefixed('RMS'),
  "'s": _constant("'s"),
  'co2': _constant('CO2'),
}  # fmt: skip
