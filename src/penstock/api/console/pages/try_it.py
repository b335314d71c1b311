"""The page of a prediction by hand: what the model takes, and the command that asks it."""

import shlex
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from penstock.api.console.links import step
from penstock.api.console.markup import join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.version_facts import tensor_rows


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page; raises ``NotFound`` for an unknown model."""
    model = await services.registry.model(params["model"])
    version = _choose_version(model, request.query_params.get("version") or "")
    rows = [row for row in tensor_rows(version or {}) if row[1] == "input"]
    body = join(
        render_element("p", "The form needs a script. Without one, ask by the REST port:"),
        render_element("pre", _make_command(services, model["name"])),
        render_element("h2", "Inputs"),
        render_table(
            "Inputs", ("Tensor", "Side", "Datatype", "Shape"), rows, "No version is loaded whose inputs are known."
        ),
    )
    return Page(f"{model['name']}: try it", body)


def _choose_version(model: Mapping[str, Any], wanted: str) -> Mapping[str, Any] | None:
    """Return the version that is asked, or one that answers without a name."""
    name = model["aliases"].get(wanted or "champion", wanted)
    versions: list[Mapping[str, Any]] = model["versions"]
    exact = [item for item in versions if item["version"] == name]
    ready = [] if wanted else [item for item in versions if item["state"] == "READY"]
    return next(iter(exact or ready[-1:]), None)


def _make_command(services: ConsoleServices, model: str) -> str:
    addresses = services.traffic.predictions.addresses()
    scheme = "https" if addresses["tls"] else "http"
    url = f"{scheme}://{addresses['http']}/v2/models/{step(model)}/infer"
    return f"curl {shlex.quote(url)} --data @request.json"
