"""The few templates of Wikipedia that stand for words inside a sentence."""

# ruff: noqa: RUF001 (typographic dashes are meant)
from collections.abc import Callable, Mapping, Sequence


def template_name(written: str) -> str:
  """The name of a template in the form that the others here know."""
  return written.strip().lower().replace('_', ' ')


def stands_for_words(name: str) -> bool:
  """Whether template_text may give anything for a template of this name."""
  return name.startswith(('lang-', _NUMBER)) or name in _TEMPLATES


def template_text(
  name: str, values: Sequence[str], named: Mapping[str, str]
) -> str:
  """What a template reads as.

  Args:
    name: as template_name gives it.
    values: its parameters without a name, in order, as text.
    named: those with a name.

  Returns:
    Its words; empty for every template that stands for none.
  """
  if name.startswith('lang-'):
    return ''.join(values[:1])
  if name.startswith(_NUMBER):
    return _grouped(name.removeprefix(_NUMBER).strip())
  if name not in _TEMPLATES:
    return ''
  if name in _QUOTES:
    return f'\n\n{_quoted(values, named)}\n\n'
  # "1=" says outright that it is the first.
  values = [*values] or [named[n] for n in ('1', '2') if n in named]
  text = _TEMPLATES[name](values)
  return text.replace('As', 'as', 1) if 'lc' in named else text


def _quoted(values: Sequence[str], named: Mapping[str, str]) -> str:
  for key in ('text', 'quote', '1'):
    if key in named:
      return named[key]
  return ''.join(values[:1])


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
  if len(values) < 2:
    return ''
  number, second, *rest = values
  number = _grouped(number)
  if len(rest) > 1 and second in _BETWEEN:
    between = second if second in '-–' else f' {second} '
    return f'{number}{between}{_grouped(rest[0])} {_unit(rest[1])}'
  text = f'{number} {_unit(second)}'
  if len(rest) > 1 and rest[0].isdecimal():  # {{convert|5|ft|9|in}}
    text += f' {rest[0]} {_unit(rest[1])}'
  return text


def _grouped(number: str) -> str:
  """A number with commas, as Wikipedia has them: 1,500."""
  is_long = number.isdecimal() and 4 <= len(number) <= 15
  return f'{int(number):,}' if is_long else number


def _unit(code: str) -> str:
  """The unit that a code of {{convert}} stands for: "e6acre", "sqmi"."""
  for power, word in _POWERS.items():
    if code.startswith(power):
      return f'{word} {_unit(code.removeprefix(power))}'
  return _UNITS.get(code, code)


_BETWEEN = ('to', '-', '–', 'and', 'by', 'x', '×', 'or', '+/-', '±')
_POWERS = {
  'e3': 'thousand', 'e6': 'million', 'e9': 'billion', 'e12': 'trillion',
}  # fmt: skip
_UNITS = {
  'acre': 'acres', 'sqmi': 'square miles', 'sqkm': 'km²', 'km2': 'km²',
  'm2': 'm²', 'cm2': 'cm²', 'mm2': 'mm²', 'm3': 'm³', 'cm3': 'cm³',
  'km3': 'km³', 'sqft': 'square feet', 'sqyd': 'square yards',
  'sqin': 'square inches', 'cuft': 'cubic feet', 'cuyd': 'cubic yards',
  'cumi': 'cubic miles', 'cuin': 'cubic inches', 'impgal': 'imperial gallons',
  'usgal': 'US gallons', 'USgal': 'US gallons', 'C': '°C', 'F': '°F',
  'C-change': '°C', 'F-change': '°F', 'ftin': 'ft', 'kph': 'km/h',
  'g/cm3': 'g/cm³', 'kg/m3': 'kg/m³', 'lbs': 'lb', 'mile': 'miles',
  'foot': 'feet', 'ha': 'hectares', 'nmi': 'nautical miles', 'kn': 'knots',
  'lt': 'long tons', 'LT': 'long tons', 'ST': 'short tons', 'st': 'stone',
  't': 'tonnes',
  'cuft/s': 'cubic feet per second', 'm3/s': 'm³/s',
  'PD/sqmi': 'inhabitants per square mile', 'hp': 'horsepower',
  'PD/km2': 'inhabitants per km²', '/sqmi': 'per square mile',
  '/km2': 'per km²', 'bbl': 'barrels', 'oilbbl': 'barrels',
  'oilbbl/d': 'barrels per day', 'Moilbbl/d': 'million barrels per day',
  'Mcuft': 'million cubic feet', 'Bcuft': 'billion cubic feet',
  'Tcuft': 'trillion cubic feet', 'Moilbbl': 'million barrels',
  'koilbbl/d': 'thousand barrels per day',
}  # fmt: skip
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


def _old_style(values: list[str]) -> str:
  """{{OldStyleDate|February 2|1905|January 20}}, with the Julian day."""
  if len(values) < 2:
    return ''
  day, year, *old = values
  return f'{day} [O.S. {old[0]}] {year}' if old else f'{day} {year}'


def _times_power(values: list[str]) -> str:
  """{{e|24}} -> ×10^24, which a number stands before."""
  power = ''.join(values[:1]).replace('-', '−')
  return f'×10^{power}' if power else ''


def _fraction(values: list[str]) -> str:
  if len(values) == 3:
    return f'{values[0]} {values[1]}/{values[2]}'
  return '/'.join(values)


_NUMBER = 'formatnum:'
_QUOTES = frozenset(
  ('quote', 'blockquote', 'cquote', 'rquote', 'quotation', 'bquote',
   'centered pull quote', 'pull quote')
)  # fmt: skip
_TEMPLATES: dict[str, Callable[[list[str]], str]] = {
  **dict.fromkeys(
    (
      'nowrap', 'nobr', 'small', 'smaller', 'big', 'em', 'strong', 'abbr',
      'tooltip', 'lang-en', 'nihongo', 'linktext', 'not a typo', 'sic', 'angbr',
      'keypress', 'var', 'mvar', 'math', 'smallcaps', 'sc', 'underline', 'flag',
      'flagcountry', 'flagu', 'vanchor', 'visible anchor', 'anchored',
      'allcaps', 'unicode', 'polytonic', 'script', 'hebrew', 'iw-ref', 'ill',
      'interlanguage link', 'zh', 'no wrap', 'gaps', 'val', 'num', 'plainlist',
      *_QUOTES,
    ),
    _nth(0),
  ),
  **dict.fromkeys(
    ('lang', 'langx', 'rtl-lang', 'transl', 'transliteration', 'ipa', 'color'),
    _nth(1),
  ),
  **dict.fromkeys(('convert', 'cvt'), _convert),
  **dict.fromkeys(('as of', 'asof'), _as_of),
  **dict.fromkeys(('frac', 'fraction', 'sfrac'), _fraction),
  **dict.fromkeys(('chem', 'chem2', 'su'), _joined('')),
  **dict.fromkeys(
    ('ndash', 'mdash', 'spaced ndash', 'snd', 'spnd', 'spaced en dash', '--',
     'dash', 'emdash', 'endash', 'mdashb'),
    _constant(' – '),
  ),
  **dict.fromkeys(('nbsp', 'space', 'spaces', 'thinsp', '·', 'dot'),
                  _constant(' ')),
  **dict.fromkeys(("'", "'s", 'apostrophe'), _constant("'")),
  **dict.fromkeys(('circa', 'c.', 'ca.'), _prefixed('c.')),
  'oldstyledate': _old_style,
  'e': _times_power,
  'us$': lambda values: 'US$' + ''.join(values[:1]) if values else '',
  'uss': _prefixed('USS'),
  'hms': _prefixed('HMS'),
  'ss': _prefixed('SS'),
  'rms': _prefixed('RMS'),
  "'s": _constant("'s"),
  'co2': _constant('CO2'),
  '=': _constant('='),
}  # fmt: skip
