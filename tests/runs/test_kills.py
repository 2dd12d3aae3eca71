"""A sample of experiments/kills: one kill under each schedule."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / 'experiments' / 'kills' / 'run.py'


@pytest.mark.long
def test_runs_killed_at_random_moments_end_as_if_they_were_not(tmp_path):
  finished = subprocess.run(
    [sys.executable, str(SCRIPT), '--out', str(tmp_path), '--num-kills', '5'],
    stdin=subprocess.DEVNULL,
    capture_output=True,
    text=True,
  )
  assert finished.returncode == 0, finished.stdout + finished.stderr
  lines = (tmp_path / 'kills.jsonl').read_text().splitlines()
  records = [json.loads(line) for line in lines]
  assert len({record['policy'] for record in records}) == 5
  assert all(record['same'] for record in records)
