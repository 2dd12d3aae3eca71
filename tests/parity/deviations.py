"""Comparisons that remember how far apart the numbers were.

  REALM_JAX_DEVIATIONS=table.md pytest tests/parity

writes the largest deviation of every quantity, for docs/fidelity.md.
"""

import numpy as np

# (quantity, precision) -> largest deviation
_found: dict[tuple[str, str], float] = {}


def record(quantity: str, precision: str, deviation: float) -> None:
  """Keeps the deviation if it is the largest of its quantity so far."""
  key = quantity, precision
  _found[key] = max(_found.get(key, 0.0), float(deviation))


def assert_close(actual, expected, atol: float, quantity: str, precision: str):
  """np.testing.assert_allclose without relative tolerance, and recorded."""
  expected = np.asarray(expected)
  np.testing.assert_allclose(
    actual, expected, atol=atol, rtol=0, err_msg=quantity
  )
  if expected.size:
    deviation = np.abs(np.asarray(actual, np.float64) - expected).max()
    record(quantity, precision, deviation)


def markdown_table() -> str:
  """A row for each quantity, a column for each precision."""
  precisions = sorted({precision for _, precision in _found})
  lines = [
    f'| quantity | {" | ".join(precisions)} |',
    '| --- ' * (1 + len(precisions)) + '|',
  ]
  for quantity in dict.fromkeys(quantity for quantity, _ in _found):
    cells = [
      f'{_found[quantity, precision]:.1e}'
      if (quantity, precision) in _found
      else ''
      for precision in precisions
    ]
    lines.append(f'| {quantity} | {" | ".join(cells)} |')
  return '\n'.join(lines) + '\n'
