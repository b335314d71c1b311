"""The page of one version of a model: admission, gates, lineage, card and signature."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from penstock.api.console.links import href, model_path
from penstock.api.console.markup import Child, Markup, badge, description_list, element, join, table
from penstock.api.console.pages.model import digest_code, state_badge, version_link
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.version_facts import (
    admission_facts,
    flat_metadata,
    format_bytes,
    lineage_of,
    tensor_rows,
)
from penstock.core.errors import Fault, NotFound


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page; raises ``NotFound`` for an unknown model or version."""
    model = await services.registry.model(params["model"])
    version = find_version(model, params["version"])
    gates = await _gates(services, model["name"], version["version"])
    body = join(
        _summary(request, model, version),
        _section("Admission", description_list(admission_facts(version)) if version.get("admission") else None),
        _section("Gates", gates),
        _section("Lineage", _lineage(request, model, version)),
        _section("Model card", description_list(flat_metadata(version["card"])) if version.get("card") else None),
        element("h2", "Signature"),
        table("Inputs and outputs", ("Tensor", "Side", "Datatype", "Shape"), tensor_rows(version), "Not known yet."),
    )
    return Page(f"{model['name']}: version {version['version']}", body)


def find_version(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return one version of a model's document; raises ``NotFound``."""
    for version in model["versions"]:
        if version["version"] == name:
            found: Mapping[str, Any] = version
            return found
    raise NotFound(f"model '{model['name']}' has no version '{name[:64]}'")


def _summary(request: Request, model: Mapping[str, Any], version: Mapping[str, Any]) -> Markup:
    pushed = " by ".join(filter(None, (version.get("created_at"), version.get("created_by"))))
    ask = element("a", "Try it", href=href(request, model_path(model["name"], "try"), {"version": version["version"]}))
    pairs: list[tuple[str, Child]] = [
        ("state", join(state_badge(version), f" {version.get('reason') or ''}")),
        ("aliases", ", ".join(version.get("aliases") or ()) or "-"),
        ("pushed", pushed or "-"),
        ("digest", digest_code(version.get("digest"))),
        ("size", format_bytes(version.get("size"))),
    ]
    return join(description_list(pairs), element("p", ask))


def _section(title: str, content: Markup | None) -> Markup:
    return join(element("h2", title), content or element("p", "None.", class_="muted"))


async def _gates(services: ConsoleServices, model: str, version: str) -> Markup | None:
    """Return the gates of a version; nothing while the registry is away."""
    try:
        results: Sequence[Mapping[str, Any]] = (await services.registry.gates(model, version))["gates"]
    except Fault:
        return None
    items = [
        element("li", badge("passes", "good") if item["passed"] else badge("fails", "bad"), f" {_gate_text(item)}")
        for item in results
    ]
    return element("ul", *items) if items else None


def _gate_text(result: Mapping[str, Any]) -> str:
    return f"{result['gate']}: {result['reason']}" if result.get("reason") else str(result["gate"])


def _lineage(request: Request, model: Mapping[str, Any], version: Mapping[str, Any]) -> Markup | None:
    before = lineage_of(model["versions"], version["version"])
    links = [version_link(request, model["name"], item) for item in before]
    pairs: list[tuple[str, Child]] = [("parents", join(*(join(link, " ") for link in links)))] if links else []
    pairs += [(name, text) for name, text in flat_metadata(version["metadata"]) if name != "parent"]
    return description_list(pairs) if pairs else None
