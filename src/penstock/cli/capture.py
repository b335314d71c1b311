"""`penstock capture`: export captured requests for retraining and replay, and erase those of a subject."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from penstock.cli.addresses import choose_location, read_settings
from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, ReasonOption, Url, Where
from penstock.cli.registry_selection import open_registry

if TYPE_CHECKING:
    from penstock.config.settings import Settings
    from penstock.monitor.captured_rows import RowSelection

COUNTS = {
    "requests": "captured requests",
    "rows": "captured rows",
    "answers": "remembered answers",
    "gathered": "rows gathered for references",
    "exported": "exported rows",
    "files": "files written anew",
}
"""What is removed, and what people read for it."""


class _ExportByDefault(TyperGroup):
    """A group whose verb may be left out: `penstock capture NAME:VERSION` exports."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["export", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    help_text = "Export captured requests, and erase those of a subject; `capture NAME:VERSION -o FILE` exports."
    group = typer.Typer(cls=_ExportByDefault, no_args_is_help=True, help=help_text)
    group.command()(export)
    group.command()(forget)
    app.add_typer(group, name="capture")


def export(
    target: Annotated[str, typer.Argument(metavar="NAME:VERSION", help="The model and its version.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The Parquet file to write.")],
    of_fleet: Annotated[
        bool, typer.Option("--fleet", help="Of every gateway that shares --registry, and not only of this machine.")
    ] = False,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Write the captured requests of a version and their labels as Parquet, from the gateway on this machine.

    With --fleet the newest of all gateways, up to 1,000,000 rows or 1 GiB; exit 7 if some gateway is away.
    """
    from penstock.core.errors import Fault
    from penstock.monitor.captured_rows import RowSelection

    name, colon, version = target.rpartition(":")
    if not colon or not name or not version:
        fail(f"'{target}' has no version; expected NAME:VERSION", ExitCode.USAGE)
    try:
        written = _write(read_settings(registry), RowSelection(name, version), output, of_fleet)
    except Fault as fault:
        fail(str(fault), _EXITS.get(fault.kind, ExitCode.FAILURE))
    except OSError as error:
        fail(f"{error.filename}: {(error.strerror or 'error').lower()}", ExitCode.USAGE)
    if as_json:
        print_json({**written, "file": str(output)})
    else:
        say(f"{written['rows']} rows")
        typer.echo(str(output))
    for gateway, why in written.get("missing", {}).items():
        say(f"the rows of gateway {gateway} are missing: {why}")
    if written.get("missing"):
        raise typer.Exit(ExitCode.UNAVAILABLE)


_EXITS = {
    "not_found": ExitCode.NOT_FOUND,
    "not_ready": ExitCode.UNAVAILABLE,
    "unsupported": ExitCode.USAGE,
}


def _write(settings: "Settings", selection: "RowSelection", output: Path, of_fleet: bool) -> Document:
    """Write the rows; return their number, and with ``of_fleet`` that of each gateway and why others are missing."""
    from penstock.core.errors import NotFound
    from penstock.monitor.answer_segments import ANSWERS
    from penstock.monitor.answer_store import AnswerStore
    from penstock.monitor.capture import CAPTURES
    from penstock.monitor.captured_rows import CapturedRows
    from penstock.monitor.row_tables import write_table

    location = choose_location(settings)
    if not of_fleet:
        captured = CapturedRows(location.home / CAPTURES, AnswerStore(location.home / ANSWERS))
        return {"rows": write_table(captured.batches(selection), selection, output)}
    from penstock.cli.fleet_capture import write_fleet_rows

    available = write_fleet_rows(location, selection, output)
    if not available.rows:
        raise NotFound(f"no gateway has captured anything of model '{selection.model}' version '{selection.version}'")
    return available.document()


def forget(
    key: Annotated[
        str,
        typer.Option(
            "--key",
            metavar="COLUMN=VALUE",
            help="The value that identifies the subject: of a feature, a tensor, NAME[INDEX], or id for a request id.",
        ),
    ],
    name: Annotated[str | None, typer.Argument(help="The model. [all models]")] = None,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Erase the rows of a subject from captures, remembered answers, gathered rows and exports, at every gateway.

    Exit 1 if something could not be searched, 7 if a gateway is away; it erases when it is back.
    """
    from penstock.core.erasure import subject_key
    from penstock.core.errors import Fault

    try:
        subject = subject_key(key)
        with end_on_failure():
            removed = open_registry(url, registry).forget(name, subject.column, subject.value, reason)
    except Fault as fault:
        fail(f"--key: {fault}", ExitCode.USAGE)
    print_json(removed) if as_json else _show(removed)
    if removed["problems"] or removed["missing"]:
        raise typer.Exit(ExitCode.FAILURE if removed["problems"] else ExitCode.UNAVAILABLE)


def _show(removed: Document) -> None:
    table = table_of("Removed", "Number")
    for name, text in COUNTS.items():
        table.add_row(text, str(removed["removed"][name]))
    data_console().print(table)
    for problem in removed["problems"]:
        say(problem)
    for home, why in removed["missing"].items():
        say(f"the gateway with home {home} has not answered: {why}; it erases when it is back")
