"""`penstock policy`: show, set and check the policy of a model."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from penstock.cli.client import Document
from penstock.cli.config_cmd import ConfigFile
from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.options import AsJson, Name, ReasonOption, Url, Where
from penstock.cli.route import use_gateway

PolicyFile = Annotated[Path, typer.Argument(help="The policy, as YAML or JSON.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Show, set and check the policy of a model.")
    group.command("show")(show)
    group.command("set")(set_)
    group.command("check")(check)
    app.add_typer(group, name="policy")


def show(name: Name, url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show a model's policy."""
    with use_gateway(url, registry) as client:
        document = client.policy(name)
    _print(document, as_json)


def set_(
    name: Name,
    file: PolicyFile,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Replace a model's policy."""
    document = _read(file)
    with _refusing_faults(file):
        _refuse_invalid(document)
    with use_gateway(url, registry) as client:
        after = client.set_policy(name, {**document, "reason": reason})
    _print(after, as_json)


def check(file: PolicyFile, config: ConfigFile = None) -> None:
    """Check a policy file, also with the sinks and secrets of a configuration; exit 2 if it is invalid."""
    document = _read(file)
    with _refusing_faults(file):
        _refuse_unusable(document, config)
    say(f"{file} is valid")


def _read(file: Path) -> Document:
    from penstock.config.documents import ConfigFault, read_document

    try:
        return read_document(file, "the policy")
    except ConfigFault as fault:
        fail(str(fault), ExitCode.USAGE)


@contextmanager
def _refusing_faults(file: Path) -> Iterator[None]:
    """End the command if the block finds faults, each with its line of the file."""
    from penstock.config.documents import ConfigFault, lines_of
    from penstock.control.sinks.plugins import load_plugins
    from penstock.core.errors import InvalidInput

    load_plugins()
    try:
        yield
    except ConfigFault as fault:
        fail(str(fault), ExitCode.USAGE)
    except InvalidInput as fault:
        fail(_with_lines(str(fault), lines_of(file)), ExitCode.USAGE)


def _refuse_invalid(document: Document) -> None:
    """Refuse a policy that no gateway would take; only the gateway knows the sinks of its configuration."""
    from penstock.control.monitoring.schedules import parse_schedule
    from penstock.core.policies import decode_stored_policy, refuse_unreachable

    refuse_unreachable(decode_stored_policy(document, parse_schedule, {}))


def _refuse_unusable(document: Document, config: Path | None) -> None:
    """Refuse a policy that a gateway with this configuration would not take, as far as its secrets are here."""
    from penstock.app.sink_configuration import read_sink_configuration
    from penstock.config.settings import load_settings
    from penstock.control.monitoring.schedules import parse_schedule
    from penstock.core.errors import InvalidInput
    from penstock.core.policies import parse_policy, refuse_unreachable
    from penstock.core.sinks import SinkOrigin
    from penstock.registry.location import location_of

    settings = load_settings(config)
    sinks = read_sink_configuration(settings, location_of(settings.registry, settings.home, settings.blobs).home)
    policy = parse_policy(document, parse_schedule, sinks.declared, SinkOrigin.OWNER)
    refuse_unreachable(policy)
    if faults := sinks.rules_here.faults_of(policy.own_sinks):
        raise InvalidInput("; ".join(faults))


def _with_lines(faults: str, lines: dict[str, int]) -> str:
    """Return errors, each with the line of the file that it is about, or of the enclosing section."""
    from penstock.core.policy_faults import locate_faults

    found = locate_faults(faults, lines)
    return "; ".join(item.message if item.line is None else f"line {item.line}: {item.message}" for item in found)


def _print(document: Document, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from penstock.config.documents import write_yaml

    typer.echo(write_yaml({name: part for name, part in document.items() if name != "revision"}), nl=False)
