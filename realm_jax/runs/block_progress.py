"""A progress bar for what goes through the blocks of a corpus."""

import contextlib
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import Progress


@contextlib.contextmanager
def block_progress(
  console: Console, title: str, num_blocks: int, transient: bool = False
) -> Iterator[Callable[[int], None]]:
  """Shows a bar; gives what is called with the number of blocks done.

  Args:
    console: where to show it.
    title: before the bar.
    num_blocks: in all.
    transient: whether it goes away at the end.
  """
  with Progress(console=console, transient=transient) as progress:
    task = progress.add_task(title, total=num_blocks)
    yield lambda num_done: progress.update(task, completed=num_done)
    progress.update(task, completed=num_blocks)
