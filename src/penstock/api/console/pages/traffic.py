"""The page of a model's traffic: who answers, the split, rules, the sticky header and shadows."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.links import href, model_path
from penstock.api.console.markup import Markup, description_list, element, join, table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.trial_tables import number, percent_text, trial_link

Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model = params["model"]
    route = await services.traffic.traffic.route(model)
    body = join(
        element("p", f"{route['answers']}."),
        _trial(request, model, route),
        _split(route, _recent(services, model)),
        _rules(route),
        _shadows(request, model, route),
    )
    return Page(f"{model}: traffic", body)


def _recent(services: ConsoleServices, model: str) -> Document:
    """Return what each version of a model did in the last minute."""
    versions: Document = services.traffic.recent.document()["models"].get(model, {}).get("versions", {})
    return versions


def _trial(request: Request, model: str, route: Document) -> Markup | None:
    trial = route["trial"]
    if trial is None:
        return None
    kind = trial["kind"]
    link = trial_link(request, model, f"{kind}s", trial["id"], f"{kind} {trial['id']}")
    return element("p", "The ", link, " decides the traffic until it is over.", class_="note")


def _split(route: Document, recent: Document) -> Markup:
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
    return join(table("Split of the traffic", heads, rows), about)


def _last_minute(version: Document) -> tuple[str, ...]:
    """What a version really did: its share, rate, ratio of errors, and slow answers."""
    names = ("share_basis_points", "requests_per_second", "error_ratio", "p99_ms")
    share, rate, errors, slow = (version.get(name) for name in names)
    return "-" if share is None else percent_text(share), number(rate), number(errors), number(slow)


def _rules(route: Document) -> Markup | None:
    rows = [(rule["header"], rule["equals"], rule["version"]) for rule in route["rules"]]
    if not rows:
        return None
    return join(element("h2", "Rules"), table("Rules before the split", ("Header", "is", "goes to version"), rows))


def _shadows(request: Request, model: str, route: Document) -> Markup | None:
    if not route["shadow"]:
        return None
    rows = [(_shadow_link(request, model, item["version"]), f"{item['percent']:g} %") for item in route["shadow"]]
    return join(element("h2", "Shadows"), table("Shadows", ("Version", "Share of the requests"), rows))


def _shadow_link(request: Request, model: str, version: str) -> Markup:
    return element("a", version, href=href(request, model_path(model, "shadow", version)))
