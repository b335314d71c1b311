"""The page that compares two versions of a model: those of the query, else the two newest."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.requests import Request

from penstock.api.console.markup import Markup, join, render_element, render_table
from penstock.api.console.pages.version import find_version
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.version_facts import Fact, admission_facts, compare_facts, flat_metadata, tensor_rows


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page; raises ``NotFound`` for an unknown model or version."""
    model = await services.registry.model(params["model"])
    title = f"{model['name']}: compare versions"
    if not model["versions"]:
        return Page(title, render_element("p", "The model has no versions.", class_="muted"))
    one, other = _choose_versions(model, request.query_params.get("a"), request.query_params.get("b"))
    sections = (
        _render_comparison("Metadata", one, other, [[*flat_metadata(item["metadata"])] for item in (one, other)]),
        _render_comparison("Signature", one, other, [_describe_tensors(item) for item in (one, other)]),
        _render_comparison("Admission", one, other, [admission_facts(item) for item in (one, other)]),
    )
    return Page(title, join(*sections))


def _choose_versions(
    model: Mapping[str, Any], a: str | None, b: str | None
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    versions = model["versions"]
    one = find_version(model, a) if a else versions[max(0, len(versions) - 2)]
    return one, find_version(model, b) if b else versions[-1]


def _render_comparison(
    title: str, one: Mapping[str, Any], other: Mapping[str, Any], values: Sequence[Sequence[Fact]]
) -> Markup:
    heads = ("What", one["version"], other["version"], "Difference")
    rows = compare_facts(*values)
    return join(render_element("h2", title), render_table(f"{title} of both versions", heads, rows, "Neither has any."))


def _describe_tensors(version: Mapping[str, Any]) -> list[Fact]:
    return [(f"{side} {name}", f"{datatype} {shape}") for name, side, datatype, shape in tensor_rows(version)]
