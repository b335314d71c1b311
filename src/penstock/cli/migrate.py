"""`penstock migrate`: brings the tables of the registry to this release, in a step of a deployment of its own."""

from typing import Annotated

import typer

from penstock.cli.addresses import choose_location, read_settings
from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.options import AsJson, Where
from penstock.cli.registry_client import EXIT_OF
from penstock.core.errors import Fault


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(migrate)


def migrate(
    registry: Where = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds to connect, and to wait for other changes of the tables.", min=1)
    ] = 30.0,
    as_json: AsJson = False,
) -> None:
    """Create or migrate the tables of the registry, as a gateway of this release does when it starts."""
    from penstock.registry.db.database import open_database
    from penstock.registry.db.schema import REVISIONS
    from penstock.registry.registry import make_private

    location = choose_location(read_settings(registry))
    try:
        make_private(location.home)
        open_database(location.database, timeout_s=timeout).close()
    except Fault as fault:
        fail(fault.full_text, EXIT_OF.get(fault.kind, ExitCode.FAILURE))
    if as_json:
        print_json({"tables": REVISIONS[-1]})
    else:
        say(f"the registry has the tables of this release ({REVISIONS[-1]})")
