"""Options and arguments that several verbs share."""

from typing import Annotated

import typer

from penstock.cli.console import ExitCode, fail

Url = Annotated[
    str | None,
    typer.Option(help="HOST:PORT or https://HOST:PORT of an ops port, or unix:PATH. [the gateway on the registry]"),
]

Where = Annotated[str | None, typer.Option("--registry", metavar="URL", help="The registry. [as in the settings]")]

ReasonOption = Annotated[str, typer.Option(help="The reason, for the audit.")]

Force = Annotated[bool, typer.Option("--force", help="Move the alias even if a route decides which version answers.")]

RetireForce = Annotated[bool, typer.Option("--force", help="Retire it even if an open rollout or experiment needs it.")]

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

Name = Annotated[str, typer.Argument(help="The model.")]

Versioned = Annotated[str, typer.Argument(metavar="NAME:V", help="The model and its version.")]


def split_name(text: str) -> tuple[str, str]:
    """Return the model, and the version or alias ("" = none), of NAME, NAME:V or NAME@ALIAS."""
    for mark in (":", "@"):
        model, found, version = text.partition(mark)
        if found:
            if not model or not version:
                fail("expected NAME, NAME:V or NAME@ALIAS", ExitCode.USAGE)
            return model, version.removeprefix("@")
    return text, ""
