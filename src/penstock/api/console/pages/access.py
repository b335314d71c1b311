"""The page of who you are, and API keys."""

from collections.abc import Mapping

from starlette.requests import Request

from penstock.api.console.links import href
from penstock.api.console.markup import element
from penstock.api.console.services import ConsoleServices, Page


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page."""
    data = element("a", "the same as JSON", href=href(request, "/admin/v1/whoami"))
    return Page("Access", element("p", "This page needs a script; without one, see ", data, "."))
