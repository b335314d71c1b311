"""Ends a command whose call failed, with the sentence of the failure and its exit code."""

from collections.abc import Iterator
from contextlib import contextmanager

from penstock.cli.client import CallFailed
from penstock.cli.console import fail


@contextmanager
def end_on_failure() -> Iterator[None]:
    """Print why a call failed, and end the command.

    Raises:
        typer.Exit: a call has failed.
    """
    try:
        yield
    except CallFailed as failure:
        fail(str(failure), failure.code)
