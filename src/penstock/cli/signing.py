"""`penstock models sign`, `approve` and `gates`: signatures in the OpenSSF model signing format, and approvals."""

from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.options import AsJson, ReasonOption, Url, Versioned, Where
from penstock.cli.registry_selection import open_registry


def register(group: typer.Typer) -> None:
    """Add the verbs to those of models."""
    group.command("sign")(sign)
    group.command("approve")(approve)
    group.command("gates")(gates)


def sign(
    path: Annotated[Path, typer.Argument(help="The graph, or the folder of a model.")],
    key: Annotated[Path, typer.Option(help="File with the private key, PEM (P-256, P-384, P-521 or Ed25519).")],
    signature: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it. [model.sig in the folder, or GRAPH.sig]")
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate of the key with those of its issuers, PEM.")
    ] = None,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the password of the key.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME[:V]", help="The model, and its version, that the signature is only for.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Sign a model: write a bundle of the OpenSSF model signing format."""
    from penstock.core.errors import Fault
    from penstock.engine.durable_files import write_atomically
    from penstock.registry.signing.signer import bundle_path, sign_path

    target = signature or bundle_path(path)
    try:
        loaded, chain = _read_key(key, password_file), _read_chain(certificate)
        name, _, version = model.partition(":")
        _check_binding(name, version)
        write_atomically(target, sign_path(path, loaded, target, name, version, chain))
    except Fault as fault:
        fail(str(fault), ExitCode.USAGE)
    except OSError as error:
        fail(f"{error.filename or path}: {(error.strerror or 'error').lower()}", ExitCode.USAGE)
    print_json({"signature": str(target)}) if as_json else typer.echo(target)


def _read_key(file: Path, password_file: Path | None) -> object:
    from penstock.registry.signing.keys import load_private_key

    password = None if password_file is None else password_file.read_bytes().strip()
    return load_private_key(file.read_bytes(), password)


def _read_chain(file: Path | None) -> tuple[bytes, ...]:
    from penstock.registry.signing.certificates import load_chain

    return () if file is None else load_chain(file.read_bytes())


def _check_binding(model: str, version: str) -> None:
    from penstock.core.errors import InvalidInput
    from penstock.core.versions import is_model_name, is_version

    if (model and not is_model_name(model)) or (version and not is_version(version)):
        raise InvalidInput(f"'{model}:{version}' is not a model and a version; expected NAME or NAME:VERSION")


def read_signatures(files: list[Path]) -> list[str]:
    """Return the bundles in files; one that cannot be read ends the command."""
    try:
        return [file.read_text("utf-8") for file in files]
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        fail(f"a signature cannot be read: {(reason or 'error').lower()}", ExitCode.USAGE)


def approve(
    name: Versioned, reason: ReasonOption = "", url: Url = None, registry: Where = None, as_json: AsJson = False
) -> None:
    """Approve a version for traffic; whoever has pushed it cannot."""
    model, version = _split_name(name)
    with end_on_failure():
        document = open_registry(url, registry).approve_version(model, version, reason)
    print_json(document) if as_json else say(f"{name} is approved")


def gates(name: Versioned, url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show whether a version passes its gates, and why not; exit 4 if it does not."""
    model, version = _split_name(name)
    with end_on_failure():
        document = open_registry(url, registry).gates(model, version)
    if as_json:
        print_json(document)
    for item in [] if as_json else document["gates"]:
        typer.echo(f"{item['gate']}: {'passed' if item['passed'] else item['reason']}")
    if not document["passed"]:
        raise typer.Exit(ExitCode.REFUSED)


def _split_name(name: str) -> tuple[str, str]:
    model, _, version = name.partition(":")
    if not version:
        fail(f"'{name}' has no version; expected NAME:VERSION", ExitCode.USAGE)
    return model, version
