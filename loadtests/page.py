"""Writes the data page of the benchmarks: tables in Markdown and pictures in SVG, from a report of ``make bench``."""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from loadtests.measurements import CLOSED, MANY

Row = Mapping[str, Any]

_WIDTH, _LABEL, _BAR, _GAP = 760, 150, 16, 5
_PENSTOCK, _CEILING, _OTHERS = "#1f6feb", "#8b949e", "#d29922"

_TAILS = {"p99_to_batched": "p99 / batched", "p999_to_batched": "p99.9 / batched", "cpu_to_batched": "CPU / batched"}

_INTRODUCTION = """# Benchmark data

The tables behind [the benchmarks](benchmarks.md): one row a server and path. All servers ran on the same cores of one
machine, in the same run, in turn, round after round. `inline` and `batched` are the ceilings: bare protocols without
routes, metrics or monitor. `inline` runs each request by itself; `batched` joins the requests that arrive in one turn
of the event loop into one run. Columns with a slash divide by that ceiling, round by round. A half load sends the same
rate to all servers of a codec; requests without a good answer are errors there, and rank beyond all answers.
"""


def draw_chart(title: str, bars: Sequence[tuple[str, float]]) -> str:
    """Bars as SVG, the longest as wide as the space allows; the value stands behind each."""
    height = 34 + len(bars) * (_BAR + _GAP)
    longest, most = _WIDTH - _LABEL - 90, max(value for _, value in bars)
    size = f'width="{_WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">',
        f'<rect width="100%" height="100%" fill="white"/><text x="8" y="18" font-size="14">{escape(title)}</text>',
    ]
    for index, (name, value) in enumerate(bars):
        y = 30 + index * (_BAR + _GAP)
        width = max(1, round(longest * value / most))
        parts.append(
            f'<text x="{_LABEL - 6}" y="{y + 12}" text-anchor="end">{escape(name)}</text>'
            f'<rect x="{_LABEL}" y="{y}" width="{width}" height="{_BAR}" fill="{_colour(name)}"/>'
            f'<text x="{_LABEL + width + 5}" y="{y + 12}">{value:,.0f}</text>'
        )
    return "".join(parts) + "</svg>\n"


def _colour(name: str) -> str:
    if name.startswith(("penstock", "2 workers")):
        return _PENSTOCK
    return _CEILING if name.startswith(("batched", "inline")) else _OTHERS


def render_page(report: Mapping[str, Any], pictures: Iterable[tuple[str, str]]) -> str:
    """The page; ``pictures`` are their titles and file names."""
    machine, versions, plan = report["machine"], report["versions"], report["plan"]
    cores = f"server on cores {_list(machine['server_cores'])}, client on {_list(machine['client_cores'])}"
    windows = ", ".join(f"{load['seconds']:g} s ({load['name']})" for load in plan["loads"])
    lines = [
        _INTRODUCTION,
        f"- machine: {machine['cpu']}, {machine['cores']} cores, kernel {machine['kernel']}; {cores}",
        f"- versions: {', '.join(f'{name} {value}' for name, value in versions.items() if value)}",
        f"- at {report['at']}, commit {report['commit']}; rounds: {plan['rounds']}; windows of {windows}",
        "- made by `make bench` and `python -m loadtests page bench-results/REPORT.json`",
        "",
        *[f"![{title}](pictures/{file})" for title, file in pictures],
        "",
    ]
    for model, group in groupby(report["medians"], key=lambda row: row["model"]):
        lines += [f"## {model}", ""]
        for load, rows in groupby(list(group), key=lambda row: row["load"]):
            lines += _table(load, list(rows))
    lines += ["## Starts and memory", "", "| server | model | start s | RSS MiB |", "|---|---|---|---|"]
    ordered = sorted(report["servers"], key=lambda row: (row["model"], row["server"]))
    for (model, server), group in groupby(ordered, key=lambda row: (row["model"], row["server"])):
        last = list(group)[-1]
        lines.append(f"| {server} | {model} | {last['start_s']:.2f} | {last['rss_bytes'] / 2**20:,.0f} |")
    return "\n".join(lines) + "\n"


def _table(load: str, rows: Sequence[Row]) -> list[str]:
    what = "req/s" if load == MANY else "p50"
    ratios = {"to_inline": f"{what} / inline", "to_batched": f"{what} / batched", **({} if load in CLOSED else _TAILS)}
    measured = [key for key in ratios if any(row[key] is not None for row in rows)]
    heads = ["", "req/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU µs", "errors", *(ratios[key] for key in measured)]
    lines = [f"### {load}", "", f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        cells = [
            row["contender"],
            *(_format_number(row[key]) for key in ("rate", "p50", "p99", "p999", "cpu_us")),
            str(row["errors"]),
            *("" if row[key] is None else f"{row[key]:.2f}" for key in measured),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _list(cores: Sequence[int]) -> str:
    return " and ".join(map(str, cores))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("report", type=Path, help="a report of make bench")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder of the page (default docs)")


def main(arguments: argparse.Namespace) -> int:
    """Write the page and its pictures."""
    report = json.loads(arguments.report.read_text())
    folder = arguments.docs / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for model, rows in groupby(report["medians"], key=lambda row: row["model"]):
        bars = [(row["contender"], row["rate"]) for row in rows if row["load"] == MANY]
        title, file = f"{model}: requests per second, 32 connections", f"bench-{model}.svg"
        (folder / file).write_text(draw_chart(title, sorted(bars, key=lambda bar: -bar[1])))
        pictures.append((title, file))
    (arguments.docs / "benchmarks-data.md").write_text(render_page(report, pictures))
    print(arguments.docs / "benchmarks-data.md")
    return 0
