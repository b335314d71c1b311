"""`penstock replay`: captured traffic again, its report, and a limit of differences that decides the exit code."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.failures import exit_with
from penstock.cli.options import Where


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(replay)


def replay(
    captures: Annotated[
        list[str],
        typer.Argument(
            metavar="CAPTURE",
            help="NAME[:V] as this machine's gateway captured it, a folder of segments, a segment, or Parquet of "
            "`capture`; several are merged by time.",
        ),
    ],
    to: Annotated[
        str,
        typer.Option("--to", metavar="URL|NAME[:V]", help="A gateway, or a model at the gateway on this machine."),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", metavar="NAME[:V]", help="The model at URL. [that of CAPTURE; the route decides]"),
    ] = None,
    speed: Annotated[
        str, typer.Option(metavar="X|asap", help="Times the captured speed, or as fast as the connections allow.")
    ] = "1",
    compare: Annotated[
        bool, typer.Option("--compare", help="Compare answers with the captured ones; each request is sent twice.")
    ] = False,
    max_differences: Annotated[
        str,
        typer.Option(metavar="SHARE", help="Share of requests that may differ beyond noise, such as 0.001 or 0.1%."),
    ] = "0",
    by_grpc: Annotated[bool, typer.Option("--grpc", help="Use gRPC instead of REST.")] = False,
    connections: Annotated[
        int, typer.Option(help="Connections to the gateway, each with one request at a time.", min=1, max=1000)
    ] = 16,
    timeout: Annotated[float, typer.Option(help="Seconds until a request has failed.", min=0.01, max=600)] = 10.0,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the findings as JUnit XML.")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    registry: Where = None,
) -> None:
    """Send captured requests again, and compare the answers with the captured ones.

    Exits with 4 if more requests differ than --max-differences allows, and with 1 if the result says nothing.
    """
    from penstock.cli.replay.command import ReplayOptions, run

    options = ReplayOptions(
        captures=tuple(captures),
        to=to,
        model=model,
        speed=speed,
        compares=compare,
        max_differences=max_differences,
        by_grpc=by_grpc,
        connections=connections,
        timeout=timeout,
        files={"json": json_file, "junit": junit_file, "html": html_file},
        registry=registry,
    )
    exit_with(lambda: run(options))
