"""`penstock rollout`: move traffic to a version step by step, as evidence allows, and watch the progress."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.formatting import date_of, label_delay, table_of
from penstock.cli.options import AsJson, Name, ReasonOption, Url, Where
from penstock.cli.retries import read_through_outage
from penstock.cli.rollout_progress import OPEN, Reporter
from penstock.cli.route import draw_bar, use_gateway
from penstock.core.rollouts.guard_spec import NAMES, limit_word

KIND = "rollouts"
LOOK_S = 0.5
WIDTH = 24
COLOURS = {"pass": "green", "fail": "red", "undecided": "yellow"}
STATES = {"promoted": "green", "rolled_back": "red", "paused": "yellow", "inconclusive": "yellow"}
Which = Annotated[str | None, typer.Option("--id", help="Which rollout. [the newest]")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    group = typer.Typer(no_args_is_help=True, help="Start, watch and control the rollout of a version.")
    verbs: dict[str, Callable[..., None]] = {
        "start": start,
        "status": status,
        "pause": pause,
        "resume": resume,
        "approve": approve,
        "promote": promote,
        "abort": abort,
    }
    for name, verb in verbs.items():
        group.command(name)(verb)
    app.add_typer(group, name="rollout")


def start(
    name: Name,
    to: Annotated[str, typer.Option(help="The version to roll out.")],
    source: Annotated[
        str | None, typer.Option("--from", help="The version to compare with. [the version that answers]")
    ] = None,
    steps: Annotated[
        str | None,
        typer.Option(
            metavar="W,W,…|JSON",
            help="Weights of 10000; W! waits for 'rollout approve'; JSON for gates. [100,500,2500,5000,10000]",
        ),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Probability that a sound version is rolled back.")] = 0.01,
    guard: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC[:LIMIT]|JSON", help=f"{', '.join(NAMES)}; promql as JSON. [errors, latency]"),
    ] = None,
    min_step_seconds: Annotated[float, typer.Option(help="Minimum seconds at each step.")] = 30.0,
    deadline_seconds: Annotated[float | None, typer.Option(help="Maximum seconds of the rollout. [none]")] = None,
    on_inconclusive: Annotated[str, typer.Option(metavar="hold|abort", help="What to do at the deadline.")] = "hold",
    hold_back: Annotated[
        int | None, typer.Option(help="Weight of 10000 that the control keeps until promotion. [500]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Evaluate the current traffic; change nothing.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Print the progress until the rollout ends.")] = False,
    reason: ReasonOption = "",
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Start a rollout; it advances by itself as the evidence allows."""
    asked: Document = {"to": to, "alpha": alpha, "min_step_seconds": min_step_seconds, "reason": reason}
    asked |= {"on_inconclusive": on_inconclusive, "dry_run": dry_run}
    if source:
        asked["from"] = source
    if deadline_seconds:
        asked["deadline_seconds"] = deadline_seconds
    if hold_back is not None:
        asked["hold_back"] = hold_back
    if steps:
        asked["steps"] = _parse_steps(steps)
    if guard:
        asked["guards"] = [_parse_guard(item) for item in guard]
    with use_gateway(url, registry) as client:
        started = client.begin(name, KIND, asked)
        for warning in started.get("warnings", []):
            say(warning)
        if watch:
            _watch(client, name, started["id"])
            return
    if as_json:
        print_json(started)
    else:
        say(f"started rollout {started['id']} of {name} from version {started['from']} to {started['to']}")


def status(
    name: Name,
    which: Which = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update until the rollout ends.")] = False,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show the weights of a rollout, its evidence, and how many requests it still needs."""
    with use_gateway(url, registry) as client:
        trial_id = _find_trial(client, name, which)
        if watch and not as_json:
            _watch(client, name, trial_id)
            return
        document = client.trial(name, KIND, trial_id)
    print_json(document) if as_json else data_console().print(render(document))


def pause(name: Name, which: Which = None, reason: ReasonOption = "", url: Url = None, registry: Where = None) -> None:
    """Hold the current weights; a failed guard still rolls back."""
    _act("pause", name, which, reason, url, registry)


def resume(name: Name, which: Which = None, reason: ReasonOption = "", url: Url = None, registry: Where = None) -> None:
    """Continue a paused rollout."""
    _act("resume", name, which, reason, url, registry)


def approve(
    name: Name, which: Which = None, reason: ReasonOption = "", url: Url = None, registry: Where = None
) -> None:
    """Approve the step that waits for approval."""
    _act("approve", name, which, reason, url, registry)


def promote(
    name: Name, which: Which = None, reason: ReasonOption = "", url: Url = None, registry: Where = None
) -> None:
    """Give the version all the traffic now, without waiting for evidence."""
    _act("promote", name, which, reason, url, registry)


def abort(name: Name, which: Which = None, reason: ReasonOption = "", url: Url = None, registry: Where = None) -> None:
    """Roll back now: the version gets no more traffic."""
    _act("abort", name, which, reason, url, registry)


def _act(verb: str, name: str, which: str | None, reason: str, url: str | None, registry: str | None) -> None:
    with use_gateway(url, registry) as client:
        after = client.act(name, KIND, _find_trial(client, name, which), verb, reason)
    weight = f"{after['weight'] / 100:g} %"
    say(f"rollout {after['id']} of {name} is {after['state']}; version {after['to']} has a weight of {weight}")


def _find_trial(client: AdminApiClient, name: str, which: str | None) -> str:
    if which is not None:
        return which
    rollouts = client.trials(name, KIND)
    if not rollouts:
        fail(f"model '{name}' has no rollout; start one with: penstock rollout start {name} --to V", ExitCode.NOT_FOUND)
    return str(rollouts[0]["id"])


def _parse_steps(text: str) -> list[Any]:
    if not text.lstrip().startswith("["):
        return [_step(item.strip()) for item in text.split(",")]
    steps: list[Any] = _parse_json("--steps", text)
    return steps


def _step(text: str) -> int | Document:
    weight = text.removesuffix("!")
    if not weight.isdigit():
        fail(f"--steps: expected weights such as 100,500!,10000 (got '{text}')", ExitCode.USAGE)
    return int(weight) if weight == text else {"weight": int(weight), "approval": True}


def _parse_guard(text: str) -> Document:
    if text.lstrip().startswith("{"):
        guard: Document = _parse_json("--guard", text)
        return guard
    metric, _, limit = text.partition(":")
    word = limit_word(metric)
    if not limit or word is None:
        return {"metric": metric}
    try:
        return {"metric": metric, word: float(limit)}
    except ValueError:
        fail(f"--guard: expected METRIC, METRIC:NUMBER or JSON (got '{text}')", ExitCode.USAGE)


def _parse_json(option: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        fail(f"{option}: not valid JSON: {error}", ExitCode.USAGE)


def _watch(client: AdminApiClient, name: str, trial_id: str) -> None:
    """Show a rollout until it ends; without a terminal, print a line for each change."""
    console = Console()

    def look() -> Document:
        return read_through_outage(lambda: client.trial(name, KIND, trial_id))

    if not console.is_terminal:
        _follow(look)
        return
    document = look()
    with Live(render(document), console=console, auto_refresh=False) as live:
        while document["state"] in OPEN:
            time.sleep(LOOK_S)
            document = look()
            live.update(render(document), refresh=True)


def _follow(look: Callable[[], Document]) -> None:
    reporter = Reporter()
    while True:
        document = look()
        for line in reporter.lines(document, time.monotonic()):
            typer.echo(line)
        if document["state"] not in OPEN:
            return
        time.sleep(LOOK_S)


def render(rollout: Document) -> Any:
    """Return a rollout as text: weights, steps, and bars of evidence towards pass and fail."""
    state = rollout["state"]
    heading = Text(f"{rollout['model']}: {rollout['from']} to {rollout['to']}  ", style="bold")
    heading.append(state + (" (dry run)" if rollout["dry_run"] else ""), style=STATES.get(state, ""))
    parts: list[Any] = [heading, _make_weight_table(rollout), _draw_steps(rollout), _make_evidence_table(rollout)]
    parts += [Text(line) for line in _describe_labels(rollout)]
    ratio = rollout["sample_ratio"]
    if ratio["verdict"] != "sound":
        parts.append(Text("the observed split does not match the weights; the evidence is not reliable", style="red"))
    if rollout["needed"] and state == "running":
        seconds = rollout["needed_seconds"]
        at_this_rate = "" if seconds is None else f", {seconds:.0f} s at this rate"
        parts.append(Text(f"about {rollout['needed']} more canary requests until a decision{at_this_rate}"))
    parts += [Text(part) for part in rollout["progress"]]
    parts += [Text(part, style="yellow") for part in rollout.get("warnings", [])]
    parts.append(
        Text(f"{rollout['id']}, started {date_of(rollout['created_at'])} by {rollout['created_by']}", style="dim")
    )
    return Group(*parts)


def _describe_labels(rollout: Document) -> list[str]:
    """Return lines on the performance guard: the interval of the increase, the age of labels, and waiting labels."""
    if "labels" not in rollout:
        return []
    item, waiting = rollout["evidence"].get("performance"), rollout["labels"]["waiting"]
    waits = ", ".join(f"{count} of version {version}" for version, count in sorted(waiting.items()) if count)
    lines = [f"labels that wait for labels of the same age from the other version: {waits}"] if waits else []
    if item is not None and (age := label_delay(item["label_delay_seconds"])):
        low, high = item["interval"]
        lines.insert(0, f"performance: the error rate changes by {low:+.4f} to {high:+.4f}; age of labels: {age}")
    return lines


def _weight_of(step: Any) -> int:
    weight: int = step["weight"] if isinstance(step, dict) else step
    return weight


def _make_weight_table(rollout: Document) -> Table:
    table = table_of("Version", "Weight", "")
    weight = rollout["weight"]
    for version, part in ((rollout["from"], 10_000 - weight), (rollout["to"], weight)):
        table.add_row(version, f"{part / 100:g} %", draw_bar(part / 10_000))
    return table


def _draw_steps(rollout: Document) -> Text:
    text = Text("steps ")
    if rollout["shadow"]:
        text.append("shadow ", style="bold reverse" if rollout["step"] < 0 else "green")
    most = 10_000 - rollout["hold_back"]
    for index, weight in enumerate(rollout["steps"]):
        style = "bold reverse" if index == rollout["step"] else "green" if index < rollout["step"] else "dim"
        mark = "!" if isinstance(weight, dict) and weight["approval"] else ""
        text.append(f"{min(_weight_of(weight), most) / 100:g} %{mark}", style=style)
        text.append(" ")
    promoted = rollout["state"] == "promoted"
    text.append("promotion", style="green" if promoted else "dim")
    if _weight_of(rollout["steps"][-1]) > most and rollout["state"] in OPEN:
        text.append(f" (the control keeps {rollout['hold_back'] / 100:g} % until promotion)", style="dim")
    return text


def _make_evidence_table(rollout: Document) -> Table:
    table = table_of("Guard", "Verdict", "towards fail", "towards pass", "Canary", "Control", "Effect", "Needed")
    for name, item in rollout["evidence"].items():
        table.add_row(
            name,
            Text(item["verdict"], style=COLOURS[item["verdict"]]),
            _draw_bar(item["log_e"], item["log_e_fail_at"], "red"),
            _draw_bar(item["log_e_pass"], item["log_e_pass_at"], "green"),
            str(item["n_canary"]),
            str(item["n_control"]),
            "" if item["effect"] is None else f"{item['effect']:.4g}",
            str(item["needed"]) if item["needed"] else "",
        )
    return table


def _draw_bar(value: float, target: float, colour: str) -> Text:
    share = min(1.0, max(0.0, value / target)) if target else 0.0
    full = round(share * WIDTH)
    return Text("█" * full, style=colour) + Text("░" * (WIDTH - full), style="dim")
