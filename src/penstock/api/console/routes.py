"""The routes of the console: one table of pages, and the static files."""

import re
from collections.abc import Awaitable, Callable, Mapping
from importlib import import_module
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.api.admin.caller_check import session_of
from penstock.api.console.assets import static_files
from penstock.api.console.links import HOME, make_href, path_parameters
from penstock.api.console.services import BuildPage, ConsoleServices
from penstock.api.console.shell import render
from penstock.api.console.sign_in import sign_in_routes
from penstock.core.errors import NotFound

_MODEL: Final = "/console/models/{model}"

PAGES: Final[Mapping[str, str]] = {
    "/console/models": "overview",
    _MODEL: "model",
    f"{_MODEL}/versions/{{version}}": "version",
    f"{_MODEL}/compare": "compare",
    f"{_MODEL}/traffic": "traffic",
    f"{_MODEL}/rollouts": "rollouts",
    f"{_MODEL}/rollouts/{{id}}": "rollout",
    f"{_MODEL}/experiments/{{id}}": "experiment",
    f"{_MODEL}/shadow/{{version}}": "shadow",
    f"{_MODEL}/monitor": "monitor",
    f"{_MODEL}/monitor/{{column:path}}": "column",
    f"{_MODEL}/retraining": "retraining",
    f"{_MODEL}/try": "try_it",
    "/console/fleet": "fleet",
    "/console/timeline": "timeline",
    "/console/access": "access",
}
"""The modules below ``pages`` by path; ``static/app.js`` has the same table of views."""

STATIC: Final = "/console/static/{digest}/{name:path}"

ELSEWHERE: Final = "/console/{path:path}"
"""All other addresses below the console: a browser gets a page with the navigation."""

Endpoint = Callable[[Request], Awaitable[Response]]


def list_routes(services: ConsoleServices) -> list[Route]:
    """Return the routes of the console."""
    pages = [_route(path, _make_page(services, name)) for path, name in PAGES.items()]
    leading = [Route(path, _lead_home, methods=["GET"]) for path in ("/", "/console", "/console/")]
    return [
        *leading,
        *pages,
        *sign_in_routes(services.facts),
        Route(STATIC, _serve_static, methods=["GET"]),
        Route(ELSEWHERE, _no_page, methods=["GET"]),
    ]


def _route(path: str, endpoint: Endpoint) -> Route:
    route = Route(path, endpoint, methods=["GET"])
    route.path_regex = re.compile(route.path_regex.pattern, re.DOTALL)  # a name of a column may have a line feed
    return route


def _make_page(services: ConsoleServices, name: str) -> Endpoint:
    """Return the endpoint of a page; its module is imported when it is first asked for, not at the start."""
    view = f"views/{name.removesuffix('_it')}.js"  # "try" alone is a word of Python

    async def answer(request: Request) -> Response:
        build: BuildPage = import_module(f"penstock.api.console.pages.{name}").build
        page = await build(services, request, path_parameters(request))
        session = session_of(request)
        csrf = "" if session is None else session.csrf
        content = render(request, services.facts, page, csrf=csrf, view=view)
        return Response(content, media_type="text/html")

    return answer


async def _lead_home(request: Request) -> Response:
    return RedirectResponse(make_href(request, HOME), 303)


async def _no_page(request: Request) -> Response:
    raise NotFound("the console has no page at this address; begin at Models")


async def _serve_static(request: Request) -> Response:
    return static_files().answer(request)
