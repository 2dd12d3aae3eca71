"""Where the numbers of the original programs lie, and which cases they have."""

import json
import os
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FOLDER = Path(
  os.environ.get(
    'REALM_JAX_FIXTURES', REPOSITORY.parent / 'shared' / 'fixtures'
  )
)

# These are no cases: they hold what several cases have in common.
_COMMON = {'joint', 'shared'}


def pytorch_cases(name: str) -> list[str]:
  """The cases of a file in hf_realm/; none where there is no such file."""
  path = FOLDER / 'hf_realm' / name
  if not path.is_file():
    return []
  with np.load(path) as arrays:
    listed = json.loads(str(arrays['meta']))['cases']
    recorded = {
      key.removeprefix('output64:').split('/')[0]
      for key in arrays
      if key.startswith('output64:')
    }
  return sorted({*listed, *recorded} - _COMMON)
