"""The command line: finds the verb, runs it, and turns each error into one line and an exit code."""

import errno
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import typer

VERBS = {
    "serve": "serve",
    "demo": "demo",
    "console": "open_console",
    "predict": "predict",
    "score": "score",
    "explain": "explain",
    "loadtest": "loadtest.verb",
    "replay": "replay.verb",
    "models": "models",
    "route": "route",
    "rollout": "rollout",
    "experiment": "experiment",
    "events": "events",
    "monitor": "monitor",
    "policy": "policy",
    "profile": "profile",
    "capture": "capture",
    "retrain": "retrain",
    "audit": "audit",
    "keys": "keys",
    "whoami": "whoami",
    "fleet": "fleet",
    "rules": "rules",
    "dashboards": "dashboards",
    "config": "config_cmd",
    "migrate": "migrate",
    "health": "health",
    "version": "version",
}
"""Each verb's module in this package; it has a ``register(app)``, and only the requested verb is imported."""

_INTERRUPTED = 130
_NO_OUTPUT = 1


def main(arguments: list[str] | None = None) -> None:
    """Run `penstock` with these arguments (the process's own by default) and end the process."""
    command_line = sys.argv[1:] if arguments is None else arguments
    try:
        code = run(command_line or ["--help"])
        sys.stdout.flush()
    except OSError as error:
        if error.filename is not None or error.errno not in (errno.ENOSPC, errno.EPIPE):
            raise
        code = _end_without_output(error)
    sys.exit(code)


def _end_without_output(error: OSError) -> int:
    """Say that the output cannot be written, but for a reader that has read enough, and return the exit code."""
    if error.errno != errno.EPIPE:
        sys.stderr.write(f"penstock: the output cannot be written: {error.strerror}\n")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still in the buffer fails no more
    return _NO_OUTPUT


def run(arguments: list[str]) -> int:
    """Run a command line and return its exit code."""
    try:
        if arguments[:1] == ["serve"] and (code := _serve_plain(arguments)) is not None:
            return code
    except KeyboardInterrupt:  # as Typer does
        return _INTERRUPTED
    import typer  # a plain start needs no parser

    try:
        result: Any = build(arguments)(arguments, prog_name="penstock", standalone_mode=False)
    except typer.Abort:
        return _INTERRUPTED
    except Exception as error:
        # Usage errors carry their own text and code, whichever click they come from (typer may bring its own).
        code, text = getattr(error, "exit_code", None), getattr(error, "format_message", None)
        if code is None or text is None:
            raise
        message = str(text())
        whole_help = "\n" in message  # a group of verbs without a verb
        sys.stderr.write(f"{message}\n" if whole_help else f"penstock: {message} (see --help)\n")
        return int(code)
    return result if isinstance(result, int) else 0


def _serve_plain(arguments: list[str]) -> int | None:
    """Serve without the parser; return None if the arguments are for the parser."""
    from penstock.app.restart import restart_for_heap

    restart_for_heap(arguments)  # before anything is imported that would be imported again
    from penstock.cli.start import run_plain

    return run_plain(arguments[1:])


def build(arguments: list[str]) -> "typer.Typer":
    """Return the parser with every verb, or with the one verb that ``arguments`` name."""
    import typer

    app = typer.Typer(
        name="penstock",
        help="A low-latency model-serving gateway with a monitor inside.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback()(lambda: None)  # keeps a single verb a verb
    verb = VERBS.get(arguments[0]) if arguments else None
    for module in [verb] if verb else VERBS.values():
        import_module(f"penstock.cli.{module}").register(app)
    import_module("penstock.cli.connection_options").add_connection_options(app)
    return app
