"""The page of one column: its bins against the reference, its effect sizes, and its evidence over time."""

from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from penstock.api.console.links import href, model_path
from penstock.api.console.markup import Markup, description_list, element, join, table
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
    up = element("a", "← All columns", href=href(request, model_path(model, "monitor")))
    parts = (element("p", up), _summary(document), _effects(column), _bins(column), _history(document))
    return Page(f"{model}: column {name}", join(*parts))


def _summary(document: Document) -> Markup:
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


def _effects(column: Document) -> Markup:
    rows = ((name, show_number(column.get(key)), show_number(column.get(limit))) for name, key, limit in EFFECTS)
    heads = ("Effect size", "Value", "By chance at most")
    return join(element("h2", "Effect sizes"), table("Effect sizes", heads, rows))


def _bins(column: Document) -> Markup:
    window, usual = (max(1, sum(column[key])) for key in ("counts", "reference_counts"))
    rows = (
        (label, f"{count:,}", f"{count / window:.1%}", f"{expected / usual:.1%}")
        for label, count, expected in zip(column["bins"], column["counts"], column["reference_counts"], strict=True)
    )
    heads = ("Bin", "Rows", "Window", "Reference")
    return join(element("h2", "Bins"), table("Bins of the window and of the reference", heads, rows))


def _history(document: Document) -> Markup | None:
    history = document.get("history")
    if not history:
        return None
    points = list(zip(history["at"], history["log_e"], history["psi"], strict=True))[-NEWEST:]
    rows = ((show_time(at), show_number(log_e), show_number(psi)) for at, log_e, psi in reversed(points))
    caption, heads = "The newest points of the evidence over time", ("Time", "Evidence", "PSI")
    return join(element("h2", "Evidence over time"), table(caption, heads, rows, "No points yet."))
