"""`penstock console`: open the console of a gateway in a browser."""

import os
import webbrowser
from collections.abc import Mapping
from typing import Annotated

import typer

from penstock.cli.addresses import page_address
from penstock.cli.console import say
from penstock.cli.options import Url, Where

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(console)


def console(
    url: Url = None,
    registry: Where = None,
    no_open: Annotated[bool, typer.Option("--no-open", help="Only print the address.")] = False,
) -> None:
    """Print the address of the console, and open it in a browser where there is a display."""
    address = page_address(url, registry)
    typer.echo(address)
    if not no_open and has_display(os.environ) and not webbrowser.open(address):
        say("no browser could be started; open the address above")


def has_display(environment: Mapping[str, str]) -> bool:
    """Whether a graphical browser can be shown; a text browser would take the terminal."""
    return any(environment.get(name) for name in DISPLAYS)
