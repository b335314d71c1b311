"""`penstock loadtest`: open-loop load on a gateway, its report, and objectives that decide the exit code."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.failures import exit_with


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(loadtest)


def loadtest(
    name: Annotated[str, typer.Argument(metavar="NAME[:V]", help="The model; without a version the route decides.")],
    rate: Annotated[float | None, typer.Option(help="Requests a second. [100]", min=0.01)] = None,
    ramp: Annotated[
        str | None, typer.Option(metavar="A:B:S", help="From A to B requests a second in S seconds, then B.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Seconds to measure; of each window in a search. [30; 5]", min=0.1)
    ] = None,
    warmup: Annotated[float, typer.Option(help="Seconds of load before, which do not count.", min=0)] = 2.0,
    by_grpc: Annotated[bool, typer.Option("--grpc", help="Use gRPC instead of REST.")] = False,
    rows: Annotated[
        Path | None, typer.Option(help="File with inputs: CSV with a header, or JSON lines. [made from the signature]")
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Ops port of a gateway: inputs from the distributions of the reference there."
        ),
    ] = None,
    rows_per_request: Annotated[int, typer.Option(help="Rows of each request.", min=1, max=4096)] = 1,
    shape: Annotated[
        list[str] | None, typer.Option(metavar="INPUT=SIZE,…", help="Shape of an input of any size; repeatable.")
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="V|URL", help="Compare with a version, or with the gateway at an address.")
    ] = None,
    slo: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help="Objective, such as p99<20ms, errors<0.1%, rate>500; repeatable."),
    ] = None,
    find_capacity: Annotated[
        bool, typer.Option("--find-capacity", help="Search the highest rate that keeps the objectives.")
    ] = False,
    budget: Annotated[float, typer.Option(help="Most seconds of a search.", min=1)] = 300.0,
    connections: Annotated[int, typer.Option(help="Connections to the gateway.", min=1, max=1000)] = 32,
    arrivals: Annotated[
        str, typer.Option(metavar="poisson|constant", help="Random arrivals, or equal distances.")
    ] = "poisson",
    timeout: Annotated[float, typer.Option(help="Seconds until a request has failed.", min=0.01, max=600)] = 10.0,
    max_lag: Annotated[
        float, typer.Option(metavar="MS", help="Delay of the generator beyond which a result is invalid.", min=0)
    ] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of inputs and arrivals.", min=0)] = 1,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the report as JSON.")] = None,
    junit_file: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Write the objectives as JUnit XML.")
    ] = None,
    html_file: Annotated[Path | None, typer.Option("--html", metavar="FILE", help="Write a page with plots.")] = None,
    url: Annotated[
        str | None, typer.Option(help="HOST:PORT or https://HOST:PORT of the port for requests. [as in the settings]")
    ] = None,
) -> None:
    """Load a model of a running gateway, and compare with objectives.

    Exits with 4 if an objective is breached, and with 1 if the result is invalid.
    """
    from penstock.cli.loadtest.command import run
    from penstock.cli.loadtest.options import LoadTestOptions

    options = LoadTestOptions(
        name=name,
        rate=rate,
        ramp=ramp,
        seconds=seconds,
        warmup=warmup,
        by_grpc=by_grpc,
        rows=rows,
        reference=reference,
        rows_per_request=rows_per_request,
        shapes=tuple(shape or ()),
        against=against,
        slo=tuple(slo or ()),
        find_capacity=find_capacity,
        budget=budget,
        connections=connections,
        arrivals=arrivals,
        timeout=timeout,
        max_lag=max_lag,
        seed=seed,
        files={"json": json_file, "junit": junit_file, "html": html_file},
        url=url,
    )
    exit_with(lambda: run(options))
