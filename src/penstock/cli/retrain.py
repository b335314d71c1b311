"""`penstock retrain`: ask for a model to be trained again, and see what became of what was asked."""

from typing import Annotated

import typer

from penstock.cli.console import data_console, print_json, say
from penstock.cli.models import AsJson, Name, Reason, Url, Where, table_of
from penstock.cli.route import gateway


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(retrain)


def retrain(
    name: Name,
    version: Annotated[str | None, typer.Option(help="The version it is about; else the one that answers.")] = None,
    reason: Reason = "",
    deliveries: Annotated[bool, typer.Option("--deliveries", help="Ask nothing; show what became of events.")] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Try again what sinks did not take.")] = False,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a model to be trained again, whatever its rules say."""
    with gateway(url, registry) as found:
        if deliveries:
            told = found.deliveries(name)
        elif replay:
            told = found.replay(name, reason)
        else:
            told = found.retrain(name, version, reason)
    if as_json:
        print_json(told)
    elif deliveries:
        table = table_of("Event", "Sink", "State", "Attempts", "Error")
        for one in told["deliveries"]:
            table.add_row(one["event"][:16], one["sink"], one["state"], str(one["attempts"]), one["error"])
        data_console().print(table)
    elif replay:
        say(f"{told['deliveries']} deliveries are tried again")
    else:
        sinks = ", ".join(told["sinks"]) or "nobody: the policy has no sinks"
        say(f"asked for {name}:{told['version']} to be trained again; told to {sinks}")
        typer.echo(told["event"])
