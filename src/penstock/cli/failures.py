"""Ends a command that failed, with the sentence of the failure and its exit code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer

from penstock.cli.client import CallFailed
from penstock.cli.console import ExitCode, fail
from penstock.cli.registry_client import EXIT_OF
from penstock.cli.requests import BadData
from penstock.core.errors import Fault


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


@contextmanager
def as_call_failed() -> Iterator[None]:
    """Raise ``CallFailed`` for a fault, or an error of a file, with the exit code of its kind."""
    try:
        yield
    except Fault as fault:
        raise CallFailed(str(fault), EXIT_OF.get(fault.kind, ExitCode.FAILURE)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CallFailed(f"{where}{(error.strerror or type(error).__name__).lower()}", ExitCode.FAILURE) from None


def exit_with(run: Callable[[], int]) -> NoReturn:
    """End the command with the exit code that ``run`` returns, or with the sentence of what is wrong.

    Raises:
        typer.Exit: always.
    """
    try:
        with end_on_failure():
            code = run()
    except BadData as fault:
        fail(str(fault), ExitCode.USAGE)
    raise typer.Exit(code)
