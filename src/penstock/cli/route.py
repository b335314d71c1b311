"""`penstock route`: show and set the route of a model's requests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.failures import end_on_failure
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, Name, ReasonOption, Url, Where
from penstock.cli.registry_selection import open_gateway

BAR = 30


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Show and set the route of a model's requests.")
    verbs: dict[str, Callable[..., None]] = {"show": show, "set": set_, "drop": drop, "shadow": shadow}
    for name, verb in verbs.items():
        group.command(name)(verb)
    app.add_typer(group, name="route")


def show(name: Name, url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show a model's route; without one, the version that answers."""
    with use_gateway(url, registry) as client:
        _print_route(name, client.route(name), as_json)


def set_(
    name: Name,
    split: Annotated[str, typer.Option(metavar="V=W,V=W", help="The weight of each version; the sum is 10000.")],
    shadow: Annotated[
        list[str] | None,
        typer.Option(metavar="V=PCT", help="Mirror this percentage of the requests to a version."),
    ] = None,
    sticky: Annotated[
        str | None, typer.Option(metavar="header:NAME", help="Send equal values of a header to the same version.")
    ] = None,
    rule: Annotated[
        list[str] | None, typer.Option(metavar="header:NAME=VALUE->V", help="Send matching requests to a version.")
    ] = None,
    expect: Annotated[int | None, typer.Option(metavar="REVISION", help="Only if the model has this revision.")] = None,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Replace a model's route, and wait until every worker has applied it."""
    route: Document = {"split": parse_weights(split, "--split"), "reason": reason}
    if sticky:
        route["sticky"] = sticky
    if rule:
        route["rules"] = [_parse_rule(item) for item in rule]
    if shadow:
        pairs = [_pair(item, "--shadow") for text in shadow for item in text.split(",")]
        route["shadow"] = [{"version": version, "percent": _parse_number(share)} for version, share in pairs]
    with use_gateway(url, registry) as client:
        _print_route(name, client.set_route(name, route, expect), as_json)


def drop(
    name: Name, reason: ReasonOption = "", url: Url = None, registry: Where = None, as_json: AsJson = False
) -> None:
    """Delete a model's route: its champion, or its newest ready version, answers again."""
    with use_gateway(url, registry) as client:
        _print_route(name, client.drop_route(name, reason), as_json)


def shadow(
    name: Annotated[str, typer.Argument(metavar="NAME:V", help="The model and its version.")],
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show the results of a shadow version and the number of differing answers (--json: with samples)."""
    model, _, version = name.partition(":")
    with use_gateway(url, registry) as client:
        document = client.shadow(model, version)
    if as_json:
        print_json(document)
        return
    for key, value in document.items():
        if key != "samples" and value is not None:
            typer.echo(f"{key}: {value:g}" if isinstance(value, float) else f"{key}: {value}")
    typer.echo(f"samples: {len(document['samples'])}")


@contextmanager
def use_gateway(url: str | None, registry: str | None) -> Iterator[AdminApiClient]:
    """Open the gateway; a failed call ends the verb."""
    with end_on_failure():
        yield open_gateway(url, registry)


def parse_weights(text: str, option: str) -> dict[str, int]:
    """Return the versions and weights in ``V=W,V=W``.

    Raises:
        typer.Exit: the text is not of this form.
    """
    pairs = [_pair(item, option) for item in text.split(",") if item]
    if bad := next((weight for _, weight in pairs if not weight.isdigit()), None):
        fail(f"{option}: a weight is a whole number (got '{bad}')", ExitCode.USAGE)
    return {version: int(weight) for version, weight in pairs}


def _pair(text: str, option: str) -> tuple[str, str]:
    version, equals, value = text.strip().partition("=")
    if not equals or not version or not value:
        fail(f"{option}: expected VERSION=NUMBER (got '{text}')", ExitCode.USAGE)
    return version, value


def _parse_number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        fail(f"--shadow: a share is a number from 0 to 100 (got '{text}')", ExitCode.USAGE)


def _parse_rule(text: str) -> Document:
    condition, arrow, version = text.rpartition("->")
    header, equals, value = condition.removeprefix("header:").partition("=")
    if not arrow or not equals or not condition.startswith("header:"):
        fail(f"--rule: expected header:NAME=VALUE->VERSION (got '{text}')", ExitCode.USAGE)
    return {"header": header, "equals": value, "version": version}


def _print_route(name: str, route: Document, as_json: bool) -> None:
    if as_json:
        print_json(route)
        return
    console = data_console()
    table = table_of("Version", "Weight", "")
    for version, weight in route["split"].items():
        mark = " stable" if version == route["stable"] else ""
        table.add_row(version, f"{weight / 100:g} %", draw_bar(weight / 10_000) + mark)
    console.print(table)
    say(f"{name}: {route['answers']}")
    for key, item in (("sticky", route["sticky"]), ("acknowledged", route.get("acknowledged"))):
        if item not in (None, True):
            console.print(f"{key}: {item}")
    for rule in route["rules"]:
        console.print(f"rule: {rule['header']} = {rule['equals']} selects version {rule['version']}", markup=False)
    for item in route["shadow"]:
        console.print(f"shadow: version {item['version']} gets a copy of {item['percent']:g} %")


def draw_bar(share: float, width: int = BAR) -> Any:
    """Return a share (0 to 1) as a bar of blocks."""
    return "█" * round(share * width)
