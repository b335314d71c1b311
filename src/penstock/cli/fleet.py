"""`penstock fleet`: show the gateways that share a registry, their leader, and what each serves."""

from datetime import UTC, datetime

import typer

from penstock.cli.client import Document
from penstock.cli.console import data_console, print_json
from penstock.cli.formatting import date_of, table_of
from penstock.cli.options import AsJson, Url, Where
from penstock.cli.route import use_gateway

HEADINGS = ("Gateway", "Host", "Version", "Started", "Last seen", "State", "Leads", "Lag", "Ready")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(fleet)


def fleet(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show the gateways of the fleet."""
    with use_gateway(url, registry) as client:
        document = client.fleet()
    if as_json:
        print_json(document)
        return
    table = table_of(*HEADINGS)
    for item in document["gateways"]:
        table.add_row(*make_cells(item, document))
    data_console().print(table)


def make_cells(gateway: Document, fleet: Document) -> tuple[str, ...]:
    """Return a gateway's row: the lag is in registry revisions, and Ready lists models and their versions."""
    started = date_of(datetime.fromtimestamp(gateway["started"], UTC).isoformat())
    leads = f"term {fleet['term']}" if gateway["leads"] else ""
    ready = " ".join(f"{model}:{','.join(versions)}" for model, versions in gateway["serves"].items())
    lag = str(max(0, fleet["revision"] - gateway["revision"]))
    last_seen = f"{gateway['silent_seconds']:.0f} s ago"
    return gateway["id"], gateway["host"], gateway["version"], started, last_seen, gateway["state"], leads, lag, ready
