"""Addresses of the console, all relative, so that it works below any path of a reverse proxy without a setting."""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.requests import Request

from penstock.api.console.assets import static_files

HOME: Final = "/console/models"


def base_of(request: Request) -> str:
    """Return the root of the ops port relative to the page, such as "../../".

    It follows from the path as it was sent: an encoded slash in a name is not a step. A proxy that removes a prefix
    leaves the steps below it as they are.
    """
    raw: bytes = request.scope.get("raw_path") or quote(request.scope["path"]).encode()
    return "../" * (raw.partition(b"?")[0].count(b"/") - 1) or "./"


def make_href(request: Request, path: str, query: Mapping[str, str] | None = None) -> str:
    """Return a link from the page of a request to a path of the ops port, such as "/console/models"; raw names in the
    path are encoded by ``step``."""
    pairs = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in (query or {}).items())
    return base_of(request) + path.removeprefix("/") + (f"?{pairs}" if pairs else "")


def step(name: str) -> str:
    """Return a name as one step of a path."""
    return quote(name, safe="", errors="replace")


def model_path(model: str, *steps: str) -> str:
    """Return the path of a model's page, or of one below it."""
    return "/".join(("/console/models", step(model), *map(step, steps)))


def static_href(request: Request, name: str) -> str:
    """Return the link to a static file."""
    return make_href(request, f"/console/static/{static_files().digest}/{name}")


def path_parameters(request: Request) -> Mapping[str, str]:
    """Return the parameters in the path of a request."""
    found: dict[str, Any] = request.path_params
    return {name: str(value) for name, value in found.items()}
