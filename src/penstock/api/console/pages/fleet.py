"""The page of the fleet: the workers of this gateway, and all gateways of the registry."""

from collections.abc import Mapping

from starlette.requests import Request

from penstock.api.console.markup import badge, element, join, table
from penstock.api.console.services import ConsoleServices, Page


async def build(services: ConsoleServices, request: Request, _: Mapping[str, str]) -> Page:
    """Build the page."""
    readiness = services.control.readiness()
    workers = [
        (str(index), str(pid or "-"), badge(state, "good" if state == "ready" else "warn"))
        for index, (pid, state) in enumerate(services.control.worker_states())
    ]
    title = f"Workers: {readiness.workers_ready} of {readiness.workers} ready"
    return Page("Fleet", join(element("h2", title), table("Workers", ("Worker", "Process", "State"), workers)))
