"""The report of a replay as one page: what differs, with plots, and the requests that differ most."""

import json
from collections.abc import Iterator
from html import escape
from typing import Final

from penstock.loadtest.objectives import LATENCIES
from penstock.loadtest.page import to_details, to_page, to_table
from penstock.loadtest.plots import PlotLine, draw_lines
from penstock.loadtest.report import describe_durations
from penstock.replay.findings import SERIES, Findings
from penstock.replay.judgement import excess_of
from penstock.replay.pace import ASAP
from penstock.replay.report import ReplayResult, describe_comparison, latency_curve, to_document

_NINES: Final = 4.0
_MARKS: Final = ((0.30103, "50 %"), (1.0, "90 %"), (2.0, "99 %"), (3.0, "99.9 %"), (4.0, "99.99 %"))
_STEPS: Final = 120


def to_html(result: ReplayResult) -> str:
    """Return the page."""
    title = f"Replay to {result.setup.target}"
    return to_page(title, "".join(_render_body(result, title)))


def _render_body(result: ReplayResult, title: str) -> Iterator[str]:
    yield f'<h1>{escape(title)}: <span class="{result.outcome}">{result.outcome}</span></h1>'
    yield f"<p>{escape(_render_introduction(result))}</p>"
    if result.problem:
        yield f'<p class="invalid">{escape(result.problem)}.</p>'
    if text := describe_comparison(result):
        yield f"<h2>Differences</h2><p>{escape(text)}</p>"
        yield to_table(
            "Outputs",
            ("output", "compared", "differ", "noisy", "above noise", "rows with another class", "greatest difference"),
            _make_output_rows(result.findings),
        )
    yield from _render_plots(result.findings)
    yield _render_requests(result.findings)
    yield from _render_samples(result.findings)
    hidden = ("samples", "series")
    document = {key: value for key, value in to_document(result).items() if key not in hidden}
    yield to_details("Set-up", json.dumps(document, indent=2))


def _render_introduction(result: ReplayResult) -> str:
    setup = result.setup
    speed = (
        "as fast as the connections allow" if setup.speed == ASAP else f"at {setup.speed:g} times the captured speed"
    )
    return (
        f"{setup.started_at}: {', '.join(setup.captures)} to {setup.target} at {setup.address} by "
        f"{setup.transport.upper()} over {setup.connections} connections, {speed}. Durations run from the moment a "
        "request was due, and hold what the comparison in this client takes."
    )


def _make_output_rows(found: Findings) -> list[tuple[str, ...]]:
    return [
        (
            name,
            str(counts.pairs.compared),
            str(counts.pairs.differ),
            str(counts.pairs.noisy),
            f"{excess_of(counts.pairs).share:.4%}",
            str(counts.flips),
            f"{counts.max_abs:.6g}",
        )
        for name, counts in found.outputs.items()
    ]


def _render_plots(found: Findings) -> Iterator[str]:
    steps, width = found.series.steps(), found.series.step_s
    lines = [
        PlotLine(name, [(step.second, step.counts[place] / width) for step in steps])
        for place, name in enumerate(SERIES)
    ]
    yield draw_lines("Requests a second", "requests a second", lines[:2], None, "second", False)
    if found.pairs.compared:
        yield draw_lines("Differences a second", "requests a second", lines[2:], None, "second", False)
        yield draw_lines("Share of differences so far", "%", _make_share_lines(found), None, "second", False)
    yield draw_lines(
        "Latency by percentile", "ms", [PlotLine("answers", latency_curve(found, _NINES, _STEPS))], _MARKS, "percentile"
    )


def _make_share_lines(found: Findings) -> list[PlotLine]:
    """Return how the shares of requests that differ and that are noisy settle."""
    requests = differ = noisy = 0
    points: list[tuple[float, float, float]] = []
    for step in found.series.steps():
        requests, differ, noisy = requests + step.counts[0], differ + step.counts[2], noisy + step.counts[3]
        if requests:  # each is asked twice
            points.append((step.second, 200 * differ / requests, 200 * noisy / requests))
    return [
        PlotLine("differ", [(at, share) for at, share, _ in points]),
        PlotLine("noisy", [(at, own) for at, _, own in points]),
    ]


def _render_requests(found: Findings) -> str:
    ended = [(name, str(count)) for name, count in found.ended.most_common()]
    ended += [(f"not sent: {reason}", str(count)) for reason, count in found.skipped.most_common() if count]
    latency = [tuple("failed" if value is None else f"{value:.3f}" for value in _list_durations(found))]
    versions = [(version, str(count)) for version, count in found.versions.most_common()]
    return (
        "<h2>Requests</h2>"
        + to_table("How they ended", ("outcome", "requests"), ended)
        + to_table("Milliseconds", LATENCIES, latency)
        + to_table("Versions that answered", ("version", "answers"), versions)
    )


def _list_durations(found: Findings) -> list[float | None]:
    return list(describe_durations(found.durations.histogram()).values())


def _render_samples(found: Findings) -> Iterator[str]:
    if worst := found.worst():
        yield "<h2>The greatest differences</h2>"
    for sample in worst:
        document = sample.document
        head = document["error"] or f"{document['flips']} flips, greatest difference {document['max_abs_diff']:.6g}"
        text = json.dumps({key: document[key] for key in ("inputs", "captured", "answer")}, indent=1)
        yield to_details(f"{document['id']}: {head}", text)
