"""Shows a progress bar for transfers."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeElapsedColumn, TransferSpeedColumn

from penstock.cli.registry_client import OnProgress


@contextmanager
def show_progress(what: str) -> Iterator[OnProgress]:
    """Show a bar on stderr if that is a terminal; yield the function that moves it."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield lambda _done, _total: None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task(what, total=None)

        def on_progress(done: int, total: int) -> None:
            label = f"{what}: waiting for examination and load" if total and done == total else what
            bars.update(task, completed=done, total=total or None, description=label)

        yield on_progress
