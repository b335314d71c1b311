"""The page of a shadow: how often it disagreed, and both answers to the requests that it differs most on."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from starlette.requests import Request

from penstock.api.console.markup import Markup, description_list, join, render_element, render_table
from penstock.api.console.services import ConsoleServices, Page
from penstock.api.console.trial_tables import format_number

Document = Mapping[str, Any]

CHARACTERS: Final = 400
"""Characters of an answer that are shown."""


async def build(services: ConsoleServices, _: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    model, version = params["model"], params["version"]
    shadow = await services.traffic.traffic.shadow(model, version)
    samples = shadow["samples"] or ()
    body = join(
        _render_figures(shadow),
        render_element("h2", "Where it differs most"),
        None if samples else render_element("p", "No disagreement was seen since the workers began.", class_="muted"),
        *(_render_sample(version, sample) for sample in samples),
    )
    return Page(f"{model}: shadow {version}", body)


def _render_figures(shadow: Document) -> Markup:
    return description_list(
        (
            ("Compared", f"{shadow['pairs']} of {shadow['mirrored']} mirrored requests"),
            ("Disagreements", str(shadow["disagreements"])),
            ("Greatest difference", format_number(shadow["max_abs_diff"])),
            ("Mean difference", format_number(shadow["mean_abs_diff"])),
        )
    )


def _render_sample(version: str, sample: Document) -> Markup:
    heads = ("Output", f"Version {sample['version']}", f"Shadow {version}")
    rows = list(_answer_rows(sample))
    return join(
        render_element("h3", f"Request {sample['id']}"),
        render_table(f"Both answers to request {sample['id']}", heads, rows),
    )


def _answer_rows(sample: Document) -> Iterable[tuple[str, str, str]]:
    """Yield each output with both answers."""
    shadow = {tensor["name"]: tensor for tensor in sample["shadow_outputs"]}
    for tensor in sample["outputs"]:
        yield tensor["name"], _format_tensor(tensor), _format_tensor(shadow.get(tensor["name"], {}))


def _format_tensor(tensor: Document) -> str:
    text = json.dumps(tensor.get("data"))
    return text if len(text) <= CHARACTERS else f"{text[:CHARACTERS]}…"
