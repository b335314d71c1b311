"""`penstock version`: the versions of Penstock, its engine and Python."""

import platform
from importlib import metadata
from importlib.util import find_spec
from typing import Annotated

import typer

from penstock import __version__
from penstock.cli.console import print_json

ENGINE = "onnxruntime"


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(version)


def version(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print the version of Penstock, of the engine and of Python, and whether the request path is compiled."""
    facts = {
        "penstock": __version__,
        ENGINE: metadata.version(ENGINE),
        "python": platform.python_version(),
        "request_path": request_path(),
    }
    if as_json:
        print_json(facts)
        return
    typer.echo(" · ".join(f"{name.replace('_', ' ')} {number}" for name, number in facts.items()))


def request_path() -> str:
    """Return "compiled" or "interpreted": how the modules of the request path were built; see deploy/backend.py."""
    spec = find_spec("penstock.serving.loop_batcher")
    return "compiled" if spec is not None and str(spec.origin).endswith(".so") else "interpreted"
