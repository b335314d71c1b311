"""`penstock version`: which Penstock this is, and which engine it brings."""

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
    """Print the version of Penstock, of the engine and of Python, and whether the infer road is compiled."""
    facts = {
        "penstock": __version__,
        ENGINE: metadata.version(ENGINE),
        "python": platform.python_version(),
        "road": road(),
    }
    if as_json:
        print_json(facts)
        return
    typer.echo(" · ".join(f"{name} {number}" for name, number in facts.items()))


def road() -> str:
    """Whether the modules that every request passes are compiled here; see deploy/backend.py."""
    found = find_spec("penstock.serving.loop_batcher")
    return "compiled" if found is not None and str(found.origin).endswith(".so") else "interpreted"
