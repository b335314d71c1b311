"""`penstock whoami`: show who the gateway takes the caller for, and what it may do."""

from datetime import UTC, datetime

import typer

from penstock.cli.client import Document
from penstock.cli.console import data_console, print_json
from penstock.cli.failures import end_on_failure
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, Url, Where
from penstock.cli.registry_selection import open_gateway


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(whoami)


def whoami(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show the caller's name, how the gateway knows it, and its roles and models."""
    with end_on_failure():
        caller = open_gateway(url, registry).whoami()
    if as_json:
        print_json(caller)
        return
    typer.echo(f"{caller['name']} ({', '.join(_describe_caller(caller))})")
    table = table_of("Models", "Roles", "Permissions")
    for grant in caller["grants"]:
        table.add_row(grant["models"], ", ".join(grant["roles"]), ", ".join(grant["permissions"]))
    data_console().print(table)


def _describe_caller(caller: Document) -> list[str]:
    details = [caller["method"]]
    details += [f"key {caller['key_id']}"] if caller["key_id"] else []
    details += [f"groups {' '.join(caller['groups'])}"] if caller["groups"] else []
    if caller["expires_at"] is not None:
        end = datetime.fromtimestamp(caller["expires_at"], UTC).astimezone()
        details.append(f"until {end:%Y-%m-%d %H:%M:%S}")
    return details
