"""The report as one page: figures as tables, plots as SVG, and no script; it needs nothing from elsewhere."""

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from penstock.loadtest.junit import describe_figure
from penstock.loadtest.objectives import LATENCIES
from penstock.loadtest.page import to_details, to_page, to_table
from penstock.loadtest.plots import PlotLine, draw_intervals, draw_lines, draw_trials
from penstock.loadtest.report import LoadTestResults, TargetResult, describe_capacity, describe_durations, to_document

_NINES: Final = (50.0, 90.0, 99.0, 99.9, 99.99)
_STEPS: Final = 120


def to_html(results: LoadTestResults) -> str:
    """Return the page."""
    title = f"Load test of {results.setup.model}"
    return to_page(title, "".join(_render_body(results, title)))


def _render_body(results: LoadTestResults, title: str) -> Iterator[str]:
    yield f'<h1>{escape(title)}: <span class="{results.outcome}">{results.outcome}</span></h1>'
    yield f"<p>{escape(_render_introduction(results))}</p>"
    for target in results.targets:
        if target.problem:
            yield f'<p class="invalid">{escape(target.label)}: {escape(target.problem)}.</p>'
    if results.search is not None:
        yield f"<h2>Capacity</h2><p>{escape(describe_capacity(results.search))}</p>"
        yield draw_trials("Rates that were tried", [(trial.rate, trial.kept) for trial in results.search.trials])
    yield from _render_objectives(results)
    yield _render_latencies(results.targets)
    yield from _render_comparison(results)
    yield from _render_plots(results.targets)
    yield from _render_requests(results.targets)
    document = {key: value for key, value in to_document(results).items() if key != "targets"}
    yield to_details("Set-up", json.dumps(document, indent=2))


def _render_introduction(results: LoadTestResults) -> str:
    setup = results.setup
    start, end = setup.rate["start"], setup.rate["end"]
    rate = f"{end:g} requests a second" if start == end else f"{start:g} to {end:g} requests a second"
    return (
        f"{setup.started_at}: {rate} ({setup.arrivals} arrivals) by {setup.transport.upper()} over "
        f"{setup.connections} connections, inputs from the {setup.inputs}, {setup.request_bytes} bytes each. "
        "A duration runs from the moment a request was due, whether a connection was free for it or not. "
        "Requests that failed rank beyond all answers."
    )


def _render_objectives(results: LoadTestResults) -> Iterator[str]:
    if results.verdicts:
        rows = [(verdict.objective.text, describe_figure(verdict), verdict.outcome) for verdict in results.verdicts]
        yield "<h2>Objectives</h2>" + to_table("Figures and limits", ("objective", "observed", "outcome"), rows)


def _render_latencies(targets: Sequence[TargetResult]) -> str:
    rows = []
    for target in targets:
        for kind, histogram in (("due", target.measurement.latency), ("sent", target.measurement.service)):
            cells = ["failed" if value is None else f"{value:.3f}" for value in describe_durations(histogram).values()]
            rows.append((f"{target.label}, from when {kind}", *cells))
    return "<h2>Latency</h2>" + to_table("Milliseconds", ("target", *LATENCIES), rows)


def _render_comparison(results: LoadTestResults) -> Iterator[str]:
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
    yield to_table("Ratio", ("figure", "low", "estimate", "high", "finding"), cells)


def _render_plots(targets: Sequence[TargetResult]) -> Iterator[str]:
    marks = [(_count_nines(percent), f"{percent:g} %") for percent in _NINES]
    curves = [PlotLine(target.label, _find_curve(target)) for target in targets]
    yield draw_lines("Latency by percentile", "ms", curves, marks, "percentile")
    for target in targets:
        series = target.measurement.series
        lines = [
            PlotLine(name, [(at.second, _round_number(getattr(at, f"{name}_ms"))) for at in series])
            for name in ("p50", "p99")
        ]
        yield draw_lines(f"{target.label}: latency of the requests due in each second", "ms", lines, None, "second")
        counts = [
            PlotLine("due", [(at.second, at.due) for at in series]),
            PlotLine("failed", [(at.second, at.failed) for at in series]),
        ]
        yield draw_lines(f"{target.label}: requests in each second", "requests", counts, None, "second", False)


def _count_nines(percent: float) -> float:
    return -math.log10(1 - percent / 100)


def _find_curve(target: TargetResult) -> list[tuple[float, float]]:
    """Return the percentiles as a curve over the number of nines, until failed requests begin."""
    places = [step / _STEPS * _count_nines(99.99) for step in range(_STEPS + 1)]
    latency = target.measurement.latency
    points = [(place, latency.percentile_us(100 * (1 - 10**-place)) / 1000) for place in places]
    return [(place, value) for place, value in points if math.isfinite(value)]


def _round_number(value: float | None) -> float:
    return math.nan if value is None else value


def _render_requests(targets: Sequence[TargetResult]) -> Iterator[str]:
    rows = []
    for target in targets:
        measured = target.measurement
        failures = ", ".join(f"{count} {outcome}" for outcome, count in measured.failures.items()) or "none"
        figures = (f"{measured.requests}", f"{measured.good}", f"{measured.rate:.1f}/s")
        rows.append((target.label, *figures, failures))
    yield "<h2>Requests</h2>" + to_table("Of the measurement", ("target", "due", "answered", "rate", "failures"), rows)
    stages = [target for target in targets if target.stages is not None]
    for target in stages:
        means = {} if target.stages is None else target.stages.mean_ms
        yield to_table(
            f"{target.label}: mean milliseconds inside the gateway",
            tuple(means),
            [[f"{v:.3f}" for v in means.values()]],
        )
