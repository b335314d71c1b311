"""The page of a model's rules, requests for retraining, candidates and deliveries."""

import json
from collections.abc import Mapping, Sequence
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
from penstock.api.console.pages.monitor import show_time
from penstock.api.console.services import ConsoleServices, Page

KINDS: Final[Mapping[str, str]] = {
    "firing": "bad",
    "pending": "warn",
    "ok": "good",
    "dead": "bad",
    "sent": "good",
    "passed": "good",
    "refused": "bad",
    "waiting": "warn",
    "waits_for_approval": "warn",
}
Document = Mapping[str, Any]


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model = params["model"]
    document = await services.traffic.retraining.document(model)
    problem = document.get("problem")
    parts = (
        render_element("p", problem, class_="note warn") if problem else None,
        _render_requests(document),
        render_element("h2", "Rules"),
        _render_rules(document["rules"]),
        render_element("h2", "Candidates"),
        _render_candidates(request, model, document["candidates"]),
        render_element("h2", "Deliveries"),
        _render_deliveries(document["deliveries"]),
    )
    return Page(f"{model}: retraining", join(*parts))


def _render_state(state: str) -> Markup:
    return render_badge(state.replace("_", " "), KINDS.get(state, ""))


def _render_requests(document: Document) -> Markup:
    flight, limits = document["in_flight"], document["limits"]
    under_way = f"a request of version {flight['version']} since {show_time(flight['since'])}" if flight else "nothing"
    made = f"{len(document['requests'])} of at most {limits['budget_per_day']}"
    approval = "a person approves each" if limits["approval"] else "need no approval"
    return description_list((("Under way", under_way), ("Requests in the last day", made), ("Candidates", approval)))


def _render_rules(rules: Sequence[Document]) -> Markup:
    heads = ("Rule", "State", "When", "Holds now", "Last request", "Sends to")
    return render_table("Rules", heads, map(_rule_cells, rules), "The policy has no rules.")


def _rule_cells(rule: Document) -> Sequence[Child]:
    holds = "-" if rule["holds"] is None else "yes" if rule["holds"] else "no"
    state = join(_render_state(rule["state"]), f" {(rule['outcome'] or '').replace('_', ' ')}")
    when = render_element("code", json.dumps(rule["when"]))
    return rule["name"], state, when, holds, show_time(rule["asked"]), ", ".join(rule["sinks"])


def _render_candidates(request: Request, model: str, candidates: Sequence[Document]) -> Markup:
    rows = (
        (
            render_element(
                "a", item["version"], href=make_href(request, model_path(model, "versions", item["version"]))
            ),
            _render_state(item["state"]),
            item["against"],
            "; ".join(item["reasons"]),
        )
        for item in candidates
    )
    heads = ("Version", "State", "Against", "Reasons")
    return render_table("Candidates of the request under way", heads, rows, "No candidates.")


def _render_deliveries(deliveries: Sequence[Document]) -> Markup:
    rows = (
        (
            item["sink"],
            _render_state(item["state"]),
            (item["type"] or "").removeprefix("io.penstock."),
            show_time(item["created"]),
            str(item["attempts"]),
            item["error"],
        )
        for item in sorted(deliveries, key=lambda item: item["state"] != "dead")
    )
    heads = ("Sink", "State", "Event", "Decided", "Attempts", "Problem")
    return render_table("Deliveries, dead ones first", heads, rows, "No events were sent yet.")
