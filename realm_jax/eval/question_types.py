"""What a question asks for, by its words."""

import re

# The first that is found decides: 'how many' is no 'how'.
_TYPES = (
  ('how many', r'how (many|much|long|old|tall|far|often|big|large|high|deep)'),
  ('how', r'how'),
  ('who', r'who|whom|whose'),
  ('when', r'when|(what|which) (year|date|day|month|century|decade)'),
  ('where', r'where'),
  ('why', r'why'),
  ('which', r'which'),
  ('what', r'what'),
)
_PATTERNS = tuple(
  (name, re.compile(rf'\b(?:{words})s?\b')) for name, words in _TYPES
)
_YES_NO = re.compile(
  r'(is|are|was|were|am|do|does|did|has|have|had|can|could|will|would|shall|'
  r'should|may|might|must)\b'
)
QUESTION_TYPES = (*(name for name, _ in _TYPES), 'yes or no', 'other')


def question_type(question: str) -> str:
  """One of QUESTION_TYPES.

  The question word that stands first decides, wherever it stands: 'In which
  city' is of type 'which', and 'the band whose' of type 'who'. Of questions
  without one, those that begin with a verb are 'yes or no'.
  """
  text = question.lower().strip()
  if _YES_NO.match(text):
    return 'yes or no'
  found = [
    (match.start(), order, name)
    for order, (name, pattern) in enumerate(_PATTERNS)
    if (match := pattern.search(text))
  ]
  return min(found)[2] if found else 'other'
