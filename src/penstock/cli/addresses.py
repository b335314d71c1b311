"""Where a gateway started with the same settings on this machine is to be found."""

import os
from pathlib import Path
from typing import Literal

from penstock import config
from penstock.cli.console import Exit, fail

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
"""Hosts that mean every interface, and the one to call then."""


def local_address(port: Literal["http", "grpc", "ops"]) -> str:
    """The host:port that the settings of the environment, or of the file it names, give; else the defaults.

    Raises:
        typer.Exit: the settings cannot be used.
    """
    try:
        file = os.environ.get("PENSTOCK_CONFIG")
        settings = config.load(Path(file) if file else None)
    except config.ConfigFault as fault:
        fail(str(fault), Exit.USAGE)
    ports = {"http": settings.http_port, "grpc": settings.grpc_port, "ops": settings.ops_port}
    return f"{EVERYWHERE.get(settings.host, settings.host)}:{ports[port]}"
