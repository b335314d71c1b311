"""`penstock monitor`: show the drift, quality, latency and performance of a version."""

import math
import time
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.progress import Progress
from rich.text import Text

from penstock.cli.client import Document
from penstock.cli.console import ExitCode, data_console, fail, print_json, say
from penstock.cli.formatting import table_of
from penstock.cli.options import AsJson, Url, Where
from penstock.cli.retries import read_through_outage
from penstock.cli.route import use_gateway

POLL_S = 1.0
SPARKS = "▁▂▃▄▅▆▇█"
WIDTH = 12
COLOURS = {"ok": "green", "drift": "red", "insufficient_data": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(monitor)


def monitor(
    name: Annotated[str, typer.Argument(help="The model.")] = "",
    version: Annotated[str | None, typer.Option(help="The version to show. [the version that answers]")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Update every second.")] = False,
    relearn: Annotated[
        bool, typer.Option("--relearn", help="Discard the reference and learn a new one from traffic.")
    ] = False,
    reason: Annotated[str, typer.Option(help="The reason for --relearn, for the audit.")] = "",
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Test the monitor on simulated streams, without a gateway.")
    ] = False,
    streams: Annotated[int, typer.Option(min=1, help="Streams for each case of the self-test.")] = 5,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show drift, quality, latency and performance of the version that answers, or of another."""
    if self_test:
        raise typer.Exit(_self_test(streams, as_json))
    if not name:
        fail("no model given; name one, or test the monitor with --self-test", ExitCode.USAGE)
    with use_gateway(url, registry) as client:

        def look() -> Group:
            return render(name, client.monitor(name, version))

        if relearn:
            _print_relearning(client.relearn(name, version, reason), as_json)
            return
        if as_json:
            print_json(client.monitor(name, version))
            return
        if not watch:
            data_console().print(look())
            return
        with Live(look(), console=Console(), auto_refresh=False) as live:
            while True:
                time.sleep(POLL_S)
                live.update(read_through_outage(look), refresh=True)


def _print_relearning(answer: Document, as_json: bool) -> None:
    if as_json:
        print_json(answer)
        return
    spec = answer["learning"]
    say(
        f"{answer['model']}:{answer['version']} is learning a new reference from {spec['rows']} rows of at least "
        f"{spec['requests']} requests over {spec['seconds']:g} s, at most {spec['client_share']:.0%} of them from one "
        "client; drift detection resumes with the new reference"
    )


def _self_test(streams: int, as_json: bool) -> int:
    """Print the delays of detection and the false alarms; return 1 if a case misses its limits."""
    from penstock.monitor.selftest import CASES, judge_case, rows_of, run

    findings = []
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("streams", total=len(CASES) * streams)
        for case in CASES:
            outcomes = []
            for seed in range(streams):
                outcomes.append(run(case, seed, unchanged_rows=rows_of(case)))
                bars.advance(task)
            findings.append(judge_case(case, outcomes))
    if as_json:
        print_json([{**asdict(item), "case": item.case.name, "holds": item.holds} for item in findings])
    else:
        table = table_of("Case", "Streams", "False alarms", "in rows", "Found", "after rows", "asked", "Holds")
        for item in findings:
            asked = f"<= {item.case.within}" if item.case.within else f"<= 1 in {item.budget:.0f}"
            delay = "" if item.mean_delay is None else f"{item.mean_delay:.0f}"
            hits = "" if item.case.within is None else f"{item.found} of {item.streams}"
            alarms = (str(item.streams), str(item.false_alarms), str(item.unchanged_rows))
            table.add_row(item.case.name, *alarms, hits, delay, asked, "yes" if item.holds else "NO")
        data_console().print(table)
    return ExitCode.OK if all(item.holds for item in findings) else ExitCode.FAILURE


def render(model: str, document: Document) -> Group:
    """Return the text for one version: its share of the requests, reference and latency, then its outputs and inputs
    with histograms and evidence, and the other versions."""
    parts = _describe_answering(model, document)
    if document["version"] is not None:
        parts += _describe_version(document)
    return Group(*parts)


def _describe_answering(model: str, document: Document) -> list[Any]:
    """Return the version shown, the versions that answer, and the other versions."""
    answers, version = document["answers"], document["version"]
    shares = [f"version {item} answers {_format_percent(share)} of the requests" for item, share in answers.items()]
    if version is None:
        return [Text(f"{model}  no version answers", style="bold")]
    if version in answers:
        whole = answers[version] == 1
        own = "it answers all requests" if whole else f"it answers {_format_percent(answers[version])} of the requests"
        others = [text for answer, text in zip(answers, shares, strict=True) if answer != version]
    else:
        own, others = "it answers no requests", shares or ["no version answers"]
    lines = [Text(f"{model}:{version}  {'; '.join([own, *others])}", style="bold")]
    silent = [item for item in document.get("versions", {}) if item not in answers and item != version]
    if silent:
        lines.append(Text(f"also served: {', '.join(silent)}; show one with --version", style="dim"))
    return lines


def _format_percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _describe_version(version: Document) -> list[Any]:
    """Return the text for one version."""
    reference, latency = version["reference"], version["latency"]
    learning = "no reference yet; it is learned from the first rows"
    parts: list[Any] = [
        Text(learning if reference is None else _describe_reference(reference)),
        *(Text(f"wider thresholds: {reason['why']}", style="dim") for reason in version.get("widened", [])),
        Text(f"p50 {latency['p50']:.3g} ms, p99 {latency['p99']:.3g} ms, {latency['count']} requests"),
        *_describe_objectives(version.get("slo", {})),
        *_describe_performance(version["performance"]),
    ]
    if reference is None:
        return parts
    table = table_of("", "State", "reference", "now", "evidence", "PSI", "KS", "Rows", "Missing", "Out of range")
    joint = [version["joint"]] if version["joint"] else []
    attributions = [item for item in version.get("importance", {}).get("columns", ()) if item["state"] == "drift"]
    for side, features in (("out", version["outputs"]), ("in", version["features"]), ("", [*joint, *attributions])):
        for feature in features:
            table.add_row(*_make_cells(side, feature, version["rows_between_false_alarms"]))
    bounds = [Text(_describe_multiplicity(version["multiplicity"]), style="dim")] if "multiplicity" in version else []
    return [*parts, table, *bounds, *(Text(line, style="red") for line in _describe_problems(version))]


def _describe_multiplicity(tests: Document) -> str:
    """Return how many tests run at the same time, and the bounds of their false alarms."""
    subjects = {
        "drift": "for drift",
        "quality": "for valid values",
        "slices": "in slices",
        "attributions": "for attributions",
    }
    kinds = ", ".join(f"{count} {subjects[name]}" for name, count in tests["tests"].items() if count)
    total, fleet, daily = sum(tests["tests"].values()), tests["fleet"], tests["false_alarms_per_day"]
    bound = f"at most 1 false alarm in {tests['rows_between_false_alarms']:,.0f} rows on average"
    parts = [f"{total} tests at the same time ({kinds}), together {bound}"]
    if daily:
        parts.append(f"and {daily:.3g} a day")
    if fleet["false_alarms_per_day"]:
        versions = f"{fleet['versions']} version{'s' * (fleet['versions'] != 1)} here"
        gateways = f"{fleet['gateways']} gateway{'s' * (fleet['gateways'] != 1)}"
        parts.append(f"of {fleet['false_alarms_per_day']:.3g} a day in all over {gateways} and {versions}")
    return ", ".join(parts)


def _describe_reference(reference: Document) -> str:
    hours = {168: ", by the hour of the week", 24: ", by the hour of the day"}.get(reference.get("hours", 0), "")
    return f"{reference['source']} reference of {reference['rows']} rows{hours}"


def _describe_objectives(slo: Document) -> list[Text]:
    """Return a line for each objective, and whether it is met."""
    lines = []
    for name, objective in slo.items():
        verdict = {None: "no requests yet", True: "met", False: "not met"}[objective["met"]]
        measured = "" if objective["value"] is None else f"{objective['value']:.4g} of "
        lines.append(
            Text(f"{name} {measured}{objective['objective']:g}: {verdict}", style="red" * (objective["met"] is False))
        )
    return lines


def _describe_performance(performance: Document) -> list[Text]:
    """Return the measured accuracy and the accuracy estimated from the model's probabilities, if known."""
    parts = []
    estimated = performance.get("estimated")
    if estimated:
        basis = "calibrated" if estimated["calibrated"] else "as the model says"
        band = f"{estimated['low']:.3f} to {estimated['high']:.3f}"
        parts.append(f"estimated accuracy {estimated['accuracy']:.3f} ({band}, {basis})")
    if performance.get("windowed"):
        metrics = [f"{name} {value:.3f}" for name, value in performance["windowed"].items() if value is not None]
        parts.append(f"{performance['labels']} labels: {', '.join(metrics)}")
        parts += [f"{part}: {performance[part]['state']}" for part in ("concept", "gap")]
    return [Text(", ".join(parts))] if parts else []


def _describe_problems(document: Document) -> list[str]:
    """Return lines on invalid values and drifting slices."""
    lines = [f"{bad['name']}: {bad['kind']} {bad['rates'][bad['kind']]:.2%}" for bad in document["quality"]["violated"]]
    for key, values in document["slices"].items():
        for value, state in values.items():
            lines += [f"where {key} is {value}: {column['name']} drifts" for column in state["drifting"]]
    return lines


def _make_cells(side: str, feature: Document, budget: float) -> tuple[Any, ...]:
    share = min(1.0, max(0.0, feature["log_e"] / math.log(budget)))
    full = round(share * WIDTH)
    return (
        f"{side} {feature['name']}".strip(),
        Text(feature["state"], style=COLOURS[feature["state"]]),
        draw_sparkline(feature["reference_counts"]),
        draw_sparkline(feature["counts"]),
        Text("█" * full, style="red") + Text("░" * (WIDTH - full), style="dim"),
        f"{feature['psi']:.3f}",
        f"{feature['ks']:.3f}",
        str(feature["rows"]),
        str(feature["missing"]),
        str(feature["out_of_range"]),
    )


def draw_sparkline(counts: list[int]) -> str:
    """Return counts as a line of bars."""
    top = max(counts, default=0)
    return "".join(SPARKS[round(count / top * (len(SPARKS) - 1))] if top else SPARKS[0] for count in counts)
