"""`penstock audit`: who changed what, when and why."""

import json
from typing import Annotated

import typer

from penstock.cli.client import CallFailed
from penstock.cli.console import data_console, fail, print_json
from penstock.cli.formatting import date_of, table_of
from penstock.cli.options import AsJson, Url, Where
from penstock.cli.registry_selection import open_registry


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(audit)


def audit(
    model: Annotated[str | None, typer.Option(help="Only changes of this model.")] = None,
    limit: Annotated[int, typer.Option(help="So many of the newest.", min=1, max=1000)] = 50,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest changes, oldest first."""
    try:
        entries = open_registry(url, registry).audit(model, limit)
    except CallFailed as failure:
        fail(str(failure), failure.code)
    if as_json:
        print_json({"entries": entries})
        return
    table = table_of("Seq", "When", "Who", "What", "Subject", "Before", "After", "Reason")
    for one in entries:
        before, after = (json.dumps(one[side]) if one[side] is not None else "" for side in ("before", "after"))
        cells = (str(one["seq"]), date_of(one["at"]), one["actor"], one["action"], one["subject"])
        table.add_row(*cells, before[:60], after[:60], one["reason"])
    data_console().print(table)
