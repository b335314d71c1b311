"""`penstock health`: check whether a gateway is ready, as a container's health check."""

import json
from http.client import HTTPException
from typing import Annotated, Any

import typer

from penstock.cli.addresses import health_address, ops_address
from penstock.cli.connections import Address, describe, open_connection
from penstock.cli.console import ExitCode, print_json, say
from penstock.cli.tls import explain


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(health)


def health(
    url: Annotated[str | None, typer.Option(help="HOST:PORT of the ops port. [the gateway of the settings]")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.", min=0.01)] = 2.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the answer of /readyz.")] = False,
) -> None:
    """Check whether a gateway is ready: exit 0 if it is, 7 if it is not or does not answer."""
    ready, facts = ask(ops_address(url) if url else health_address(), timeout)
    if as_json:
        print_json(facts)
    else:
        say("ready" if ready else f"not ready: {json.dumps(facts)}")
    raise typer.Exit(ExitCode.OK if ready else ExitCode.UNAVAILABLE)


def ask(address: Address, timeout_s: float) -> tuple[bool, Any]:
    """Return whether the gateway with its ops port at ``address`` is ready, and its answer."""
    connection = open_connection(address, timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        return answer.status == 200, json.loads(answer.read())
    except (OSError, HTTPException, ValueError) as error:
        return False, {"error": f"no answer from {describe(address)}: {explain(error)}"}
    finally:
        connection.close()
