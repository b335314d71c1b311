"""Builds the call of a routed and decoded request, the same for every transport: class, deadline and id."""

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
"""Header fields that set a call's timeout and id."""


def admit(decision: RouteDecision, fields: Fields) -> Priority:
    """Return the class of a request, if the version has capacity for it; called before decoding.

    Raises:
        InvalidInput: the class is unknown.
        Overloaded: the version has no capacity for this class.
    """
    priority = priority_of(fields) if CLASS in fields else DEFAULT
    if (fault := decision[0].admission_error(priority)) is not None:
        raise fault
    return priority


def request_id(body_id: str, fields: Fields) -> str:
    """Return the id in a request's body, else in its header field, else ""."""
    return body_id or (fields[REQUEST_ID].decode("latin-1") if REQUEST_ID in fields else "")


def field_timeout_ns(fields: Fields) -> int | None:
    """Return the timeout in the header field in nanoseconds, None if there is none; raises ``InvalidInput``."""
    stated = fields.get(TIMEOUT)
    if stated is None:
        return None
    if not stated.isdigit() or len(stated) > 12:
        raise InvalidInput(f"{TIMEOUT.decode()} must be a whole number of milliseconds")
    return int(stated) * 1_000_000


def build_call(
    plane: DataPlane,
    decision: RouteDecision,
    transport: Protocol,
    priority: Priority,
    fields: Fields,
    began_ns: int,
    body_id: str,
    inputs: list[Tensor] | bytes,
    requested: list[RequestedOutput] | None,
    body_timeout_ns: int | None,
    transport_timeout_ns: int | None = None,
) -> InferCall:
    """Return the call of a decoded request that began at ``began_ns`` (``time.monotonic_ns``).

    Its deadline is the smallest timeout of body, header field and transport (nanoseconds from the beginning), else the
    default. Its id is the body's, else the header field's, else a new one.

    Raises:
        InvalidInput: the header field is not a timeout.
    """
    if body_timeout_ns is None and TIMEOUT not in fields:
        deadline = began_ns + (plane.default_timeout_ns if transport_timeout_ns is None else transport_timeout_ns)
    else:
        timeouts = (body_timeout_ns, field_timeout_ns(fields), transport_timeout_ns)
        deadline = deadline_ns(began_ns, timeouts, plane.default_timeout_ns)
    loaded, route, observers = decision
    call_id = body_id or request_id("", fields) or new_id()
    call = InferCall(loaded, route, transport, call_id, inputs, requested, deadline, began_ns, observers, priority)
    if plane.tracer is not None:
        call.trace = plane.tracer.begin(fields)
        call.is_traceable = True
    return call
