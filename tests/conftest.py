"""What every test runs under, and a fresh interpreter for those that ask.

Settings go through the environment, before JAX is imported, so that the
processes which tests start run under them too.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import hypothesis
import pytest

REPOSITORY = Path(__file__).resolve().parent.parent

os.environ.update(
  # An implicit change of rank hides swapped axes.
  JAX_NUMPY_RANK_PROMOTION='raise',
  # Simulated, for what is spread over a mesh.
  JAX_NUM_CPU_DEVICES='8',
  # No test may reach for a network.
  HF_HUB_OFFLINE='1',
)
for name, value in {
  # Most of the time of a first run is compilation: it is done quickly rather
  # than well, and a second run reuses it.
  'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
  'JAX_COMPILATION_CACHE_DIR': str(REPOSITORY / '.cache' / 'jax'),
  'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0.2',
  'TF_CPP_MIN_LOG_LEVEL': '3',
  'TOKENIZERS_PARALLELISM': 'false',
}.items():
  os.environ.setdefault(name, value)
if tuple(map(int, version('jaxlib').split('.')[:2])) < (0, 12):
  # A training step compiles in half the time without XLA's newer emitters. From
  # 0.12 on there are no others, and XLA aborts over a flag it does not know.
  os.environ.setdefault('XLA_FLAGS', '--xla_cpu_use_fusion_emitters=false')

hypothesis.settings.register_profile(
  'realm_jax',
  deadline=None,  # the first call compiles
  max_examples=25,
  # the same examples in every run of CI; new ones elsewhere
  derandomize='CI' in os.environ,
)
hypothesis.settings.load_profile('realm_jax')


# Files that take minutes, the longest first: begun last, one would go on alone.
_LONG_FILES = (
  'test_on_hosts',
  'test_sharded_step',
  'test_refresh',
  'test_kills',
  'test_end_to_end',
  'test_pretrain',
)


def _rank(item: pytest.Item) -> int:
  name = item.path.stem
  return _LONG_FILES.index(name) if name in _LONG_FILES else len(_LONG_FILES)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
  """Long files first; skips what needs a GPU where there is none."""
  items.sort(key=_rank)
  needing_gpu = [item for item in items if item.get_closest_marker('gpu')]
  if not needing_gpu:
    return
  import jax

  if jax.default_backend() != 'gpu':
    for item in needing_gpu:
      item.add_marker(pytest.mark.skip(reason='needs a GPU'))


@pytest.fixture
def run_python(tmp_path) -> Callable[..., str]:
  """Runs code in a fresh interpreter and returns what it printed.

  `run_python(code, *arguments, num_devices=8, BLOCKED='x')`: num_devices
  simulates that many CPU devices, other keywords are environment variables.
  The test fails with the traceback if the code does.
  """

  def run(
    code: str, *arguments: str, num_devices: int = 1, **environment: str
  ) -> str:
    flags = os.environ.get('XLA_FLAGS', '')
    if num_devices > 1:
      flags += f' --xla_force_host_platform_device_count={num_devices}'
    finished = subprocess.run(
      [sys.executable, '-c', code, *arguments],
      env={**os.environ, 'XLA_FLAGS': flags, **environment},
      cwd=tmp_path,
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout

  return run


@pytest.fixture
def run_on_hosts(tmp_path) -> Callable[..., list[subprocess.CompletedProcess]]:
  """Runs code in two processes of four simulated devices each.

  `run_on_hosts(code, *arguments)`: the code finds in sys.argv[1:] the address
  of the coordinator, the number of the process and the arguments.
  """

  def run(code: str, *arguments: str) -> list[subprocess.CompletedProcess]:
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      address = f'127.0.0.1:{free.getsockname()[1]}'
    processes = [
      subprocess.Popen(
        [sys.executable, '-c', code, address, number, *map(str, arguments)],
        env={
          **os.environ,
          'JAX_NUM_CPU_DEVICES': '4',
          'PYTHONPATH': str(REPOSITORY / 'tests'),
        },
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
      )
      for number in ('0', '1')
    ]
    try:
      # One after the other: what the second prints fits in its pipe.
      printed = [process.communicate(timeout=900)[0] for process in processes]
    finally:
      for process in processes:
        process.kill()
    return [
      subprocess.CompletedProcess(process.args, process.returncode, text)
      for process, text in zip(processes, printed, strict=True)
    ]

  return run


@pytest.fixture(scope='session')
def tiny_corpus(tmp_path_factory) -> Path:
  """Folder of the corpus of tiny.documents."""
  import tiny

  return tiny.make_corpus(tmp_path_factory.mktemp('tiny'))


@pytest.fixture(scope='session')
def tiny_questions(tmp_path_factory) -> Path:
  """File of tiny.questions."""
  import tiny

  folder = tmp_path_factory.mktemp('questions')
  return tiny.write_lines(folder / 'questions.jsonl', tiny.questions())


@pytest.fixture(scope='session')
def tiny_start(tmp_path_factory, tiny_corpus) -> Path:
  """Folder of a run with new parameters."""
  import tiny

  return tiny.make_untrained_run(tmp_path_factory.mktemp('start'), tiny_corpus)


@pytest.fixture(scope='session')
def tiny_pretrained(
  tmp_path_factory, tiny_corpus, tiny_start, tiny_questions
) -> Path:
  """Folder of a pre-training run of 11 steps that was never stopped."""
  import tiny

  from realm_jax.runs.pretrain import pretrain

  folder = tmp_path_factory.mktemp('pretrained') / 'run'
  pretrain(
    str(tiny_corpus),
    str(folder),
    str(tiny_start),
    probe_questions=str(tiny_questions),
    **tiny.PRETRAIN,
  )
  return folder
