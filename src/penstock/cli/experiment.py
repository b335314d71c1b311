"""`penstock experiment`: compare versions by the rewards of their answers."""

from collections.abc import Callable
from typing import Annotated

import typer
from rich.text import Text

from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.formatting import label_delay, table_of
from penstock.cli.options import AsJson, Name, ReasonOption, Url, Where
from penstock.cli.route import parse_weights, use_gateway

KIND = "experiments"
WIDTH = 40


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Compare versions by rewards.")
    verbs: dict[str, Callable[..., None]] = {"start": start, "status": status, "stop": stop}
    for name, verb in verbs.items():
        group.command(name)(verb)
    app.add_typer(group, name="experiment")


def start(
    name: Name,
    arms: Annotated[str, typer.Option(metavar="V=W,V=W", help="The versions and their weights of 10000.")],
    sticky: Annotated[
        str | None, typer.Option(metavar="header:NAME", help="The header whose value assigns an arm.")
    ] = None,
    mode: Annotated[
        str, typer.Option(metavar="fixed|thompson", help="Keep the weights, or adapt them to the rewards.")
    ] = "fixed",
    least_weight: Annotated[int, typer.Option("--floor", help="Minimum weight of an arm with thompson.")] = 500,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Start an experiment; send rewards with POST /v2/models/NAME/feedback."""
    specification: Document = {
        "arms": parse_weights(arms, "--arms"),
        "mode": mode,
        "floor": least_weight,
        "reason": reason,
    }
    if sticky:
        specification["sticky"] = sticky
    with use_gateway(url, registry) as client:
        started = client.begin(name, KIND, specification)
    print_json(started) if as_json else say(f"started experiment {started['id']} of {name}")


def status(name: Name, url: Url = None, registry: Where = None, as_json: AsJson = False) -> None:
    """Show the newest experiment, with the mean reward of each arm and its confidence sequence."""
    with use_gateway(url, registry) as client:
        experiments = client.trials(name, KIND)
    if not experiments:
        fail(f"model '{name}' has no experiment", ExitCode.NOT_FOUND)
    if as_json:
        print_json(experiments[0])
        return
    console = data_console()
    console.print(f"{name}  {experiments[0]['mode']}  {experiments[0]['state']}")
    table = table_of("Arm", "Weight", "Requests", "Rewards", "Mean", "0 to 1", "Age of rewards")
    for arm, item in experiments[0]["arms"].items():
        mean = "" if item["mean"] is None else f"{item['mean']:.3f}"
        counts = f"{item['weight'] / 100:g} %", str(item["requests"]), str(item["rewards"])
        interval = _format_interval(item["low"], item["high"], arm == experiments[0]["best"])
        table.add_row(arm, *counts, mean, interval, label_delay(item["label_delay_seconds"]))
    console.print(table)
    if experiments[0]["best"]:
        say(f"the best arm is version {experiments[0]['best']}")


def stop(name: Name, reason: ReasonOption = "", url: Url = None, registry: Where = None) -> None:
    """Stop the newest experiment and restore the previous route."""
    with use_gateway(url, registry) as client:
        experiments = client.trials(name, KIND)
        if not experiments:
            fail(f"model '{name}' has no experiment", ExitCode.NOT_FOUND)
        after = client.act(name, KIND, experiments[0]["id"], "stop", reason)
    say(f"experiment {after['id']} of {name} is {after['state']}")


def _format_interval(low: float, high: float, best: bool) -> Text:
    start_at, end_at = round(low * WIDTH), max(round(high * WIDTH), round(low * WIDTH) + 1)
    return (
        Text("·" * start_at, style="dim")
        + Text("━" * (end_at - start_at), style="green" if best else "")
        + Text("·" * (WIDTH - end_at), style="dim")
    )
