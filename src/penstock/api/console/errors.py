"""Pages for errors of requests that a browser makes for pages; programs get JSON from the same paths."""

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from penstock.api.console.links import HOME, make_href
from penstock.api.console.markup import render_element
from penstock.api.console.services import GatewayFacts, Page
from penstock.api.console.shell import render
from penstock.api.console.sign_in import sign_in_first
from penstock.core.errors import Fault, Unauthenticated
from penstock.core.labels import HTTP_STATUS


def error_pages(facts: GatewayFacts) -> Callable[[Request, Fault], Response | None]:
    """Return what makes the page for an error, None for a request that is not a browser's for a page."""

    def error_page(request: Request, fault: Fault) -> Response | None:
        if not is_for_page(request):
            return None
        if isinstance(fault, Unauthenticated):
            return sign_in_first(request)
        home = render_element("p", render_element("a", "Begin at the list of models", href=make_href(request, HOME)))
        body = render_element("div", render_element("p", str(fault)), home, class_="note bad", role="alert")
        content = render(request, facts, Page(f"Error {HTTP_STATUS[fault.kind]}", body), script=None, has_tabs=False)
        return Response(content, HTTP_STATUS[fault.kind], {"penstock-fault": fault.kind}, "text/html")

    return error_page


def is_for_page(request: Request) -> bool:
    """Whether a browser asks for a page of the console."""
    path = request.scope["path"]
    is_page = path in {"/", "/console"} or path.startswith("/console/")
    return is_page and request.method in ("GET", "HEAD") and "text/html" in request.headers.get("accept", "")
