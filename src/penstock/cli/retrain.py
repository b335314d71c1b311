"""`penstock retrain`: ask for a model to be trained again, and see what became of what was asked."""

from typing import Annotated

import typer

from penstock.cli.client import Document
from penstock.cli.console import Exit, data_console, fail, print_json, say
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, Name, Reason, Url, Where
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
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Ask nothing; show the versions that came of a request.")
    ] = False,
    approve: Annotated[str | None, typer.Option(help="Ask nothing; let this version be rolled out.")] = None,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Ask for a model to be trained again, whatever its rules say."""
    if deliveries + replay + candidates + (approve is not None) > 1:
        fail("one of --deliveries, --replay, --candidates and --approve at a time", Exit.USAGE)
    with gateway(url, registry) as found:
        if approve is not None:
            told = found.approve(name, approve, reason)
        elif candidates:
            told = found.candidates(name)
        elif deliveries:
            told = found.deliveries(name)
        elif replay:
            told = found.replay(name, reason)
        else:
            told = found.retrain(name, version, reason)
    if as_json:
        print_json(told)
    elif "candidates" in told:
        _show_candidates(told)
    elif replay:
        say(f"{told['deliveries']} deliveries are tried again")
    elif "deliveries" in told:
        _show_deliveries(told)
    else:
        sinks = ", ".join(told["sinks"]) or "nobody: the policy has no sinks"
        say(f"asked for {name}:{told['version']} to be trained again; told to {sinks}")
        typer.echo(told["event"])


def _show_deliveries(told: Document) -> None:
    table = table_of("Event", "Sink", "State", "Attempts", "Error")
    for one in told["deliveries"]:
        table.add_row(one["event"][:16], one["sink"], one["state"], str(one["attempts"]), one["error"])
    data_console().print(table)


def _show_candidates(told: Document) -> None:
    if told["in_flight"] is None:
        say("no request for retraining is under way")
    table = table_of("Version", "State", "Against", "Held-out rows", "Metric", "Answering", "Reasons")
    for one in told["candidates"]:
        marks = (one["exam"] or {}).get("whole") or {}
        figures = [marks.get(key) for key in ("rows", "candidate", "champion")]
        shown = ["" if value is None else f"{value:.4g}" for value in figures]
        table.add_row(one["version"], one["state"], one["against"], *shown, "; ".join(one["reasons"]))
    data_console().print(table)
