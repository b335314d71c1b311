"""`penstock events`: show and follow the events of the gateway."""

import json
import time
from functools import partial
from typing import Annotated

import typer

from penstock.cli.client import Document
from penstock.cli.console import data_console
from penstock.cli.formatting import date_of, table_of
from penstock.cli.options import Url, Where
from penstock.cli.retries import read_through_outage
from penstock.cli.route import use_gateway

POLL_S = 0.5
BATCH = 100


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(events)


def events(
    model: Annotated[str | None, typer.Option(help="Only events of this model.")] = None,
    limit: Annotated[int, typer.Option(help="Number of newest events.", min=1, max=1000)] = 50,
    follow: Annotated[bool, typer.Option("--follow", help="Print new events as they happen.")] = False,
    url: Url = None,
    registry: Where = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print each CloudEvent as a line of JSON.")] = False,
) -> None:
    """Show the newest events, oldest first."""
    with use_gateway(url, registry) as client:
        batch = client.events(model, None, limit)
        if not follow and not as_json:
            table = table_of("Seq", "When", "What", "Subject", "Reason")
            for item in batch:
                table.add_row(*_make_cells(item))
            data_console().print(table)
            return
        last = 0
        while True:
            for item in batch:
                last = item["sequence"]
                typer.echo(json.dumps(item) if as_json else "  ".join(_make_cells(item)))
            if not follow:
                return
            time.sleep(POLL_S)
            batch = read_through_outage(partial(client.events, model, last, BATCH))


def _make_cells(event: Document) -> tuple[str, ...]:
    data = event["data"]
    reason = str(data.get("reason") or data.get("message") or "")
    kind = event["type"].removeprefix("io.penstock.")
    return str(event["sequence"]), date_of(event["time"]), kind, event["subject"], reason
