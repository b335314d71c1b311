"""`penstock serve`: run the gateway."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.start import CONFIG_VARIABLE, start


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(serve)


def serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DIR]...", help="Folders with models, or s3://BUCKET/PREFIX. [the registry]"),
    ] = None,
    model_name: Annotated[
        str | None, typer.Option(metavar="NAME", help="DIR is the folder of this one model, or its graph.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="URL", help="Folder, sqlite:/// or postgresql:// URL. [$PENSTOCK_HOME]")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address of the REST and gRPC ports. [127.0.0.1]")] = None,
    http_port: Annotated[int | None, typer.Option(help="REST port, 0 picks a free one. [8000]")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port, 0 picks a free one. [8001]")] = None,
    ops_port: Annotated[int | None, typer.Option(help="Health and metrics port, 0 picks a free one. [8002]")] = None,
    ops_host: Annotated[str | None, typer.Option(help="Address of the ops port. [127.0.0.1]")] = None,
    insecure_no_auth: Annotated[
        bool, typer.Option("--insecure-no-auth", help="Listen beyond loopback without auth and tls.")
    ] = False,
    workers: Annotated[str | None, typer.Option(metavar="N|auto", help="Worker processes. [1]")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file with settings.", envvar=CONFIG_VARIABLE)] = None,
    ready_file: Annotated[Path | None, typer.Option(help="JSON file to write when ready.")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Largest message in bytes. [67108864]")] = None,
    deadline: Annotated[float | None, typer.Option(help="Deadline in seconds for requests without one. [60]")] = None,
    drain_delay: Annotated[
        float | None, typer.Option(help="Seconds to keep serving after readiness is off. [1]")
    ] = None,
    drain_timeout: Annotated[float | None, typer.Option(help="Seconds for open requests at a stop. [25]")] = None,
    orphan_grace: Annotated[
        float | None, typer.Option(help="Seconds that workers serve without a control process. [60]")
    ] = None,
    log_level: Annotated[str | None, typer.Option(metavar="debug|info|warning|error", help="[info]")] = None,
) -> None:
    """Run the gateway with the models of folders and buckets, or those of the registry: REST, gRPC, and the ops port.

    Settings come from flags, then PENSTOCK_... variables, then the --config file, then the defaults in brackets.
    """
    flags = {
        "models": models or None,
        "model_name": model_name,
        "registry": registry,
        "host": host,
        "http_port": http_port,
        "grpc_port": grpc_port,
        "ops_port": ops_port,
        "ops_host": ops_host,
        "insecure_no_auth": insecure_no_auth or None,
        "workers": workers,
        "ready_file": ready_file,
        "limits.max_body_bytes": max_body_bytes,
        "limits.deadline_seconds": deadline,
        "stop.drain_delay_seconds": drain_delay,
        "stop.drain_timeout_seconds": drain_timeout,
        "stop.orphan_grace_seconds": orphan_grace,
        "log_level": log_level,
    }
    if code := start(config, flags):
        raise typer.Exit(code)
