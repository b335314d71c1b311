"""`penstock monitor`: what a model's rows look like beside its reference, and what the monitor says of it."""

import math
import time
from typing import Annotated, Any

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from penstock.cli.client import Document
from penstock.cli.console import data_console, print_json
from penstock.cli.models import AsJson, Url, Where, table_of
from penstock.cli.route import gateway

LOOK_S = 1.0
SPARKS = "▁▂▃▄▅▆▇█"
WIDTH = 12
COLOURS = {"ok": "green", "drift": "red", "insufficient_data": "yellow"}


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command()(monitor)


def monitor(
    name: Annotated[str, typer.Argument(help="The model.")],
    version: Annotated[str | None, typer.Option(help="Only this version.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and show it as it goes.")] = False,
    url: Url = None,
    registry: Where = None,
    as_json: AsJson = False,
) -> None:
    """Show drift, quality, latency and performance of a model's versions."""
    with gateway(url, registry) as found:

        def look() -> dict[str, Document]:
            document = found.monitor(name, version)
            versions: dict[str, Document] = document.get("versions") or {str(version): document}
            return versions

        if as_json:
            print_json(found.monitor(name, version))
            return
        if not watch:
            data_console().print(picture(name, look()))
            return
        with Live(picture(name, look()), console=Console(), auto_refresh=False) as live:
            while True:
                time.sleep(LOOK_S)
                live.update(picture(name, look()), refresh=True)


def picture(model: str, versions: dict[str, Document]) -> Any:
    """Every version: its reference and latency, then outputs and inputs with their histograms and evidence."""
    parts: list[Any] = []
    for version, one in versions.items():
        reference = one["reference"]
        learning = "no reference yet; it is learned from the first rows"
        told = learning if reference is None else f"{reference['source']} reference of {reference['rows']} rows"
        latency = one["latency"]
        parts.append(Text(f"{model}:{version}  {told}", style="bold"))
        parts.append(Text(f"p50 {latency['p50']:.3g} ms, p99 {latency['p99']:.3g} ms, {latency['count']} requests"))
        if reference is None:
            continue
        table = table_of("", "State", "reference", "now", "evidence", "PSI", "KS", "Rows", "Missing", "Out of range")
        joint = [one["joint"]] if one["joint"] else []
        for side, features in (("out", one["outputs"]), ("in", one["features"]), ("", joint)):
            for feature in features:
                table.add_row(*_row(side, feature, one["rows_between_false_alarms"]))
        parts.append(table)
    return Group(*parts)


def _row(side: str, feature: Document, budget: float) -> tuple[Any, ...]:
    share = min(1.0, max(0.0, feature["log_e"] / math.log(budget)))
    full = round(share * WIDTH)
    return (
        f"{side} {feature['name']}".strip(),
        Text(feature["state"], style=COLOURS[feature["state"]]),
        spark(feature["reference_counts"]),
        spark(feature["counts"]),
        Text("█" * full, style="red") + Text("░" * (WIDTH - full), style="dim"),
        f"{feature['psi']:.3f}",
        f"{feature['ks']:.3f}",
        str(feature["rows"]),
        str(feature["missing"]),
        str(feature["out_of_range"]),
    )


def spark(counts: list[int]) -> str:
    """Counts as a line of little bars."""
    top = max(counts, default=0)
    return "".join(SPARKS[round(count / top * (len(SPARKS) - 1))] if top else SPARKS[0] for count in counts)
