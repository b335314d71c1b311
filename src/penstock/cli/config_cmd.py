"""`penstock config`: check the settings, show the effective ones, print their schema."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from penstock.cli.console import ExitCode, print_json, say
from penstock.config.documents import ConfigFault
from penstock.config.settings import Settings, find_ignored_variables, load_settings, settings_document, settings_schema

ConfigFile = Annotated[
    Path | None, typer.Option("--config", help="A configuration file (YAML).", envvar="PENSTOCK_CONFIG")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Check, show or describe the settings.")
    group.command()(check)
    group.command()(show)
    group.command()(schema)
    app.add_typer(group, name="config")


def check(file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Report every error of the settings in the environment and the file; exit 2 if there is one."""
    try:
        faults = _sink_faults(load_settings(file))
    except ConfigFault as fault:
        faults = fault.faults
    for sentence in find_ignored_variables(os.environ):
        say(sentence)
    _report(faults, as_json)
    if faults:
        raise typer.Exit(ExitCode.USAGE)


def _sink_faults(settings: Settings) -> list[str]:
    """Return the faults of sinks and secrets."""
    if not (settings.sinks or settings.secrets or settings.audit.sinks or settings.mlflow):
        return []
    from penstock.app.sink_configuration import read_sink_configuration
    from penstock.control.sinks.plugins import load_plugins

    load_plugins()
    return read_sink_configuration(settings, settings.home.expanduser()).faults


def show(file: ConfigFile = None, as_json: AsJson = False) -> None:
    """Print the effective settings: environment before file before defaults."""
    try:
        settings = settings_document(load_settings(file))
    except ConfigFault as fault:
        _report(fault.faults, as_json=False)
        raise typer.Exit(ExitCode.USAGE) from None
    if as_json:
        print_json(settings)
    else:
        typer.echo("\n".join(_format_settings(settings)))


def schema() -> None:
    """Print the JSON schema of the configuration file."""
    print_json(settings_schema())


def _report(faults: list[str], as_json: bool) -> None:
    if as_json:
        print_json({"ok": not faults, "faults": faults})
        return
    for fault in faults or ["the settings are valid"]:
        say(fault)


def _format_settings(settings: dict[str, Any], indent: str = "") -> list[str]:
    """Return the settings as lines of a configuration file; every JSON value is a YAML value."""
    lines: list[str] = []
    for name, value in settings.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{name}:", *_format_settings(value, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {json.dumps(value)}")
    return lines
