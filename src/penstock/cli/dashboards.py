"""`penstock dashboards`: Grafana dashboards as files to provision or to import."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.console import fail, say
from penstock.cli.rules import CONSOLE, ConsoleUrl


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command("dashboards")(write_dashboards)


def write_dashboards(
    folder: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The folder; it is made if needed.")],
    console: ConsoleUrl = CONSOLE,
) -> None:
    """Write Grafana dashboards: fleet, model, rollouts and shadows, drift and quality."""
    from penstock.telemetry.dashboards.dashboards import dashboard_files

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in dashboard_files(console).items():
            (folder / name).write_text(text)
            say(f"wrote {folder / name}")
    except OSError as error:
        fail(f"{folder} cannot be written: {(error.strerror or 'error').lower()}")
