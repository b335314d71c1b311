"""Values that are the same in every answer of a version: built once for each loaded version, dropped when it is
unloaded.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

from penstock.core.labels import ROUTE_NAMES, Route
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import Servable

MODEL_VERSION, ROUTE, REQUEST_ID = "penstock-model-version", "penstock-route", "x-request-id"
"""Header fields of every answer to a prediction: the version, the reason, and the request id."""

Parts = TypeVar("Parts")


def answered_by(loaded: Servable, route: Route) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return the version that answers, and the reason."""
    return (MODEL_VERSION, loaded.identity.version), (ROUTE, ROUTE_NAMES[route])


class MadeOncePerVersion(Generic[Parts]):
    """Caches a value that is built for a version when it first answers."""

    def __init__(self, plane: DataPlane, make: Callable[[Servable], Parts]) -> None:
        self._plane = plane
        self._make = make
        self._made: dict[Servable, Parts] = {}

    def get(self, loaded: Servable) -> Parts:
        """Return the value of a version."""
        value = self._made.get(loaded)
        if value is None:
            entries = self._plane.routing_table.models.values()
            served = {route[0] for entry in entries for route in entry.routes.values()}
            self._made = {version: parts for version, parts in self._made.items() if version in served}
            value = self._made[loaded] = self._make(loaded)
        return value
