"""The options of every verb that talks to a gateway: they are added to all verbs that have ``--url``."""

import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.models import CommandInfo, TyperInfo

from penstock.cli.credentials import VARIABLE, using_token_file
from penstock.cli.tls import using_files

TokenFile = Annotated[
    Path | None, typer.Option(envvar=VARIABLE, help="File with the token to send: an API key or a signed token.")
]
CaFile = Annotated[
    Path | None,
    typer.Option(envvar="PENSTOCK_CA_FILE", help="File with the authorities that vouch for the gateway, PEM."),
]
CertFile = Annotated[
    Path | None, typer.Option(envvar="PENSTOCK_CERT_FILE", help="File with the certificate chain of the client, PEM.")
]
KeyFile = Annotated[Path | None, typer.Option(envvar="PENSTOCK_KEY_FILE", help="File with its private key, PEM.")]


def _make_option(name: str, annotation: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_OPTIONS = (
    _make_option("token_file", TokenFile),
    _make_option("ca_file", CaFile),
    _make_option("cert_file", CertFile),
    _make_option("key_file", KeyFile),
)


def add_connection_options(app: typer.Typer) -> None:
    """Add the options to every verb of an application, and of its groups, that has ``--url``; a group may be a verb."""
    verbs: list[CommandInfo | TyperInfo] = [*app.registered_commands]
    if app.registered_callback is not None:
        verbs.append(app.registered_callback)
    for command in verbs:
        if command.callback is not None and "url" in inspect.signature(command.callback).parameters:
            command.callback = _with_options(command.callback)
    for group in app.registered_groups:
        if group.typer_instance is not None:
            add_connection_options(group.typer_instance)


def _with_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def run(
        *,
        token_file: Path | None,
        ca_file: Path | None,
        cert_file: Path | None,
        key_file: Path | None,
        **arguments: Any,
    ) -> Any:
        with using_token_file(token_file), using_files(ca_file, cert_file, key_file):
            return verb(**arguments)

    signature = inspect.signature(verb, eval_str=True)
    own = [item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in signature.parameters.values()]
    vars(run)["__signature__"] = signature.replace(parameters=[*own, *_OPTIONS])
    return run
