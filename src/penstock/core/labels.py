"""The small closed sets every request is counted under: routes, protocols and outcomes."""

from enum import IntEnum

from penstock.core.errors import KINDS


class Route(IntEnum):
    """Why this version answered; the text form is the ``penstock-route`` header."""

    STABLE = 0
    CANARY = 1
    PINNED = 2
    RULE = 3


class Protocol(IntEnum):
    """The transport a request came by."""

    REST = 0
    GRPC = 1


ROUTE_NAMES: tuple[str, ...] = tuple(route.name.lower() for route in Route)
PROTOCOL_NAMES: tuple[str, ...] = tuple(protocol.name.lower() for protocol in Protocol)

OUTCOMES: tuple[str, ...] = ("ok", *(kind.kind for kind in KINDS))
"""Every way a request can end, in counting order."""

OUTCOME_INDEX: dict[str, int] = {name: index for index, name in enumerate(OUTCOMES)}
OK = 0
