"""`penstock keys`: create, list, rotate and revoke API keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Protocol

import typer

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.formatting import date_of, table_of
from penstock.cli.options import AsJson, ReasonOption, Url, Where
from penstock.cli.registry_selection import find_gateway
from penstock.core.access.permissions import ALL_MODELS, ROLES

Expires = Annotated[float | None, typer.Option(metavar="DAYS", help="Days until the key expires. [never]")]


class KeyClient(Protocol):
    """API keys as the commands use them; every call raises ``CallFailed``."""

    def list_keys(self) -> list[Document]:
        """Return the keys, also those that were revoked or have expired."""

    def create_key(self, wanted: Document) -> Document:
        """Make a key; return it with its text, this once."""

    def rotate_key(self, name: str, wanted: Document) -> Document:
        """Replace the keys of a name by a new one; return it with its text, this once."""

    def revoke_key(self, name: str, reason: str) -> list[Document]:
        """Revoke a key by its id, or all keys of a name; return them."""


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Create, list, rotate and revoke API keys.")
    group.command("create")(create)
    group.command("list")(listed)
    group.command("rotate")(rotate)
    group.command("revoke")(revoke)
    app.add_typer(group, name="keys")


def create(
    name: Annotated[str, typer.Argument(help="The caller's name, as audit and metrics show it.")],
    role: Annotated[list[str], typer.Option(help=f"{', '.join(ROLES)}; more than one is possible.")],
    model: Annotated[
        list[str] | None, typer.Option(metavar="PATTERN", help="A model, or a prefix such as fraud-*. [all models]")
    ] = None,
    expires: Expires = None,
    rate: Annotated[str, typer.Option(metavar="N/s", help="Most requests a second. [no limit]")] = "",
    rows: Annotated[str, typer.Option(metavar="N/s", help="Most rows a second. [no limit]")] = "",
    model_ms: Annotated[str, typer.Option(metavar="N/s", help="Most model milliseconds a second. [no limit]")] = "",
    concurrent: Annotated[int, typer.Option(help="Most requests at a time. [no limit]", min=0)] = 0,
    body_bytes: Annotated[int, typer.Option(help="Most bytes of unfinished requests. [no limit]", min=0)] = 0,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Create a key, and print it, this once: only its digest is stored."""
    rates = {
        "requests": _parse_rate("--rate", rate),
        "rows": _parse_rate("--rows", rows),
        "model_ms": _parse_rate("--model-ms", model_ms),
    }
    limits = {**rates, "concurrent": concurrent, "body_bytes": body_bytes}
    wanted: Document = {"name": name, "roles": role, "models": model or [ALL_MODELS], "reason": reason}
    wanted |= {"quota": {key: limit for key, limit in limits.items() if limit}}
    if expires is not None:
        wanted["expires_days"] = expires
    with _use_keys(url, registry) as client:
        _show_once(client.create_key(wanted), as_json)


def listed(url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """List keys with their roles, models and ends; the keys themselves are not stored."""
    with _use_keys(url, registry) as client:
        keys = client.list_keys()
    if as_json:
        print_json({"keys": keys})
        return
    if not keys:
        say("there is no key; create one with: penstock keys create NAME --role ROLE")
        return
    table = table_of("Name", "Id", "State", "Roles", "Models", "Quota", "Created", "By", "Expires")
    for key in keys:
        quota = ", ".join(f"{name} {limit:g}" for name, limit in key["quota"].items())
        names = (key["name"], key["id"], key["state"], ", ".join(key["roles"]), ", ".join(key["models"]), quota)
        table.add_row(*names, date_of(key["created_at"]), key["created_by"], date_of(key["expires_at"]) or "never")
    data_console().print(table)


def rotate(
    name: Annotated[str, typer.Argument(help="The name of the key.")],
    overlap: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Seconds that the old key stays valid. [86400]", min=0)
    ] = None,
    expires: Annotated[
        float | None, typer.Option(metavar="DAYS", help="Days until the new key expires. [as long as the old one]")
    ] = None,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Create a key in place of another with its roles, models and quota, and print it, this once."""
    stated = {"overlap_seconds": overlap, "expires_days": expires}
    wanted: Document = {"reason": reason, **{key: value for key, value in stated.items() if value is not None}}
    with _use_keys(url, registry) as client:
        _show_once(client.rotate_key(name, wanted), as_json)


def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME|ID", help="All keys of a name, or one key by its id.")],
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Revoke a key: requests with it are refused on every worker within a second."""
    with _use_keys(url, registry) as client:
        revoked = client.revoke_key(name, reason)
    if as_json:
        print_json({"revoked": revoked})
        return
    for key in revoked:
        say(f"key {key['id']} of '{key['name']}' is revoked")


@contextmanager
def _use_keys(url: str | None, registry: str | None) -> Iterator[KeyClient]:
    """Open the keys of a gateway, or of the registry where none runs; a failure ends the command."""
    with end_on_failure():
        yield _open_keys(url, registry)


def _open_keys(url: str | None, registry: str | None) -> KeyClient:
    found = find_gateway(url, registry)
    if isinstance(found, AdminApiClient):
        return found
    from penstock.cli.local_keys import LocalKeys

    return LocalKeys(found)


def _parse_rate(option: str, text: str) -> float:
    number = text.removesuffix("/s")
    try:
        rate = float(number) if number else 0.0
    except ValueError:
        rate = -1.0
    if not 0 <= rate < float("inf"):
        fail(f"{option}: expected a number for each second, such as 10/s (got '{text}')", ExitCode.USAGE)
    return rate


def _show_once(made: Document, as_json: bool) -> None:
    if as_json:
        print_json(made)
    else:
        until = f"until {date_of(made['expires_at'])}" if made["expires_at"] else "without an end"
        say(f"key {made['id']} of '{made['name']}', {until}; keep it, it is not shown again")
        typer.echo(made["key"])
    if not made["accepted"]:
        say("no gateway accepts keys yet: set auth.keys to true in its settings")
