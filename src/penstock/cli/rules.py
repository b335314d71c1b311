"""`penstock rules` and `penstock dashboards`: Prometheus rules from policies, and Grafana dashboards."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.console import ExitCode, fail, print_json, say
from penstock.cli.options import AsJson, Url, Where
from penstock.cli.route import use_gateway

if TYPE_CHECKING:
    from penstock.telemetry.rules.rule import Group

HEAD = """\
# Written by `penstock rules{arguments}`: do not edit it, write it anew.
"""

CALLS = 8
"""Policies that are read at the same time."""

CONSOLE = "http://127.0.0.1:8002"


def _check_address(text: str) -> str:
    """Return an address that pages may link to; an address of another scheme could run a script there."""
    if not text.lower().startswith(("http://", "https://")):
        raise typer.BadParameter("expected an address that begins with http:// or https://")
    return text


def _check_given_address(text: str | None) -> str | None:
    return None if text is None else _check_address(text)


ConsoleUrl = Annotated[
    str,
    typer.Option("--console", metavar="URL", help="Where people reach the console.", callback=_check_address),
]
RunbooksUrl = Annotated[
    str | None,
    typer.Option(
        "--runbooks",
        metavar="URL",
        help="Where you publish the page docs/runbooks/alerts.md; by default alerts lead to /runbook below --console.",
        callback=_check_given_address,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("rules")(write_rules)


def write_rules(
    name: Annotated[str | None, typer.Argument(help="The model; without it, the rules that need no policy.")] = None,
    every: Annotated[
        bool, typer.Option("--all", help="The rules of all models, and those that need no policy.")
    ] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a file.")] = None,
    round_latency: Annotated[
        bool, typer.Option("--round-latency", help="Take the next smaller edge of the histogram for each latency.")
    ] = False,
    console: ConsoleUrl = CONSOLE,
    runbooks: RunbooksUrl = None,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Write Prometheus recording and alert rules, also from the objectives (slo) and triggers of policies."""
    if name is not None and every:
        fail("expected a model or --all, not both", ExitCode.USAGE)
    from penstock.telemetry.rules.rule import Links, rules_document
    from penstock.telemetry.rules.rules import fleet_groups

    groups: list[Group] = [] if name is not None else fleet_groups()
    if name is not None or every:
        with use_gateway(url, registry) as client:
            groups += _model_groups(client, name, round_latency)
    document = rules_document(groups, Links(console, runbooks or ""))
    _write(document, output, " --all" if every else f" {name}" if name else "", as_json)


def _model_groups(client: AdminApiClient, name: str | None, round_latency: bool) -> "list[Group]":
    from penstock.core.errors import Refused
    from penstock.telemetry.rules.rules import model_groups

    names = [name] if name is not None else [item["name"] for item in client.models()]
    with ThreadPoolExecutor(CALLS) as pool:  # each call waits for the gateway's database
        policies = dict(zip(names, pool.map(client.policy, names), strict=True))
    try:
        groups = model_groups(policies, round_latency=round_latency)
    except Refused as fault:
        fail(f"{fault}, or pass --round-latency", ExitCode.REFUSED)
    if name is not None and not groups:
        need = "'slo', and no trigger with a limit of performance or quality"
        fail(f"the policy of model '{name}' has no {need}: there is nothing to write rules from", ExitCode.REFUSED)
    return groups


def _write(document: Mapping[str, Any], output: Path | None, arguments: str, as_json: bool) -> None:
    from penstock.config.documents import written_with_blocks

    if output is None and as_json:
        print_json(document)
        return
    text = written_with_blocks(dict(document))
    if output is None:
        typer.echo(HEAD.format(arguments=arguments) + text, nl=False)
        return
    try:
        output.write_text(HEAD.format(arguments=arguments) + text)
    except OSError as error:
        fail(f"{output} cannot be written: {(error.strerror or 'error').lower()}")
    say(f"wrote {output}")
