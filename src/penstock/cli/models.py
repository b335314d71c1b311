"""`penstock models`: list models, push versions, move aliases, retire, verify and export."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli import signing
from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.formatting import date_of, size_text, state_text, table_of
from penstock.cli.options import AsJson, Force, Name, ReasonOption, RetireForce, Url, Versioned, Where
from penstock.cli.progress_bar import show_progress
from penstock.cli.registry_client import RegistryClient
from penstock.cli.registry_selection import open_registry
from penstock.cli.version_view import reason_suffix, show_model, show_version
from penstock.core.versions import CHAMPION


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Push, sign, list, show, alias, roll back, retire, verify, export.")
    for verb in (push, listed, show, alias, unalias, rollback, retire, verify, export, configured, collect):
        name = {"listed": "list", "configured": "settings"}.get(verb.__name__, verb.__name__)
        group.command(name)(verb)
    signing.register(group)
    app.add_typer(group, name="models")


def push(
    name: Name,
    file: Annotated[Path, typer.Argument(help="An ONNX graph (with the weight files beside it), a folder, or a tar.")],
    version: Annotated[str, typer.Option(help="The new version, such as 1 or 1.4.0.")],
    reference: Annotated[
        Path | None, typer.Option(help="Training data (CSV, Parquet, npz) as the reference of the monitor.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Model card (YAML or JSON).")] = None,
    meta: Annotated[
        list[str] | None, typer.Option(metavar="K=V", help="Metadata, such as metrics.accuracy=0.97.")
    ] = None,
    signature: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="A signature of the model, as 'models sign' writes it.")
    ] = None,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Push a version: examine it, store it, and serve it when every worker has loaded it."""
    from penstock.cli.upload import BadModel, read_upload

    metadata = _read_metadata(card, meta or [])
    try:
        data = read_upload(file)
        training = None if reference is None else read_upload(reference)
    except (BadModel, OSError) as fault:
        fail(str(fault), ExitCode.USAGE)
    bundles = signing.read_signatures(signature or [])
    with _open_registry(url, registry) as client, show_progress(f"{name}:{version}") as on_progress:
        for bundle in bundles:
            client.add_signature(name, version, bundle, reason)
        pushed = client.push(name, version, data, metadata, reason, on_progress)
        if training is not None:
            pushed["reference"] = client.set_reference(name, version, training, on_progress)
    if as_json:
        print_json(pushed)
        return
    say(f"{name}:{version} is {pushed['state']}{reason_suffix(pushed)}")
    typer.echo(pushed["digest"])


def listed(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """List models with their versions, aliases and states."""
    with _open_registry(url, registry) as client:
        models = client.models()
    if as_json:
        print_json({"models": models})
        return
    if not models:
        say("the registry is empty; push a model with: penstock models push NAME FILE --version V")
        return
    table = table_of("Model", "Version", "State", "Aliases", "Size", "Pushed", "By")
    for model in models:
        for version in model["versions"]:
            table.add_row(
                model["name"],
                version["version"],
                state_text(version["state"]),
                ", ".join(version["aliases"]),
                size_text(version["size"]),
                date_of(version["created_at"]),
                version["created_by"] or "",
            )
    data_console().print(table)


def show(
    name: Annotated[str, typer.Argument(metavar="NAME[:V]", help="The model, or one version of it.")],
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show a model, or one version with its card, metadata, signature and admission report."""
    model, _, version = name.partition(":")
    with _open_registry(url, registry) as client:
        document = client.model(model)
    if not version:
        print_json(document) if as_json else show_model(document)
        return
    number = document["aliases"].get(version, version)
    item = next((each for each in document["versions"] if each["version"] == number), None)
    if item is None:
        fail(f"model '{model}' has no version '{version}'", ExitCode.NOT_FOUND)
    print_json(item) if as_json else show_version(model, item)


def alias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias, such as champion.")],
    version: Annotated[str, typer.Argument(help="The version to point at.")],
    expect: Annotated[
        str | None, typer.Option(metavar="OLD", help="Only if it points at OLD now; '' if it is new.")
    ] = None,
    force: Force = False,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Point an alias at a ready version."""
    with _open_registry(url, registry) as client:
        _show_move(client.alias(name, alias, version, expect, reason, force), as_json)


def unalias(
    name: Name,
    alias: Annotated[str, typer.Argument(help="The alias to delete.")],
    force: Force = False,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Delete an alias."""
    with _open_registry(url, registry) as client:
        _show_move(client.drop_alias(name, alias, reason, force), as_json)


def rollback(
    name: Name,
    alias: Annotated[str, typer.Option(help="The alias to move back.")] = CHAMPION,
    force: Force = False,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Move an alias back to its previous version."""
    with _open_registry(url, registry) as client:
        _show_move(client.rollback(name, alias, reason, force), as_json)


def retire(
    name: Versioned,
    reason: ReasonOption = "",
    force: RetireForce = False,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Take a version out of service permanently; its name cannot be used again."""
    model, version = _split_name(name)
    with _open_registry(url, registry) as client:
        document = client.retire(model, version, reason, force)
    print_json(document) if as_json else say(f"{name} is retired")


def verify(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Check the digest of every stored content; exit 8 if one has changed."""
    with _open_registry(url, registry) as client, show_progress("verifying") as on_progress:
        findings = client.verify(on_progress)
    if as_json:
        print_json({"ok": not findings, "findings": findings})
    for finding in [] if as_json else findings:
        name = f"{finding['model']}:{finding['version']}" if finding["model"] else finding["version"]
        typer.echo(f"{name} {finding['digest']}: {finding['problem']}")
    if findings:
        raise typer.Exit(ExitCode.INTEGRITY)
    if not as_json:
        say("all contents match their digests")


def export(
    name: Versioned,
    file: Annotated[Path, typer.Argument(help="Where to write it.")],
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Write the bytes that were pushed to a file, and check their digest."""
    from penstock.engine.durable_files import replace_file
    from penstock.engine.scratch import sweep
    from penstock.registry.blobs.folder import hash_file

    model, version = _split_name(name)
    sweep(file.parent)
    with replace_file(file) as scratch:
        with _open_registry(url, registry) as client, show_progress(name) as on_progress, scratch.open("wb") as written:
            digest = client.export(model, version, written.write, on_progress)
        if hash_file(scratch) != digest:
            fail(
                f"the bytes of {name} do not match its digest; check the registry: penstock models verify",
                ExitCode.INTEGRITY,
            )
    print_json({"file": str(file), "digest": digest}) if as_json else typer.echo(digest)


def configured(
    name: Name,
    versions: Annotated[
        str | None, typer.Option(metavar="all|latest:N|specific:V,V", help="Which versions to serve.")
    ] = None,
    transition: Annotated[
        str | None, typer.Option(metavar="availability|resources", help="Load before unload, or the reverse.")
    ] = None,
    keep_warm: Annotated[
        float | None, typer.Option(help="Seconds that a version stays loaded after its last use.")
    ] = None,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show or change which versions of a model are served, and how they are replaced."""
    changes = {"versions": versions, "transition": transition, "keep_warm_seconds": keep_warm}
    with _open_registry(url, registry) as client:
        document = client.configure(name, {key: value for key, value in changes.items() if value is not None}, reason)
    if as_json:
        print_json(document)
        return
    for key in changes:
        typer.echo(f"{key}: {document[key]}")


def collect(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Delete stored contents that no version needs."""
    with _open_registry(url, registry) as client:
        deleted = client.collect()
    print_json({"deleted": deleted}) if as_json else say(f"deleted {len(deleted)} contents")


@contextmanager
def _open_registry(url: str | None, registry: str | None) -> Iterator[RegistryClient]:
    """Open the registry; a failure ends the command."""
    with end_on_failure():
        yield open_registry(url, registry)


def _read_metadata(card: Path | None, entries: list[str]) -> Document:
    from penstock.config.documents import ConfigFault, read_document
    from penstock.core.errors import InvalidInput
    from penstock.core.lineage import card_of, metadata_of_pairs

    pairs = dict(entry.partition("=")[::2] for entry in entries)
    if bad := next((entry for entry in entries if "=" not in entry), None):
        fail(f"--meta {bad}: expected KEY=VALUE", ExitCode.USAGE)
    try:
        metadata = metadata_of_pairs(pairs)
        return metadata if card is None else {**metadata, "card": card_of(read_document(card, "the model card"))}
    except (InvalidInput, ConfigFault) as fault:
        fail(str(fault), ExitCode.USAGE)


def _split_name(name: str) -> tuple[str, str]:
    model, _, version = name.partition(":")
    if not version:
        fail(f"'{name}' has no version; expected NAME:VERSION", ExitCode.USAGE)
    return model, version


def _show_move(move: Document, as_json: bool) -> None:
    if as_json:
        print_json(move)
        return
    change = f"now points to version {move['version']}" if move["version"] else "is deleted"
    before = f"previously version {move['before']}" if move["before"] else "previously unset"
    pending = "" if move.get("acknowledged", True) else "; not every worker has applied it yet"
    say(f"{move['model']}: alias {move['alias']} {change} ({before}){pending}")
    if note := move.get("note"):
        say(note)
