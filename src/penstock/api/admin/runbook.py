"""The page of what to do about each alert, at ``/runbook`` of the ops port, where alerts lead by default."""

from functools import cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

PATH: Final = "/runbook"
_PAGE: Final = Path(__file__).with_name("runbook.html")
"""Written from ``docs/runbooks/alerts.md`` by a test."""


def route() -> Route:
    """Return the route of the page, which shows nothing of a gateway."""
    return Route(PATH, _answer, methods=["GET"])


async def _answer(_: Request) -> Response:
    return Response(_read_runbook(), media_type="text/html")


@cache
def _read_runbook() -> bytes:
    return _PAGE.read_bytes()
