"""`penstock retrain`: request retraining, and show its deliveries and candidates."""

from typing import Annotated

import typer

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, Name, ReasonOption, Url, Where
from penstock.cli.route import use_gateway


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(retrain)


def retrain(
    name: Name,
    version: Annotated[str | None, typer.Option(help="The version to replace. [the version that answers]")] = None,
    reason: ReasonOption = "",
    deliveries: Annotated[
        bool, typer.Option("--deliveries", help="Show the deliveries of events; request nothing.")
    ] = False,
    replay: Annotated[bool, typer.Option("--replay", help="Retry failed deliveries; request nothing.")] = False,
    candidates: Annotated[
        bool, typer.Option("--candidates", help="Show the candidates of earlier requests; request nothing.")
    ] = False,
    approve: Annotated[str | None, typer.Option(help="Approve this candidate for rollout; request nothing.")] = None,
    refuse: Annotated[
        str | None, typer.Option(help="Refuse this candidate; the request stays open for another version.")
    ] = None,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Request retraining of a model, whatever its rules decide."""
    if deliveries + replay + candidates + (approve is not None) + (refuse is not None) > 1:
        fail("use only one of --deliveries, --replay, --candidates, --approve and --refuse", ExitCode.USAGE)
    with use_gateway(url, registry) as client:
        if approve is not None or refuse is not None:
            answer = _decide(client, name, approve, refuse, reason)
        elif candidates:
            answer = client.candidates(name)
        elif deliveries:
            answer = client.deliveries(name)
        elif replay:
            answer = client.replay(name, reason)
        else:
            answer = client.retrain(name, version, reason)
    if as_json:
        print_json(answer)
    elif "candidates" in answer:
        _print_candidates(answer)
    elif replay:
        say(f"retrying {answer['deliveries']} deliveries")
    elif "deliveries" in answer:
        _print_deliveries(answer)
    else:
        sinks = f"sent to {', '.join(answer['sinks'])}" if answer["sinks"] else "sent nowhere: the policy has no sinks"
        say(f"requested retraining of {name}:{answer['version']}; {sinks}")
        typer.echo(answer["event"])


def _decide(client: AdminApiClient, model: str, approve: str | None, refuse: str | None, reason: str) -> Document:
    """Approve or refuse a candidate; one of the two versions is None."""
    if approve is not None:
        return client.approve(model, approve, reason)
    return client.refuse(model, refuse or "", reason)


def _print_deliveries(answer: Document) -> None:
    table = table_of("Event", "Sink", "State", "Attempts", "Error")
    for delivery in answer["deliveries"]:
        table.add_row(
            delivery["event"][:16], delivery["sink"], delivery["state"], str(delivery["attempts"]), delivery["error"]
        )
    data_console().print(table)


def _print_candidates(answer: Document) -> None:
    if answer["in_flight"] is None:
        say("no retraining request is open")
    table = table_of("Version", "State", "Against", "Held-out rows", "Metric", "Answering", "Reasons")
    for candidate in answer["candidates"]:
        scores = (candidate["exam"] or {}).get("whole") or {}
        figures = [scores.get(key) for key in ("rows", "candidate", "champion")]
        cells = ["" if value is None else f"{value:.4g}" for value in figures]
        table.add_row(
            candidate["version"], candidate["state"], candidate["against"], *cells, "; ".join(candidate["reasons"])
        )
    data_console().print(table)
