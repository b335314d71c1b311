"""The page of a model's columns, drift, data quality, latency and performance."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request

from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import (
    Child,
    Markup,
    description_list,
    join,
    render_badge,
    render_element,
    render_table,
)
from penstock.api.console.services import ConsoleServices, Page
from penstock.monitor.shown_columns import ShownColumns

SHOWN: Final = 24
"""Columns of the page: those with the most evidence."""

LONGEST_SEARCH: Final = 128
KINDS: Final[Mapping[str, str]] = {"ok": "good", "drift": "bad", "violated": "bad"}
"""How badges show the states of columns and of data quality."""

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model, version = params["model"], request.query_params.get("version") or None
    shown = ShownColumns(SHOWN, request.query_params.get("search", "")[:LONGEST_SEARCH])
    document = await services.traffic.monitor.document(model, version, "fleet", shown)
    problem = document.get("problem")
    parts = (
        render_element("p", problem, class_="note warn") if problem else None,
        _render_summary(document),
        render_element("h2", "Columns"),
        _render_columns(request, model, document),
        _render_quality(document),
        _render_latency(document),
        _render_performance(document),
    )
    return Page(f"{model}: monitor", join(*parts))


def show_state(state: str) -> Markup:
    """Return a state of the monitor as a badge."""
    return render_badge(state.replace("_", " "), KINDS.get(state, ""))


def show_number(value: Any) -> str:
    """Return a number with about three digits, a dash for none."""
    return f"{value:,.3g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else "-"


def show_time(at: Any) -> str:
    """Return a time (seconds since the epoch) in UTC, "" for none."""
    return f"{datetime.fromtimestamp(at, UTC):%F %T} UTC" if isinstance(at, int | float) and at else ""


def _render_summary(document: Document) -> Markup:
    reference = document.get("reference")
    if not document.get("version"):
        return render_element("p", "No version answers.")
    if reference is None:
        return render_element("p", f"Version {document['version']} has no reference yet: it is learned from traffic.")
    columns, window = document["columns"], document["window"]
    state = show_state("drift" if columns["drifting"] else "ok")
    text = (
        f" Version {document['version']}: {columns['drifting']} of {columns['all']} columns drift, by"
        f" {window['rows']:,} rows in {window['seconds']:g} s against {reference['rows']:,} rows of the"
        f" reference ({reference['source']})."
    )
    return render_element("p", state, text)


def _render_columns(request: Request, model: str, document: Document) -> Markup:
    found = [*document.get("features", ()), *document.get("outputs", ())]
    found.sort(key=lambda item: (item["state"] != "drift", -item["log_e"]))
    heads = ("Column", "State", "Evidence", "Alarm at", "PSI", "By chance at most", "Since", "Moved most")
    threshold = show_number(document.get("log_e_threshold"))
    rows = (_column_cells(request, model, item, threshold) for item in found)
    return render_table("Columns by evidence", heads, rows, "No columns.")


def _column_cells(request: Request, model: str, column: Document, threshold: str) -> Sequence[Child]:
    name = render_element("a", column["name"], href=make_href(request, model_path(model, "monitor", column["name"])))
    moved = ", ".join(f"{item['bin']} {item['change']:+.1%}" for item in column["moved"][:2])
    evidence, psi, limit = (show_number(column[key]) for key in ("log_e", "psi", "psi_threshold"))
    return name, show_state(column["state"]), evidence, threshold, psi, limit, show_time(column["since"]), moved


def _render_quality(document: Document) -> Markup | None:
    quality = document.get("quality")
    if quality is None:
        return None
    counts = description_list(
        (kind.replace("_", " "), show_number(count)) for kind, count in quality["violations"].items()
    )
    rows = (
        (item["name"], item["kind"].replace("_", " "), f"{item['rates'][item['kind']]:.2%}", show_time(item["since"]))
        for item in quality["violated"]
    )
    violated = render_table("Columns with more invalid values than usual", ("Column", "Kind", "Share", "Since"), rows)
    heading = render_element("h2", "Data quality")
    return join(
        heading, render_element("p", show_state(quality["state"])), counts, violated if quality["violated"] else None
    )


def _render_latency(document: Document) -> Markup | None:
    latency = document.get("latency")
    if not latency:
        return None
    names = ("p50", "p90", "p99", "p999")
    parts = {"whole request": latency, **latency.get("stages", {})}
    rows = ((name, *(f"{part[key]:g} ms" for key in names), f"{part['count']:,}") for name, part in parts.items())
    heads = ("Stage", "p50", "p90", "p99", "p99.9", "Requests")
    return join(render_element("h2", "Latency by stage"), render_table("Latency by stage", heads, rows))


def _render_performance(document: Document) -> Markup | None:
    performance = document.get("performance")
    if not performance:
        return None
    windowed, estimated = performance.get("windowed") or {}, performance.get("estimated") or {}
    rows = ((name, show_number(value), show_number(estimated.get(name))) for name, value in windowed.items())
    heads = ("Metric", "By the newest labels", "Estimated without labels")
    delay = performance.get("delay")
    delayed = f", which come after {delay['p50_seconds']:g} s (median)" if delay else ""
    labels = render_element("p", f"{performance['labels']:,} labels{delayed}.")
    return join(render_element("h2", "Performance"), labels, render_table("Performance", heads, rows, "No labels yet."))
