"""The routes of the console: one table of pages, and the static files."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from penstock.api.admin.caller_check import session_of
from penstock.api.console.assets import static_files
from penstock.api.console.links import HOME, href, path_parameters
from penstock.api.console.pages import (
    access,
    column,
    compare,
    experiment,
    fleet,
    model,
    monitor,
    overview,
    retraining,
    rollout,
    rollouts,
    shadow,
    timeline,
    traffic,
    try_it,
    version,
)
from penstock.api.console.services import BuildPage, ConsoleServices
from penstock.api.console.shell import render
from penstock.api.console.sign_in import sign_in_routes

_MODEL: Final = "/console/models/{model}"

PAGES: Final[Mapping[str, BuildPage]] = {
    "/console/models": overview.build,
    _MODEL: model.build,
    f"{_MODEL}/versions/{{version}}": version.build,
    f"{_MODEL}/compare": compare.build,
    f"{_MODEL}/traffic": traffic.build,
    f"{_MODEL}/rollouts": rollouts.build,
    f"{_MODEL}/rollouts/{{id}}": rollout.build,
    f"{_MODEL}/experiments/{{id}}": experiment.build,
    f"{_MODEL}/shadow/{{version}}": shadow.build,
    f"{_MODEL}/monitor": monitor.build,
    f"{_MODEL}/monitor/{{column:path}}": column.build,
    f"{_MODEL}/retraining": retraining.build,
    f"{_MODEL}/try": try_it.build,
    "/console/fleet": fleet.build,
    "/console/timeline": timeline.build,
    "/console/access": access.build,
}
"""The pages by path; ``static/app.js`` has the same table of views."""

STATIC: Final = "/console/static/{digest}/{name:path}"

Endpoint = Callable[[Request], Awaitable[Response]]


def routes(services: ConsoleServices) -> list[Route]:
    """Return the routes of the console."""
    pages = [Route(path, _page(services, build), methods=["GET"]) for path, build in PAGES.items()]
    leading = [Route(path, _lead_home, methods=["GET"]) for path in ("/", "/console", "/console/")]
    return [*leading, *pages, *sign_in_routes(services.facts), Route(STATIC, _static, methods=["GET"])]


def _page(services: ConsoleServices, build: BuildPage) -> Endpoint:
    async def answer(request: Request) -> Response:
        page = await build(services, request, path_parameters(request))
        session = session_of(request)
        content = render(request, services.facts, page, csrf="" if session is None else session.csrf)
        return Response(content, media_type="text/html")

    return answer


async def _lead_home(request: Request) -> Response:
    return RedirectResponse(href(request, HOME), 303)


async def _static(request: Request) -> Response:
    return static_files().answer(request)
