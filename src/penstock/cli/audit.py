"""`penstock audit`: who changed what, when and why; and proof that nobody has changed that since."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.formatting import date_of, table_of
from penstock.cli.options import AsJson, Name, Url, Where
from penstock.cli.registry_selection import open_registry

Keys = Annotated[
    list[str] | None,
    typer.Option("--key", metavar="PUB", help="Public key that may sign, or a file with one. [the gateway's key]"),
]
MOST_CHECKPOINTS = 2000
"""Checkpoints of a file that the audit is compared with: they fit into one request."""

Output = Annotated[Path | None, typer.Option("-o", "--output", help="Where to write it. [standard output]")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    verbs = typer.Typer(invoke_without_command=True, help="Show, verify and explain who changed what.")
    verbs.callback()(audit)
    verbs.command()(verify)
    verbs.command()(prove)
    verbs.command()(export)
    verbs.command()(explain)
    verbs.command("key")(show_keys)
    app.add_typer(verbs, name="audit")


def audit(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only changes of this model.")] = None,
    limit: Annotated[int, typer.Option(help="Number of newest changes.", min=1, max=1000)] = 50,
    archives: Annotated[bool, typer.Option("--archives", help="List the archives of older changes.")] = False,
    archive: Annotated[str | None, typer.Option(metavar="NAME", help="Show the changes in this archive.")] = None,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show the newest changes, oldest first."""
    if context.invoked_subcommand is not None:
        return
    if archives and archive is not None:
        fail("use either --archives or --archive, not both", ExitCode.USAGE)
    with end_on_failure():
        opened = open_registry(url, registry)
        if archives:
            _show_archives(opened.audit_archives(), as_json)
        else:
            _show_entries(opened.audit(model, limit, archive), as_json)


def verify(
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoints that a sink has received, or were kept elsewhere.")
    ] = None,
    key: Keys = None,
    proof: Annotated[Path | None, typer.Option(help="Verify this proof of one entry, with --key alone.")] = None,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Verify that no entry was changed, removed or inserted; exit 8 with the first bad entry."""
    keys = [_key_in(text) for text in key or []]
    with end_on_failure():
        if proof is not None:
            _verify_proof(_text_of(proof), keys, as_json)
        else:
            given = "" if checkpoint is None else _read_checkpoints(checkpoint)
            _show_result(open_registry(url, registry).verify_audit(given, keys), as_json)


def prove(
    seq: Annotated[int, typer.Argument(help="Number of the entry.", min=1)],
    output: Output = None,
    url: Url = None,
    registry: Where = None,
) -> None:
    """Write a proof that an entry is in the audit; it is verified with the public key alone."""
    with end_on_failure():
        _write(output, open_registry(url, registry).prove_entry(seq))


def export(output: Output = None, url: Url = None, registry: Where = None) -> None:
    """Write all entries with their hashes, and the signed checkpoints, as JSON lines."""
    try:
        with end_on_failure():
            opened = open_registry(url, registry)
            if output is None:
                opened.export_audit(lambda piece: typer.echo(piece.decode(), nl=False))
                return
            with output.open("wb") as file:
                opened.export_audit(file.write)
    except OSError as error:
        fail(f"{output}: {error.strerror}", ExitCode.FAILURE)


def explain(
    name: Name,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="Time, such as 2026-11-20T10:00:00Z.")],
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show which versions of a model served at a time, why, and by whose change."""
    with end_on_failure():
        document = open_registry(url, registry).explain_serving(name, at)
    print_json(document) if as_json else _show_explanation(document)


def show_keys(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show the public keys whose checkpoints are trusted."""
    with end_on_failure():
        keys = open_registry(url, registry).audit_keys()
    if as_json:
        print_json({"keys": keys})
    elif not keys:
        say("no key yet: a running gateway makes it for its first checkpoint")
    for text in [] if as_json else keys:
        typer.echo(text)


def _key_in(text: str) -> str:
    """Return a key that is given as a text, or as a file with it."""
    return text if "+" in text else _text_of(Path(text)).strip()


def _text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{path}: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}", ExitCode.USAGE)


def _read_checkpoints(path: Path) -> str:
    """Return the checkpoints of a file as signed notes, of many the largest: they cover the others."""
    from penstock.core.audit.kept_checkpoints import read_kept_checkpoints
    from penstock.core.errors import InvalidInput

    try:
        found = sorted(read_kept_checkpoints(_text_of(path)), key=lambda signed: signed.checkpoint.size)
    except InvalidInput as fault:
        fail(f"{path}: {fault}", ExitCode.USAGE)
    if not found:
        fail(f"{path}: the file is empty; expected signed checkpoints", ExitCode.USAGE)
    if len(found) > MOST_CHECKPOINTS:
        say(f"the audit is compared with the {MOST_CHECKPOINTS} largest of {len(found)} checkpoints")
    return "".join(f"{signed.note}\n" for signed in found[-MOST_CHECKPOINTS:])


def _write(output: Path | None, text: str) -> None:
    if output is None:
        typer.echo(text, nl=False)
        return
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        fail(f"{output}: {error.strerror}", ExitCode.FAILURE)


def _verify_proof(text: str, keys: list[str], as_json: bool) -> None:
    from penstock.core.errors import DataLoss, InvalidInput
    from penstock.registry.auditing import verify_proof

    if not keys:
        fail("a proof is verified with a public key: --key PUB", ExitCode.USAGE)
    try:
        entry = verify_proof(text, keys)
    except DataLoss as fault:
        fail(str(fault), ExitCode.INTEGRITY)
    except InvalidInput as fault:
        fail(str(fault), ExitCode.USAGE)
    print_json({"ok": True, "entry": entry}) if as_json else typer.echo(json.dumps(entry, sort_keys=True))
    say(f"the proof is right: entry {entry.get('seq')} is in the audit")


def _show_result(result: Document, as_json: bool) -> None:
    if as_json:
        print_json(result)
    for finding in [] if as_json else result["findings"]:
        typer.echo(f"{finding['seq']}: {finding['problem']}")
    if not as_json:
        typer.echo(f"{result['entries']} entries, root {result['root']}")
        say(f"checkpoints cover {result['covered']} of them; {result['limits']}")
        if result["unread"]:
            say(f"{result['unread']} entries are in archives whose files were dropped: only their hashes were used")
    if not result["ok"]:
        raise typer.Exit(ExitCode.INTEGRITY)


def _show_explanation(document: Document) -> None:
    typer.echo(f"{document['model']} at {document['at']}: decided by {document['rule']}")
    table = table_of("Version", "Weight", "Digest", "Pushed", "By")
    for item in document["serving"]:
        pushed = date_of(item["pushed_at"]) if item["pushed_at"] else ""
        share = f"{item['weight'] / 100:g} %"
        table.add_row(item["version"], share, item["digest"] or "", pushed, item["pushed_by"] or "")
    data_console().print(table)
    for title in ("decided_by", "trial", "unloaded_by"):
        if document[title] is not None:
            typer.echo(f"{title.replace('_', ' ')}: {json.dumps(document[title])}")


def _show_archives(archives: Iterable[Document], as_json: bool) -> None:
    if as_json:
        print_json({"archives": archives})
        return
    table = table_of("Name", "From", "To", "Rows", "Bytes", "Dropped")
    for archive in archives:
        times = (date_of(archive["from"]), date_of(archive["to"]))
        table.add_row(
            archive["name"], *times, str(archive["rows"]), str(archive["bytes"]), date_of(archive["dropped_at"])
        )
    data_console().print(table)


def _show_entries(entries: Iterable[Document], as_json: bool) -> None:
    if as_json:
        print_json({"entries": entries})
        return
    table = table_of("Seq", "When", "Who", "What", "Subject", "Before", "After", "Reason")
    for entry in entries:
        before, after = (json.dumps(entry[side]) if entry[side] is not None else "" for side in ("before", "after"))
        cells = (str(entry["seq"]), date_of(entry["at"]), entry["actor"], entry["action"], entry["subject"])
        table.add_row(*cells, before[:60], after[:60], entry["reason"])
    data_console().print(table)
