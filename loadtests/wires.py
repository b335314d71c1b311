"""Open connections that carry one prebuilt request again and again: those of ``penstock loadtest``."""

import select
from collections.abc import Mapping
from typing import Final

from penstock.loadtest.http1_wire import Http1Wire, http1_request
from penstock.loadtest.http2_wire import Http2Wire, grpc_body, grpc_head
from penstock.loadtest.wire import BrokenWire, Wire, resolve

OPEN_S: Final = 10.0
"""How long a connection may take to open."""

_GOOD: Final = (0, 200)
"""The outcomes of an answer: OK of gRPC and of HTTP, whose numbers are never those of the other's faults."""

_BLOCKS: Final[dict[bytes, int]] = {}


def connect(grpc: bool, address: str, path: str, headers: Mapping[str, str], body: bytes) -> Wire:
    """A connection that sends this request; raises ``BrokenWire`` or ``OSError`` if it does not open in time."""
    wire = _choose_wire(grpc, address, path, headers, body)
    while not wire.is_open:
        if not select.select([], [wire.fileno()], [], OPEN_S)[1]:
            wire.close()
            raise BrokenWire(f"{address} accepted no connection in {OPEN_S:g} s")
        wire.open_further()
    wire.watched = False
    return wire


def _choose_wire(grpc: bool, address: str, path: str, headers: Mapping[str, str], body: bytes) -> Wire:
    endpoint = resolve(address)
    if grpc:
        return Http2Wire(endpoint, grpc_head(endpoint, path, headers), [grpc_body(body)], _BLOCKS)
    return Http1Wire(endpoint, [http1_request(endpoint, path, headers, body)])


def is_good(wire: Wire) -> bool:
    """Whether the last answer was a success."""
    return wire.outcome in _GOOD
