"""`penstock capture`: export captured requests as a table for retraining and replay."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.addresses import location_in, read_settings
from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.options import AsJson, Where


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(capture)


def capture(
    target: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="The model and its version.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The Parquet file to write.")],
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Write the captured requests of a version and their labels as Parquet, from the gateway on this machine."""
    from penstock.core.errors import Fault
    from penstock.monitor.answer_segments import ANSWERS
    from penstock.monitor.answer_store import AnswerStore
    from penstock.monitor.capture import CAPTURES
    from penstock.monitor.captured_rows import CapturedRows, RowSelection
    from penstock.monitor.row_tables import write_table

    name, colon, version = target.rpartition(":")
    if not colon or not name or not version:
        fail(f"'{target}' has no version; expected NAME:VERSION", ExitCode.USAGE)
    home, selection = location_in(read_settings(registry)).home, RowSelection(name, version)
    captured = CapturedRows(home / CAPTURES, AnswerStore(home / ANSWERS))
    try:
        rows = write_table(captured.batches(selection), selection, output)
    except Fault as fault:
        fail(str(fault), ExitCode.NOT_FOUND if fault.kind == "not_found" else ExitCode.FAILURE)
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or 'error').lower()}", ExitCode.USAGE)
    if as_json:
        print_json({"rows": rows, "file": str(output)})
    else:
        say(f"{rows} rows")
        typer.echo(str(output))
