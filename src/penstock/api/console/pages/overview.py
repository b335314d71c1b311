"""The page of all models: who answers, the states of versions, drift and quality, what goes on, and the last event."""

from collections.abc import Iterable, Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.admin.caller_check import visible_models
from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import Child, Markup, join, render_badge, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page

Document = Mapping[str, Any]

HEADS = ("Model", "Who answers", "Versions", "Drift", "Quality", "Rollout", "Last event")
KINDS = {"READY": "good", "LOADING": "warn", "UNLOADING": "warn", "UNAVAILABLE": "bad", "ok": "good", "drift": "bad"}


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page from what the gateway knows; the registry may be away."""
    visible, document = visible_models(request), await services.traffic.overview.document()
    rows = [_model_cells(request, model) for model in document["models"] if visible.allows(model["name"])]
    empty = "No models yet. Push one with: penstock models push NAME FILE --version 1"
    return Page("Models", join(_render_readiness(services), render_table("Models", HEADS, rows, empty)))


def _render_readiness(services: ConsoleServices) -> Markup:
    readiness = services.control.readiness()
    state = render_badge("ready", "good") if readiness.ready else render_badge("not ready", "bad")
    return render_element("p", "The gateway is ", state, f": {readiness.reason}" if readiness.reason else ".")


def _model_cells(request: Request, model: Document) -> tuple[Child, ...]:
    return (
        render_element("a", model["name"], href=make_href(request, model_path(model["name"]))),
        _describe_split(model["split"]) or join(render_badge("nobody answers", "bad"), " ", model["reason"]),
        _join_lines(render_badge(f"{count} {state}", KINDS.get(state, "")) for state, count in model["states"].items()),
        _render_drift(model["drift"]),
        _render_drift(model["quality"]),
        _render_trial(request, model["name"], model["trial"]),
        _render_event(model["event"]),
    )


def _describe_split(split: Mapping[str, int]) -> str:
    return ", ".join(f"{version} {points / 100:g} %" for version, points in split.items() if points)


def _join_lines(children: Iterable[Markup]) -> Markup:
    return join(*(join(child, " ") for child in children))


def _render_drift(watched: Document | None) -> Child:
    if watched is None:
        return "-"
    columns = watched["columns"]
    if columns:
        return render_badge(f"{columns} column{'' if columns == 1 else 's'}", "bad")
    return render_badge(watched["state"].replace("_", " "), KINDS.get(watched["state"], ""))


def _render_trial(request: Request, model: str, trial: Document | None) -> Child:
    if trial is None:
        return "-"
    text = f"{trial['kind']} to {trial['to']}" if "to" in trial else trial["kind"]
    link = render_element("a", text, href=make_href(request, model_path(model, f"{trial['kind']}s", trial["id"])))
    return join(link, " ", render_badge(trial.get("state", "open"), "warn"))


def _render_event(event: Document | None) -> Child:
    if event is None:
        return "-"
    return join(
        event["type"].removeprefix("io.penstock."), " ", render_element("time", event["time"], class_="muted small")
    )
