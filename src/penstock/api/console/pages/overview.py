"""The page of all models: who answers, and the state of every version."""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from starlette.requests import Request

from penstock.api.admin.caller_check import visible_models
from penstock.api.console.links import href, model_path
from penstock.api.console.markup import Markup, badge, element, join, table
from penstock.api.console.services import ConsoleServices, Page
from penstock.core.desired import ReadyState, VersionStatus
from penstock.core.errors import Fault

PAGE_S: Final = 2.0
"""Seconds that the page waits for the registry; then it shows the models without it."""

DIGEST_CHARACTERS: Final = len("sha256:") + 12
KINDS: Final[Mapping[ReadyState, str]] = {
    ReadyState.READY: "good",
    ReadyState.LOADING: "warn",
    ReadyState.UNLOADING: "warn",
    ReadyState.UNAVAILABLE: "bad",
}


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page; without the registry it shows what the workers report."""
    visible = visible_models(request)
    documents = {
        (model["name"], version["version"]): version
        for model in await _known_models(services)
        for version in model["versions"]
    }
    statuses = [status for status in services.control.statuses() if visible.allows(status.model)]
    rows = [_row(request, status, documents.get((status.model, status.version), {})) for status in statuses]
    heads = ("Model", "Version", "State", "Aliases", "Digest", "Reason")
    return Page("Models", join(_readiness(services), table("Models and their versions", heads, rows, "No models yet.")))


async def _known_models(services: ConsoleServices) -> list[dict[str, Any]]:
    try:
        async with asyncio.timeout(PAGE_S):
            return await services.registry.models()
    except (Fault, TimeoutError):
        return []


def _readiness(services: ConsoleServices) -> Markup:
    readiness = services.control.readiness()
    state = badge("ready", "good") if readiness.ready else badge("not ready", "bad")
    return element("p", "The gateway is ", state, f": {readiness.reason}" if readiness.reason else ".")


def _row(request: Request, status: VersionStatus, document: Mapping[str, Any]) -> tuple[str, ...]:
    model = element("a", status.model, href=href(request, model_path(status.model)))
    digest = document.get("digest") or ""
    return (
        model,
        status.version or "-",
        badge(status.state.value, KINDS[status.state]),
        ", ".join(document.get("aliases") or ()),
        element("code", digest[:DIGEST_CHARACTERS], title=digest) if digest else "",
        status.reason,
    )
