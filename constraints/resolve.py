"""Pins what pip chooses for realm_jax[all] under the running interpreter.

  python3.12 constraints/resolve.py

writes constraints/py312.txt. One resolution covers every extra, so that adding
an extra to an environment later changes nothing already in it.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
# Come with the interpreter or with the virtual environment.
UNPINNED = {'pip', 'setuptools', 'wheel', 'realm_jax'}


def resolve() -> dict[str, str]:
  """Asks pip, which installs nothing: package name -> version."""
  with tempfile.TemporaryDirectory() as folder:
    report = Path(folder) / 'report.json'
    subprocess.run(
      [
        *(sys.executable, '-m', 'pip', 'install', '--quiet', '--dry-run'),
        *('--ignore-installed', '--report', report, f'{FOLDER.parent}[all]'),
      ],
      check=True,
    )
    packages = json.loads(report.read_text(encoding='utf-8'))['install']
  return {
    package['metadata']['name']: package['metadata']['version']
    for package in packages
  }


def main() -> None:
  """Writes the constraints file of the running interpreter."""
  versions = resolve()
  major, minor = sys.version_info[:2]
  path = FOLDER / f'py{major}{minor}.txt'
  lines = [
    f'# Tested with Python {major}.{minor}. Made by constraints/resolve.py.',
    *(
      f'{name}=={versions[name]}'
      for name in sorted(versions, key=str.lower)
      if name not in UNPINNED
    ),
  ]
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  print(f'{path}: {len(lines) - 1} packages')


if __name__ == '__main__':
  main()
