"""The page of all models: who answers, the states of versions, drift and quality, what goes on, and the last event."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.admin.caller_check import visible_models
from penstock.api.console.links import href, model_path
from penstock.api.console.markup import Child, Markup, badge, element, join, table
from penstock.api.console.services import ConsoleServices, Page

Document = Mapping[str, Any]

HEADS = ("Model", "Who answers", "Versions", "Drift", "Quality", "Rollout", "Last event")
KINDS = {"READY": "good", "LOADING": "warn", "UNLOADING": "warn", "UNAVAILABLE": "bad", "ok": "good", "drift": "bad"}


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page from what the gateway knows; the registry may be away."""
    visible, document = visible_models(request), await services.traffic.overview.document()
    rows = [_row(request, model) for model in document["models"] if visible.allows(model["name"])]
    empty = "No models yet. Push one with: penstock models push NAME FILE --version 1"
    return Page("Models", join(_readiness(services), table("Models", HEADS, rows, empty)))


def _readiness(services: ConsoleServices) -> Markup:
    readiness = services.control.readiness()
    state = badge("ready", "good") if readiness.ready else badge("not ready", "bad")
    return element("p", "The gateway is ", state, f": {readiness.reason}" if readiness.reason else ".")


def _row(request: Request, model: Document) -> tuple[Child, ...]:
    return (
        element("a", model["name"], href=href(request, model_path(model["name"]))),
        _answers(model["split"]) or join(badge("nobody answers", "bad"), " ", model["reason"]),
        _apart(badge(f"{count} {state}", KINDS.get(state, "")) for state, count in model["states"].items()),
        _watched(model["drift"]),
        _watched(model["quality"]),
        _trial(request, model["name"], model["trial"]),
        _event(model["event"]),
    )


def _answers(split: Mapping[str, int]) -> str:
    return ", ".join(f"{version} {points / 100:g} %" for version, points in split.items() if points)


def _apart(children: Iterable[Markup]) -> Markup:
    return join(*(join(child, " ") for child in children))


def _watched(watched: Document | None) -> Child:
    if watched is None:
        return "-"
    columns = watched["columns"]
    if columns:
        return badge(f"{columns} column{'' if columns == 1 else 's'}", "bad")
    return badge(watched["state"].replace("_", " "), KINDS.get(watched["state"], ""))


def _trial(request: Request, model: str, trial: Document | None) -> Child:
    if trial is None:
        return "-"
    text = f"{trial['kind']} to {trial['to']}" if "to" in trial else trial["kind"]
    link = element("a", text, href=href(request, model_path(model, f"{trial['kind']}s", trial["id"])))
    return join(link, " ", badge(trial.get("state", "open"), "warn"))


def _event(event: Document | None) -> Child:
    if event is None:
        return "-"
    return join(event["type"].removeprefix("io.penstock."), " ", element("time", event["time"], class_="muted small"))
