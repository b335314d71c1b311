"""The page of one column: its bins against the reference, its effect sizes, and its evidence over time."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import Markup, description_list, join, render_element, render_table
from penstock.api.console.pages.monitor import show_number, show_state, show_time
from penstock.api.console.services import ConsoleServices, Page

EFFECTS: Final = (
    ("PSI", "psi", "psi_threshold"),
    ("Jensen-Shannon", "js", ""),
    ("Hellinger", "hellinger", ""),
    ("Kolmogorov-Smirnov", "ks", "ks_threshold"),
    ("Wasserstein", "wasserstein", ""),
    ("Chi-square", "chi_square", "chi_square_threshold"),
)
NEWEST: Final = 10
"""Points of the evidence over time that the page has without a script."""

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model, name = params["model"], params["column"]
    version = request.query_params.get("version") or None
    document = await services.traffic.monitor.column(model, version, name)
    column = document["column"]
    up = render_element("a", "← All columns", href=make_href(request, model_path(model, "monitor")))
    parts = (
        render_element("p", up),
        _render_summary(document),
        _render_effects(column),
        _render_bins(column),
        _render_history(document),
    )
    return Page(f"{model}: column {name}", join(*parts))


def _render_summary(document: Document) -> Markup:
    column = document["column"]
    evidence = f"{show_number(column['log_e'])} of {show_number(document['log_e_threshold'])} for an alarm"
    return description_list(
        (
            ("State", show_state(column["state"])),
            ("Since", show_time(column["since"]) or "-"),
            ("Evidence now", evidence),
            ("Version", document["version"]),
            ("Rows in the window", show_number(column["rows"])),
        )
    )


def _render_effects(column: Document) -> Markup:
    rows = ((name, show_number(column.get(key)), show_number(column.get(limit))) for name, key, limit in EFFECTS)
    heads = ("Effect size", "Value", "By chance at most")
    return join(render_element("h2", "Effect sizes"), render_table("Effect sizes", heads, rows))


def _render_bins(column: Document) -> Markup:
    window, usual = (max(1, sum(column[key])) for key in ("counts", "reference_counts"))
    rows = (
        (label, f"{count:,}", f"{count / window:.1%}", f"{expected / usual:.1%}")
        for label, count, expected in zip(column["bins"], column["counts"], column["reference_counts"], strict=True)
    )
    heads = ("Bin", "Rows", "Window", "Reference")
    return join(render_element("h2", "Bins"), render_table("Bins of the window and of the reference", heads, rows))


def _render_history(document: Document) -> Markup | None:
    history = document.get("history")
    if not history:
        return None
    points = list(zip(history["at"], history["log_e"], history["psi"], strict=True))[-NEWEST:]
    rows = ((show_time(at), show_number(log_e), show_number(psi)) for at, log_e, psi in reversed(points))
    caption, heads = "The newest points of the evidence over time", ("Time", "Evidence", "PSI")
    return join(render_element("h2", "Evidence over time"), render_table(caption, heads, rows, "No points yet."))
