"""The page of one version of a model: admission, gates, lineage, card and signature."""

from collections.abc import Mapping, Sequence
from typing import Any

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
    gates = await _render_gates(services, model["name"], version["version"])
    body = join(
        _render_summary(request, model, version),
        _render_section("Admission", description_list(admission_facts(version)) if version.get("admission") else None),
        _render_section("Gates", gates),
        _render_section("Lineage", _render_lineage(request, model, version)),
        _render_section(
            "Model card", description_list(flat_metadata(version["card"])) if version.get("card") else None
        ),
        render_element("h2", "Signature"),
        render_table(
            "Inputs and outputs", ("Tensor", "Side", "Datatype", "Shape"), tensor_rows(version), "Not known yet."
        ),
    )
    return Page(f"{model['name']}: version {version['version']}", body)


def find_version(model: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return one version of a model's document; raises ``NotFound``."""
    for version in model["versions"]:
        if version["version"] == name:
            found: Mapping[str, Any] = version
            return found
    raise NotFound(f"model '{model['name']}' has no version '{name[:64]}'")


def _render_summary(request: Request, model: Mapping[str, Any], version: Mapping[str, Any]) -> Markup:
    pushed = " by ".join(filter(None, (version.get("created_at"), version.get("created_by"))))
    ask = render_element(
        "a", "Try it", href=make_href(request, model_path(model["name"], "try"), {"version": version["version"]})
    )
    pairs: list[tuple[str, Child]] = [
        ("state", join(state_badge(version), f" {version.get('reason') or ''}")),
        ("aliases", ", ".join(version.get("aliases") or ()) or "-"),
        ("pushed", pushed or "-"),
        ("digest", digest_code(version.get("digest"))),
        ("size", format_bytes(version.get("size"))),
    ]
    return join(description_list(pairs), render_element("p", ask))


def _render_section(title: str, content: Markup | None) -> Markup:
    return join(render_element("h2", title), content or render_element("p", "None.", class_="muted"))


async def _render_gates(services: ConsoleServices, model: str, version: str) -> Markup | None:
    """Return the gates of a version; nothing while the registry is away."""
    try:
        results: Sequence[Mapping[str, Any]] = (await services.registry.gates(model, version))["gates"]
    except Fault:
        return None
    items = [
        render_element(
            "li",
            render_badge("passes", "good") if item["passed"] else render_badge("fails", "bad"),
            f" {_gate_text(item)}",
        )
        for item in results
    ]
    return render_element("ul", *items) if items else None


def _gate_text(result: Mapping[str, Any]) -> str:
    return f"{result['gate']}: {result['reason']}" if result.get("reason") else str(result["gate"])


def _render_lineage(request: Request, model: Mapping[str, Any], version: Mapping[str, Any]) -> Markup | None:
    before = lineage_of(model["versions"], version["version"])
    links = [version_link(request, model["name"], item) for item in before]
    pairs: list[tuple[str, Child]] = [("parents", join(*(join(link, " ") for link in links)))] if links else []
    pairs += [(name, text) for name, text in flat_metadata(version["metadata"]) if name != "parent"]
    return description_list(pairs) if pairs else None
