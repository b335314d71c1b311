"""The page of a model's rules, requests for retraining, candidates and deliveries."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request

from penstock.api.console.links import href, model_path
from penstock.api.console.markup import Child, Markup, badge, description_list, element, join, table
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
        element("p", problem, class_="note warn") if problem else None,
        _requests(document),
        element("h2", "Rules"),
        _rules(document["rules"]),
        element("h2", "Candidates"),
        _candidates(request, model, document["candidates"]),
        element("h2", "Deliveries"),
        _deliveries(document["deliveries"]),
    )
    return Page(f"{model}: retraining", join(*parts))


def _state(state: str) -> Markup:
    return badge(state.replace("_", " "), KINDS.get(state, ""))


def _requests(document: Document) -> Markup:
    flight, limits = document["in_flight"], document["limits"]
    under_way = f"a request of version {flight['version']} since {show_time(flight['since'])}" if flight else "nothing"
    made = f"{len(document['requests'])} of at most {limits['budget_per_day']}"
    approval = "a person approves each" if limits["approval"] else "need no approval"
    return description_list((("Under way", under_way), ("Requests in the last day", made), ("Candidates", approval)))


def _rules(rules: Sequence[Document]) -> Markup:
    heads = ("Rule", "State", "When", "Holds now", "Last request", "Sends to")
    return table("Rules", heads, map(_rule, rules), "The policy has no rules.")


def _rule(rule: Document) -> Sequence[Child]:
    holds = "-" if rule["holds"] is None else "yes" if rule["holds"] else "no"
    state = join(_state(rule["state"]), f" {(rule['outcome'] or '').replace('_', ' ')}")
    when = element("code", json.dumps(rule["when"]))
    return rule["name"], state, when, holds, show_time(rule["asked"]), ", ".join(rule["sinks"])


def _candidates(request: Request, model: str, candidates: Sequence[Document]) -> Markup:
    rows = (
        (
            element("a", item["version"], href=href(request, model_path(model, "versions", item["version"]))),
            _state(item["state"]),
            item["against"],
            "; ".join(item["reasons"]),
        )
        for item in candidates
    )
    heads = ("Version", "State", "Against", "Reasons")
    return table("Candidates of the request under way", heads, rows, "No candidates.")


def _deliveries(deliveries: Sequence[Document]) -> Markup:
    rows = (
        (
            item["sink"],
            _state(item["state"]),
            (item["type"] or "").removeprefix("io.penstock."),
            show_time(item["created"]),
            str(item["attempts"]),
            item["error"],
        )
        for item in sorted(deliveries, key=lambda item: item["state"] != "dead")
    )
    heads = ("Sink", "State", "Event", "Decided", "Attempts", "Problem")
    return table("Deliveries, dead ones first", heads, rows, "No events were sent yet.")
