"""From a request that was routed and decoded to its call: class, deadline and id, the same on every transport."""

from typing import Final

from penstock.core.deadlines import deadline_ns
from penstock.core.errors import InvalidInput
from penstock.core.labels import Priority, Protocol
from penstock.core.tensors import Tensor
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import CLASS, DEFAULT, InferCall, new_id, priority_of
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.routing_table import Fields, RouteDecision

TIMEOUT: Final = b"penstock-timeout-ms"
REQUEST_ID: Final = b"x-request-id"
"""Fields of requests that matter to their calls."""


def admitted(found: RouteDecision, fields: Fields) -> Priority:
    """The class of a request that the version has room for; asked before anything is decoded.

    Raises:
        InvalidInput: there is no such class.
        Overloaded: there is no room for more of that class.
    """
    priority = priority_of(fields) if CLASS in fields else DEFAULT
    if (fault := found[0].admission_error(priority)) is not None:
        raise fault
    return priority


def stated_id(body_id: str, fields: Fields) -> str:
    """The id that a request states, in its body or else in a field; "" for none."""
    return body_id or (fields[REQUEST_ID].decode("latin-1") if REQUEST_ID in fields else "")


def field_timeout_ns(fields: Fields) -> int | None:
    """The time limit that a field states, None where there is none; raises ``InvalidInput``."""
    stated = fields.get(TIMEOUT)
    if stated is None:
        return None
    if not stated.isdigit() or len(stated) > 12:
        raise InvalidInput(f"{TIMEOUT.decode()} must be a whole number of milliseconds")
    return int(stated) * 1_000_000


def build_call(
    plane: DataPlane,
    found: RouteDecision,
    transport: Protocol,
    priority: Priority,
    fields: Fields,
    began_ns: int,
    body_id: str,
    given: list[Tensor] | bytes,
    requested: list[RequestedOutput] | None,
    body_timeout_ns: int | None,
    transport_timeout_ns: int | None = None,
) -> InferCall:
    """The call of a decoded request that began at ``began_ns`` (``time.monotonic_ns``).

    Its deadline is the smallest of what the body, a field and the transport state (nanoseconds from the beginning),
    else the default. Its id is the body's, else a field's, else a new one.

    Raises:
        InvalidInput: the field is no time limit.
    """
    if body_timeout_ns is None and transport_timeout_ns is None and TIMEOUT not in fields:
        deadline = began_ns + plane.default_timeout_ns
    else:
        timeouts = (body_timeout_ns, field_timeout_ns(fields), transport_timeout_ns)
        deadline = deadline_ns(began_ns, timeouts, plane.default_timeout_ns)
    loaded, route, observers = found
    call_id = body_id or stated_id("", fields) or new_id()
    return InferCall(loaded, route, transport, call_id, given, requested, deadline, began_ns, observers, priority)
