"""The page of a model's traffic: who answers, the split, rules, the sticky header and shadows."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import Markup, description_list, join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.trial_tables import format_number, percent_text, trial_link

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model = params["model"]
    route = await services.traffic.traffic.route(model)
    body = join(
        render_element("p", f"{route['answers']}."),
        _render_trial(request, model, route),
        _render_split(route, _read_recent(services, model)),
        _render_rules(route),
        _render_shadows(request, model, route),
    )
    return Page(f"{model}: traffic", body)


def _read_recent(services: ConsoleServices, model: str) -> Document:
    """Return what each version of a model did in the last minute."""
    versions: Document = services.traffic.recent.document()["models"].get(model, {}).get("versions", {})
    return versions


def _render_trial(request: Request, model: str, route: Document) -> Markup | None:
    trial = route["trial"]
    if trial is None:
        return None
    kind = trial["kind"]
    link = trial_link(request, model, f"{kind}s", trial["id"], f"{kind} {trial['id']}")
    return render_element("p", "The ", link, " decides the traffic until it is over.", class_="note")


def _render_split(route: Document, recent: Document) -> Markup:
    rows = [
        (version, percent_text(weight), *_last_minute(recent.get(version, {})))
        for version, weight in route["split"].items()
    ]
    about = description_list(
        (
            ("Sticky by", route["sticky"] or "nothing: each request is drawn anew"),
            ("Answers for versions that cannot", route["stable"] or "-"),
            ("Revision", str(route["revision"])),
        )
    )
    heads = ("Version", "Weight", "Last minute", "Requests a second", "Errors", "p99 in ms")
    return join(render_table("Split of the traffic", heads, rows), about)


def _last_minute(version: Document) -> tuple[str, ...]:
    """What a version really did: its share, rate, ratio of errors, and slow answers."""
    names = ("share_basis_points", "requests_per_second", "error_ratio", "p99_ms")
    share, rate, errors, slow = (version.get(name) for name in names)
    return (
        "-" if share is None else percent_text(share),
        format_number(rate),
        format_number(errors),
        format_number(slow),
    )


def _render_rules(route: Document) -> Markup | None:
    rows = [(rule["header"], rule["equals"], rule["version"]) for rule in route["rules"]]
    if not rows:
        return None
    return join(
        render_element("h2", "Rules"), render_table("Rules before the split", ("Header", "is", "goes to version"), rows)
    )


def _render_shadows(request: Request, model: str, route: Document) -> Markup | None:
    if not route["shadow"]:
        return None
    rows = [(_shadow_link(request, model, item["version"]), f"{item['percent']:g} %") for item in route["shadow"]]
    return join(render_element("h2", "Shadows"), render_table("Shadows", ("Version", "Share of the requests"), rows))


def _shadow_link(request: Request, model: str, version: str) -> Markup:
    return render_element("a", version, href=make_href(request, model_path(model, "shadow", version)))
