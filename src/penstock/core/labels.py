"""The small closed sets that every request is counted by: routes, protocols and outcomes."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from penstock.core.errors import KINDS


class Route(IntEnum):
    """Why this version answered; the text form is the ``penstock-route`` header.

    The last ones are of marked requests, whatever their reason: they are counted apart from live traffic.
    """

    STABLE = 0
    CANARY = 1
    PINNED = 2
    RULE = 3
    BATCH = 4
    REPLAY = 5


MARKED: Final[Mapping[bytes, Route]] = {b"batch": Route.BATCH, b"replay": Route.REPLAY}
"""The marks of requests that are not live traffic (``penstock-source``), and the routes they are counted by."""

MARKED_ROUTES: Final = tuple(route.name.lower() for route in MARKED.values())


class Priority(IntEnum):
    """The priority class of a request (``penstock-class``): the first is served first and refused last."""

    CRITICAL = 0
    DEFAULT = 1
    BATCH = 2


PRIORITIES: dict[bytes, Priority] = {item.name.lower().encode(): item for item in Priority}
"""Classes by their names on the wire."""


class Protocol(IntEnum):
    """The transport of a request."""

    REST = 0
    GRPC = 1


ROUTE_NAMES: tuple[str, ...] = tuple(route.name.lower() for route in Route)
PROTOCOL_NAMES: tuple[str, ...] = tuple(protocol.name.lower() for protocol in Protocol)

OUTCOMES: tuple[str, ...] = ("ok", *(kind.kind for kind in KINDS))
"""Every way a request can end, in counting order."""

_ALWAYS_ATTRIBUTED = frozenset({"internal", "damaged", "not_ready"})
_ATTRIBUTED_IN_RUN = frozenset({"invalid", "too_large", "unsupported", "deadline"})


def is_attributed(outcome: str, run_began: bool) -> bool:
    """Whether a version is responsible for how a request ended, so that it counts as an error of a canary.

    A failed run counts whatever the caller receives, and so does a deadline that passed during the run: control has
    the same callers. What was found before the run (400, 404, 413, 429), what expired in the queue and callers that
    went away (499) do not.
    """
    return outcome in _ALWAYS_ATTRIBUTED or (run_began and outcome in _ATTRIBUTED_IN_RUN)


SHED_REASONS = ("queue_full", "too_late", "gave_way", "memory")
"""Why a call was rejected for lack of capacity: the queue is full, too little time is left, a more urgent call took its
place, or the memory budget is used up."""

OUTCOME_INDEX: dict[str, int] = {name: index for index, name in enumerate(OUTCOMES)}
OK = 0

HTTP_STATUS: dict[str, int] = {
    "ok": 200,
    "invalid": 400,
    "not_found": 404,
    "too_large": 413,
    "overloaded": 429,
    "over_budget": 503,
    "unsupported": 501,
    "not_ready": 503,
    "deadline": 504,
    "cancelled": 499,
    "conflict": 409,
    "already_exists": 400,
    "refused": 422,
    "damaged": 500,
    "internal": 500,
    "unauthenticated": 401,
    "unauthorised": 403,
}
"""The status REST answers each outcome with, and the ``code`` REST requests are counted under."""

GRPC_STATUSES: Final = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""The statuses by their numbers, as gRPC defines them; not read from grpcio, which no worker loads for this alone."""

GRPC_STATUS: dict[str, str] = {
    "ok": "OK",
    "invalid": "INVALID_ARGUMENT",
    "not_found": "NOT_FOUND",
    "too_large": "RESOURCE_EXHAUSTED",
    "overloaded": "RESOURCE_EXHAUSTED",
    "over_budget": "RESOURCE_EXHAUSTED",
    "unsupported": "UNIMPLEMENTED",
    "not_ready": "UNAVAILABLE",
    "deadline": "DEADLINE_EXCEEDED",
    "cancelled": "CANCELLED",
    "conflict": "ABORTED",
    "already_exists": "ALREADY_EXISTS",
    "refused": "FAILED_PRECONDITION",
    "damaged": "DATA_LOSS",
    "internal": "INTERNAL",
    "unauthenticated": "UNAUTHENTICATED",
    "unauthorised": "PERMISSION_DENIED",
}
"""The gRPC status of each outcome, and the ``code`` of gRPC requests in metrics."""


def code_label(protocol: str, outcome: str) -> str:
    """Return the ``code`` label of a request with this protocol."""
    return GRPC_STATUS[outcome] if protocol == "grpc" else str(HTTP_STATUS[outcome])
