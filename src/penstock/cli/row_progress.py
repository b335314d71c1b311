"""Shows the progress of work on the rows of a file: the part that is done, rows a second, and the time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

OnRows = Callable[[int, float], None]
"""Takes the rows that are done, and their part of the file (0 to 1)."""


@contextmanager
def row_progress(what: str, clock: Callable[[], float] = time.monotonic) -> Iterator[OnRows]:
    """Show a bar on stderr if that is a terminal; yield the function that moves it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _rows, _part: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]} rows, {task.fields[speed]} rows/s"),
        TimeRemainingColumn(),
    )
    began = clock()
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=1.0, rows=0, speed=0)

        def on_rows(rows: int, part: float) -> None:
            bars.update(task, completed=part, rows=rows, speed=rows_a_second(rows, clock() - began))

        yield on_rows


def rows_a_second(rows: int, seconds: float) -> int:
    """Return the rows of a second, 0 before any time has passed."""
    return round(rows / seconds) if seconds > 0 else 0
