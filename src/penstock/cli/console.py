"""The output of every verb: data on stdout, messages on stderr, and the exit codes."""

import json
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console

from penstock.core.texts import escape_terminal, make_legible


class ExitCode(IntEnum):
    """Exit codes of `penstock`."""

    OK = 0
    FAILURE = 1
    USAGE = 2
    NOT_FOUND = 3
    REFUSED = 4
    UNAUTHORISED = 5
    CONFLICT = 6
    UNAVAILABLE = 7
    INTEGRITY = 8


def say(message: str) -> None:
    """Print a message for people on stderr."""
    typer.echo(make_legible(message), err=True)


def fail(message: str, code: ExitCode = ExitCode.FAILURE) -> NoReturn:
    """Print an error on stderr and end the verb.

    Raises:
        typer.Exit: always, with ``code``.
    """
    typer.echo(f"penstock: {make_legible(message)}", err=True)
    raise typer.Exit(code)


def print_json(document: Any) -> None:
    """Print a document as JSON on stdout."""
    typer.echo(escape_terminal(json.dumps(document, indent=2, ensure_ascii=False)))


def data_console() -> Console:
    """Return the console for tables: stdout; if that is not a terminal, without colour and without a limit of width."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    return console
