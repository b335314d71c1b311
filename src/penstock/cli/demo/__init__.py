"""`penstock demo`: a guided tour on real data."""

import importlib.util
from typing import Annotated

import typer

from penstock.cli.console import ExitCode, fail

EXTRAS = ("onnx", "pyarrow", "skl2onnx", "sklearn")


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(demo)


def demo(
    once: Annotated[bool, typer.Option("--once", help="Exit at the end instead of serving until Ctrl-C.")] = False,
) -> None:
    """Train two versions of a real classifier, serve them, and show predictions, traffic and counters."""
    if any(importlib.util.find_spec(name) is None for name in EXTRAS):
        fail("the demo trains models and needs its extra packages: pip install 'penstock[demo]'")
    from penstock.cli.demo.story import StoryFailed, run_story

    try:
        run_story(once)
    except StoryFailed as failure:
        fail(str(failure))
    except KeyboardInterrupt:
        fail("the demo was stopped before its end", ExitCode.FAILURE)
