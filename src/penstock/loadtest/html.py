"""The report as one page: figures as tables, plots as SVG, and no script; it needs nothing from elsewhere."""

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from penstock.loadtest.junit import describe_figure
from penstock.loadtest.objectives import LATENCIES
from penstock.loadtest.plots import Line, draw_intervals, draw_lines, draw_trials
from penstock.loadtest.report import Results, TargetResult, describe_capacity, durations, to_document

_NINES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
_STEPS: Final = 120
_OUTCOMES: Final = ("pass", "breach", "undecided")

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1b2430; --soft: #5b6675; --line: #d8dee6; --paper: #fff; --a: #0b62c4;
  --b: #b34700; --c: #0b7a4b; --d: #8a2be2; --bad: #b00020; --good: #0b7a4b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf2; --soft: #a4afbf; --line: #36404d; --paper: #14191f;
  --a: #69b1ff; --b: #ffa366; --c: #58d3a0; --d: #c79bff; --bad: #ff8a95; --good: #58d3a0; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; display: block; overflow-x: auto; } caption { text-align: left; color: var(--soft); }
th, td { padding: .25rem .75rem; border-bottom: 1px solid var(--line); text-align: right;
  font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.pass { color: var(--good); } .breach, .invalid, .interrupted { color: var(--bad); font-weight: 600; }
figure { margin: 1.5rem 0; } figcaption { font-weight: 600; } svg { width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; } svg .axis { fill: var(--soft); }
.grid { stroke: var(--line); } .one { stroke: var(--soft); stroke-dasharray: 4 3; }
path { fill: none; stroke-width: 2; } .s0 { stroke: var(--a); } .s1 { stroke: var(--b); } .s2 { stroke: var(--c); }
.s3 { stroke: var(--d); } line.s0 { stroke-width: 2; } .d0 { fill: var(--a); } svg .t0 { fill: var(--a); }
svg .t1 { fill: var(--b); } svg .t2 { fill: var(--c); } svg .t3 { fill: var(--d); }
.kept { fill: var(--good); stroke: var(--good); } .breached { fill: none; stroke: var(--bad); stroke-width: 2; }
"""


def to_html(results: Results) -> str:
    """Return the page."""
    title = f"Load test of {results.setup.model}"
    body = "".join(_body(results, title))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><main>{body}</main></body></html>\n"
    )


def _body(results: Results, title: str) -> Iterator[str]:
    yield f'<h1>{escape(title)}: <span class="{results.outcome}">{results.outcome}</span></h1>'
    yield f"<p>{escape(_introduction(results))}</p>"
    for target in results.targets:
        if target.problem:
            yield f'<p class="invalid">{escape(target.label)}: {escape(target.problem)}.</p>'
    if results.search is not None:
        yield f"<h2>Capacity</h2><p>{escape(describe_capacity(results.search))}</p>"
        yield draw_trials("Rates that were tried", [(trial.rate, trial.kept) for trial in results.search.trials])
    yield from _objectives(results)
    yield _latencies(results.targets)
    yield from _comparison(results)
    yield from _plots(results.targets)
    yield from _requests(results.targets)
    document = {key: value for key, value in to_document(results).items() if key != "targets"}
    yield f"<details><summary>Set-up</summary><pre>{escape(json.dumps(document, indent=2))}</pre></details>"


def _introduction(results: Results) -> str:
    setup = results.setup
    start, end = setup.rate["start"], setup.rate["end"]
    rate = f"{end:g} requests a second" if start == end else f"{start:g} to {end:g} requests a second"
    return (
        f"{setup.started_at}: {rate} ({setup.arrivals} arrivals) by {setup.transport.upper()} over "
        f"{setup.connections} connections, inputs from the {setup.inputs}, {setup.request_bytes} bytes each. "
        "A duration runs from the moment a request was due, whether a connection was free for it or not. "
        "Requests that failed rank beyond all answers."
    )


def _table(caption: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are texts, but for marks of an outcome."""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head)
    lines = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>"


def _cell(text: str) -> str:
    return f'<td class="{text}">{text}</td>' if text in _OUTCOMES else f"<td>{escape(text)}</td>"


def _objectives(results: Results) -> Iterator[str]:
    if results.verdicts:
        rows = [(verdict.objective.text, describe_figure(verdict), verdict.outcome) for verdict in results.verdicts]
        yield "<h2>Objectives</h2>" + _table("Figures and limits", ("objective", "observed", "outcome"), rows)


def _latencies(targets: Sequence[TargetResult]) -> str:
    rows = []
    for target in targets:
        for kind, histogram in (("due", target.measurement.latency), ("sent", target.measurement.service)):
            cells = ["failed" if value is None else f"{value:.3f}" for value in durations(histogram).values()]
            rows.append((f"{target.label}, from when {kind}", *cells))
    return "<h2>Latency</h2>" + _table("Milliseconds", ("target", *LATENCIES), rows)


def _comparison(results: Results) -> Iterator[str]:
    if not results.ratios:
        return
    yield f"<h2>{escape(results.targets[0].label)} against {escape(results.targets[1].label)}</h2>"
    rows = [
        (name.removesuffix("_ratio"), interval.low, interval.estimate, interval.high)
        for name, interval in results.ratios.items()
    ]
    yield draw_intervals("Ratio of durations, with its confidence interval", rows)
    cells = [
        (name, f"{low:.3f}", f"{estimate:.3f}", f"{high:.3f}", results.ratios[f"{name}_ratio"].direction)
        for name, low, estimate, high in rows
    ]
    yield _table("Ratio", ("figure", "low", "estimate", "high", "finding"), cells)


def _plots(targets: Sequence[TargetResult]) -> Iterator[str]:
    marks = [(_nines(percent), f"{percent:g} %") for percent in _NINES]
    curves = [Line(target.label, _curve(target)) for target in targets]
    yield draw_lines("Latency by percentile", "ms", curves, marks, "percentile")
    for target in targets:
        series = target.measurement.series
        lines = [
            Line(name, [(at.second, _number(getattr(at, f"{name}_ms"))) for at in series]) for name in ("p50", "p99")
        ]
        yield draw_lines(f"{target.label}: latency of the requests due in each second", "ms", lines, None, "second")
        counts = [
            Line("due", [(at.second, at.due) for at in series]),
            Line("failed", [(at.second, at.failed) for at in series]),
        ]
        yield draw_lines(f"{target.label}: requests in each second", "requests", counts, None, "second", False)


def _nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _curve(target: TargetResult) -> list[tuple[float, float]]:
    """Return the percentiles as a curve over the number of nines, until failed requests begin."""
    places = [step / _STEPS * _nines(99.99) for step in range(_STEPS + 1)]
    latency = target.measurement.latency
    points = [(place, latency.percentile_us(100 * (1 - 10**-place)) / 1000) for place in places]
    return [(place, value) for place, value in points if math.isfinite(value)]


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _requests(targets: Sequence[TargetResult]) -> Iterator[str]:
    rows = []
    for target in targets:
        measured = target.measurement
        failures = ", ".join(f"{count} {outcome}" for outcome, count in measured.failures.items()) or "none"
        figures = (f"{measured.requests}", f"{measured.good}", f"{measured.rate:.1f}/s")
        rows.append((target.label, *figures, failures))
    yield "<h2>Requests</h2>" + _table("Of the measurement", ("target", "due", "answered", "rate", "failures"), rows)
    stages = [target for target in targets if target.stages is not None]
    for target in stages:
        means = {} if target.stages is None else target.stages.mean_ms
        yield _table(
            f"{target.label}: mean milliseconds inside the gateway",
            tuple(means),
            [[f"{v:.3f}" for v in means.values()]],
        )
