"""The page of a model's retraining rules, requests and candidates."""

from collections.abc import Mapping

from starlette.requests import Request

from penstock.api.console.links import href, step
from penstock.api.console.markup import element
from penstock.api.console.services import ConsoleServices, Page


async def build(services: ConsoleServices, request: Request, params: Mapping[str, str]) -> Page:
    """Build the page."""
    data = element("a", "the same as JSON", href=href(request, f"/admin/v1/models/{step(params['model'])}/candidates"))
    return Page(
        f"{params['model']}: retraining", element("p", "This page needs a script; without one, see ", data, ".")
    )
