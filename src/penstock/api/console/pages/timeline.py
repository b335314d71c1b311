"""The page of events and changes on one line of time."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request

from penstock.api.admin.caller_check import visible_models
from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import Child, Markup, join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.registry.stores.timeline import TimelineFilter

SHOWN: Final = 50
LONGEST_FILTER: Final = 128
FILTERS: Final = ("model", "kind", "person")

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page."""
    filters = {name: request.query_params.get(name, "")[:LONGEST_FILTER] for name in FILTERS}
    wanted = TimelineFilter(**filters, before=request.query_params.get("before", ""))
    found = await services.traffic.traffic.timeline(wanted, SHOWN, visible_models(request))
    heads = ("When", "What", "Object", "Who", "Details")
    rows = (_entry_cells(request, entry) for entry in found["entries"])
    entries = render_table("Events and changes, newest first", heads, rows, "Nothing matches.")
    return Page("Timeline", join(_render_filters(filters), entries, _link_older(request, filters, found["next"])))


def _render_filters(filters: Mapping[str, str]) -> Markup:
    fields = (
        render_element(
            "label", name.capitalize(), render_element("input", name=name, value=value, type="search"), class_="field"
        )
        for name, value in filters.items()
    )
    return render_element(
        "form", *fields, render_element("button", "Filter", class_="button"), class_="toolbar", role="search"
    )


def _link_older(request: Request, filters: Mapping[str, str], following: str | None) -> Markup | None:
    if following is None:
        return None
    query = {**{name: value for name, value in filters.items() if value}, "before": following}
    return render_element(
        "p", render_element("a", "Older entries", href=make_href(request, "/console/timeline", query))
    )


def _entry_cells(request: Request, entry: Document) -> Sequence[Child]:
    model, kind = entry["model"], entry["kind"].replace(".", " ").removesuffix(" v1")
    subject = entry["subject"]
    place = render_element("a", subject, href=make_href(request, model_path(model))) if model else subject
    return entry["at"][:19].replace("T", " "), kind, place, entry["person"], _render_details(entry)


def _render_details(entry: Document) -> Markup:
    sentence = (entry.get("data") or {}).get("message") or entry.get("reason")
    changes = [_change(item) for item in entry.get("changes", ()) if item.get("path") != "record"]
    listed = render_element("ul", *changes, class_="diff") if changes else None
    return join(sentence if isinstance(sentence, str) else None, listed)


def _change(change: Document) -> Markup:
    if "more" in change:
        return render_element("li", f"and {change['more']} more")
    before = render_element("del", f"- {_format_value(change['before'])}") if "before" in change else None
    after = render_element("ins", f"+ {_format_value(change['after'])}") if "after" in change else None
    return render_element("li", render_element("code", change["path"] or "(all)"), " ", before, " ", after)


def _format_value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
