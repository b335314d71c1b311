"""`penstock audit`: show who changed what, when and why, from the database and from archives of older changes."""

import json
from collections.abc import Iterable
from typing import Annotated

import typer

from penstock.cli.client import CallFailed, Document
from penstock.cli.console import ExitCode, data_console, fail, print_json
from penstock.cli.formatting import date_of, table_of
from penstock.cli.options import AsJson, Url, Where
from penstock.cli.registry_selection import open_registry


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(audit)


def audit(
    model: Annotated[str | None, typer.Option(help="Only changes of this model.")] = None,
    limit: Annotated[int, typer.Option(help="Number of newest changes.", min=1, max=1000)] = 50,
    archives: Annotated[bool, typer.Option("--archives", help="List the archives of older changes.")] = False,
    archive: Annotated[str | None, typer.Option(metavar="NAME", help="Show the changes in this archive.")] = None,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest changes, oldest first."""
    if archives and archive is not None:
        fail("use either --archives or --archive, not both", ExitCode.USAGE)
    try:
        opened = open_registry(url, registry)
        if archives:
            _show_archives(opened.audit_archives(), as_json)
        else:
            _show_entries(opened.audit(model, limit, archive), as_json)
    except CallFailed as failure:
        fail(str(failure), failure.code)


def _show_archives(archives: Iterable[Document], as_json: bool) -> None:
    if as_json:
        print_json({"archives": archives})
        return
    table = table_of("Name", "From", "To", "Rows", "Bytes", "Dropped")
    for archive in archives:
        times = (date_of(archive["from"]), date_of(archive["to"]))
        table.add_row(
            archive["name"], *times, str(archive["rows"]), str(archive["bytes"]), date_of(archive["dropped_at"])
        )
    data_console().print(table)


def _show_entries(entries: Iterable[Document], as_json: bool) -> None:
    if as_json:
        print_json({"entries": entries})
        return
    table = table_of("Seq", "When", "Who", "What", "Subject", "Before", "After", "Reason")
    for entry in entries:
        before, after = (json.dumps(entry[side]) if entry[side] is not None else "" for side in ("before", "after"))
        cells = (str(entry["seq"]), date_of(entry["at"]), entry["actor"], entry["action"], entry["subject"])
        table.add_row(*cells, before[:60], after[:60], entry["reason"])
    data_console().print(table)
