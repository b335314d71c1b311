"""How every verb speaks: data on stdout, messages on stderr, and one meaning for each exit code."""

import json
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console

from penstock.core.texts import escaped, legible


class Exit(IntEnum):
    """What an exit code of `penstock` says."""

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
    """OnProgress the person something, on stderr."""
    typer.echo(legible(message), err=True)


def fail(message: str, code: Exit = Exit.FAILURE) -> NoReturn:
    """End the verb with one clear line on stderr.

    Raises:
        typer.Exit: always, with ``code``.
    """
    typer.echo(f"penstock: {legible(message)}", err=True)
    raise typer.Exit(code)


def print_json(document: Any) -> None:
    """A document for programs, on stdout."""
    typer.echo(escaped(json.dumps(document, indent=2, ensure_ascii=False)))


def data_console() -> Console:
    """Where tables go: stdout, without colour when it is not a terminal and never cut to a width there."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    return console
