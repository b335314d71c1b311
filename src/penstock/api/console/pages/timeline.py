"""The page of events and audit entries."""

from collections.abc import Mapping

from starlette.requests import Request

from penstock.api.console.links import href
from penstock.api.console.markup import element
from penstock.api.console.services import ConsoleServices, Page


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page."""
    data = element("a", "the same as JSON", href=href(request, "/admin/v1/events"))
    return Page("Timeline", element("p", "This page needs a script; without one, see ", data, "."))
