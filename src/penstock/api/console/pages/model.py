"""The page of one model: who answers, its versions, aliases and settings."""

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.links import make_href, model_path
from penstock.api.console.markup import Markup, description_list, join, render_badge, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.version_facts import format_bytes, format_milliseconds, memory_bytes, run_time_ms
from penstock.core.errors import Fault

STATE_KINDS: Mapping[str, str] = {"READY": "good", "LOADING": "warn", "UNLOADING": "warn", "UNAVAILABLE": "bad"}
HEADS = ("Version", "State", "Aliases", "Run time", "Memory", "Size", "Digest", "Pushed")
DIGEST_CHARACTERS = len("sha256:") + 12


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page; raises ``NotFound`` for an unknown model."""
    model = await services.registry.model(params["model"])
    name, history = model["name"], model.get("alias_history", {})
    versions = [_version_cells(request, name, version) for version in model["versions"]]
    aliases = [
        (alias, version_link(request, name, version), ", ".join(history.get(alias, ())))
        for alias, version in model["aliases"].items()
    ]
    settings = [(key.replace("_", " "), str(value)) for key, value in model["settings"].items()]
    body = join(
        _note(model.get("reason"), "bad"),
        _note(model.get("problem"), "warn"),
        await _render_route(services, name),
        render_element("h2", "Versions"),
        render_table(f"Versions of {name}", HEADS, versions, "No versions yet."),
        render_element(
            "p", render_element("a", "Compare versions", href=make_href(request, model_path(name, "compare")))
        ),
        render_element("h2", "Aliases"),
        render_table(f"Aliases of {name}", ("Alias", "Version", "Earlier"), aliases, "No aliases."),
        render_element("h2", "Settings"),
        description_list(settings),
    )
    return Page(name, body)


def version_link(request: Request, model: str, version: str) -> Markup:
    """Return a link to the page of a version."""
    return render_element("a", version, href=make_href(request, model_path(model, "versions", version)))


def state_badge(version: Mapping[str, Any]) -> Markup:
    """Return the state of a version as a badge."""
    return render_badge(version["state"], STATE_KINDS.get(version["state"], ""))


def digest_code(digest: str | None) -> Markup | str:
    """Return a digest, shortened."""
    return render_element("code", digest[:DIGEST_CHARACTERS], title=digest) if digest else "-"


def _version_cells(request: Request, model: str, version: Mapping[str, Any]) -> tuple[Markup | str, ...]:
    pushed = " by ".join(filter(None, (version.get("created_at"), version.get("created_by"))))
    return (
        version_link(request, model, version["version"]),
        join(state_badge(version), f" {version.get('reason') or ''}"),
        ", ".join(version.get("aliases") or ()),
        format_milliseconds(run_time_ms(version)),
        format_bytes(memory_bytes(version)),
        format_bytes(version.get("size")),
        digest_code(version.get("digest")),
        pushed or "-",
    )


async def _render_route(services: ConsoleServices, model: str) -> Markup | None:
    """Return who answers; nothing while that is not known."""
    try:
        route = await services.traffic.traffic.route(model)
    except Fault:
        return None
    return render_element("p", str(route.get("answers") or ""))


def _note(text: str | None, kind: str) -> Markup | None:
    return render_element("div", render_element("p", text), class_=f"note {kind}") if text else None
