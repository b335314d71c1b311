"""How a model of the stories stands, asked of its gateway; and a view that has its data."""

from typing import Any

from tests.browser import GuardedPage
from tests.harness import Server
from tests.integration.console.digits import MODEL


def loaded(page: GuardedPage, path: str = "") -> None:
    if path:
        page.open(path)
    page.wait_for("!document.querySelector('[data-loading]') && document.querySelector('#app h1')", path or "the view")


def document(server: Server, path: str) -> dict[str, Any]:
    found: dict[str, Any] = server.admin("GET", f"/admin/v1/models/{path}").json()
    return found


def rollouts(server: Server, model: str = MODEL) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = document(server, f"{model}/rollouts")["rollouts"]
    return found


def candidate_state(server: Server, model: str, version: str) -> str:
    candidates = document(server, f"{model}/candidates")["candidates"]
    return next((str(item["state"]) for item in candidates if item["version"] == version), "")


def reasons(server: Server, model: str) -> set[str]:
    """Every reason that somebody gave for a change of a model."""
    entries = server.admin("GET", f"/admin/v1/audit?model={model}&limit=100").json()["entries"]
    return {entry["reason"] for entry in entries}


def is_in(server: Server, state: str, model: str = MODEL) -> bool:
    return bool(rollouts(server, model)[0]["state"] == state)
