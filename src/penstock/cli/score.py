"""`penstock score`: score the rows of a file with a version of the registry, or through a gateway."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.addresses import address_of
from penstock.cli.client import Document
from penstock.cli.connections import describe, open_connection
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import as_call_failed, end_on_failure
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, Where, split_name
from penstock.cli.row_progress import OnRows, row_progress

if TYPE_CHECKING:
    from penstock.scoring.command import ScoreRequest

TIMEOUT_S = 60.0
"""Seconds to wait for one answer of a gateway."""

MONITOR_SUFFIX = ".monitor.json"
"""What follows the name of the result in that of the drift report."""


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(score)


def score(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME[:V|@ALIAS]", help="The model, and a version or an alias. [the champion]"),
    ],
    source: Annotated[Path, typer.Argument(metavar="IN", help="Rows: .parquet, .csv, .jsonl or .arrow.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The result, in the format of its suffix.")],
    join: Annotated[str, typer.Option(metavar="all|COLS", help="Columns of IN to copy, with commas.")] = "",
    id_column: Annotated[str, typer.Option(metavar="C", help="The column that identifies a row; it is copied.")] = "",
    label_column: Annotated[str, typer.Option(metavar="C", help="The column with true labels, for metrics.")] = "",
    against: Annotated[str, typer.Option(metavar="V", help="Another version or alias to compare with.")] = "",
    max_differences: Annotated[
        float | None,
        typer.Option(metavar="SHARE", min=0, max=1, help="End with code 4 if more rows than this disagree."),
    ] = None,
    monitor: Annotated[
        bool, typer.Option("--monitor", help="Write OUT.monitor.json: drift against the version's reference.")
    ] = False,
    explain: Annotated[
        int, typer.Option(min=0, metavar="K", help="Add the K features that add most to each answer. [none]")
    ] = 0,
    errors: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write rows that cannot be scored, as JSON lines. [such a row ends the run]"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where an interrupted run ended.")] = False,
    workers: Annotated[int, typer.Option(min=0, metavar="N", help="Threads that score. [one for each core]")] = 0,
    batch_rows: Annotated[int, typer.Option(min=0, help="Rows of a batch. [by the width of a row]")] = 0,
    features: Annotated[
        str, typer.Option(metavar="COLS", help="The columns of the features, in order. [as the version states them]")
    ] = "",
    url: Annotated[
        str | None,
        typer.Option("--gateway", metavar="URL", help="Score by a gateway: HOST:PORT or https://HOST:PORT. [here]"),
    ] = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Score a file row by row: the result has a row for each, in order, and appears when it is complete."""
    from penstock.scoring.command import ScoreRequest, run_request

    if max_differences is not None and not against:
        fail("--max-differences needs --against", ExitCode.USAGE)
    request = ScoreRequest(
        *split_name(name),
        source,
        target,
        join=join,
        id_column=id_column,
        label_column=label_column,
        against=against.removeprefix("@"),
        monitor=monitor,
        errors=errors,
        resume=resume,
        workers=workers,
        batch_rows=batch_rows,
        registry=registry or "",
        explain=explain,
        features=tuple(item.strip() for item in features.split(",") if item.strip()),
    )
    with end_on_failure(), as_call_failed(), row_progress(source.name) as on_progress:
        summary = run_request(request, on_progress) if url is None else _score_by_gateway(request, url, on_progress)
    drift = summary.pop("monitor", None)
    if drift is not None:
        target.with_name(target.name + MONITOR_SUFFIX).write_text(json.dumps(drift) + "\n")
    _show({**summary, **_drift_part(drift)}, as_json)
    if max_differences is not None and summary["against"]["share"] > max_differences:
        fail(f"{summary['against']['share']:.3%} of the rows disagree, over the limit", ExitCode.REFUSED)


def _score_by_gateway(request: "ScoreRequest", url: str, on_progress: OnRows) -> Document:
    from penstock.scoring.command import run_by_gateway

    address = address_of(url)
    return run_by_gateway(request, lambda: open_connection(address, TIMEOUT_S), describe(address), on_progress)


def _drift_part(drift: Document | None) -> Document:
    return {} if drift is None else {"drift": {name: drift[name] for name in ("drifting", "violated")}}


def _show(summary: Document, as_json: bool) -> None:
    if as_json:
        print_json(summary)
        return
    speed = f", {summary['rows_per_second']} rows/s" if summary["rows_per_second"] else ""
    say(f"{summary['model']}:{summary['version']}: {summary['rows']} rows in {summary['seconds']:.1f} s{speed}")
    if summary["resumed"]:
        say(f"rows that were scored before: {summary['resumed']}")
    if summary["failed"]:
        say(f"rows that could not be scored: {summary['failed']}")
    if "explanations" in summary:
        say(f"explanations: {summary['explanations']}, against the reference")
    if "drift" in summary:
        _show_drift(summary["drift"])
    if "against" in summary:
        other = summary["against"]
        say(f"version {other['version']} disagrees on {other['disagreements']} of {other['rows']} rows")
    if metrics := summary.get("performance", {}).get("metrics"):
        table = table_of("Metric", "Value")
        for metric, value in metrics.items():
            table.add_row(metric, f"{value:.6g}")
        data_console().print(table)


def _show_drift(drift: Document) -> None:
    drifting, violated = (", ".join(drift[name]) or "none" for name in ("drifting", "violated"))
    say(f"columns that drift: {drifting}; with more invalid values than usual: {violated}")
