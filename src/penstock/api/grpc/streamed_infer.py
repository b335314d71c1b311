"""One inference request on its way from bytes to an answer, counted exactly once; unary calls and streams share it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic_ns
from urllib.parse import quote

from penstock.api.grpc.decode import infer_message, infer_request
from penstock.api.grpc.encode import infer_response
from penstock.api.grpc.errors import Context, Metadata
from penstock.core.deadlines import deadline_ns
from penstock.core.errors import Fault, Internal, InvalidInput
from penstock.core.labels import ROUTE_NAMES
from penstock.core.labels import Protocol as Transport
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, fault_of, new_id, priority_of
from penstock.serving.routing_table import RouteDecision

REQUEST_ID = "x-request-id"
TIMEOUT = "penstock-timeout-ms"
MAX_ID_METADATA = 1024
"""Bytes of a request id in metadata; a longer one comes back in the message only, as metadata has small limits."""

EARLY_NS = 1_000_000
"""A call cancelled this close before its deadline was cancelled by the deadline: the two clocks differ a little."""

log = logging.getLogger(__name__)


def stated(context: Context) -> Mapping[str, str | bytes]:
    """The metadata of a call; of a name that was given twice, the last value."""
    return dict(context.invocation_metadata() or ())


class StreamedInfer:
    """What is known of one request so far; ``call`` is set once the data plane has it."""

    __slots__ = ("_cancel", "_done", "_fault", "_found", "_plane", "_typed", "began_ns", "call", "closing", "id")

    def __init__(self, plane: DataPlane) -> None:
        self.began_ns = monotonic_ns()
        self.call: InferCall | None = None
        self.id = ""
        self.closing = False  # the caller wants an empty last answer (streams only)
        self._plane = plane
        self._found: RouteDecision | None = None
        self._fault: Fault = Internal("the request failed")  # why there is no call
        self._typed = False
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._cancel: Callable[[], None] | None = None

    @property
    def refused(self) -> bool:
        """Whether it has failed already."""
        return self.call is None or self.call.fault is not None

    def answered_by(self) -> Metadata:
        """The version that was found and why it was, as far as that is known."""
        if self._found is None:
            return ()
        loaded, route, _ = self._found
        return ("penstock-model-version", loaded.identity.version), ("penstock-route", ROUTE_NAMES[route])

    def facts(self) -> Metadata:
        """Who answers, and the request id."""
        call_id = header_text(self.id)
        return self.answered_by() if len(call_id) > MAX_ID_METADATA else (*self.answered_by(), (REQUEST_ID, call_id))

    def submit(self, raw: bytes, context: Context) -> None:
        """Decode a message and hand it to the data plane; a failure waits for ``response`` to be raised."""
        try:
            self._submit(raw, context)
        except Fault as fault:
            self._fault = fault
        except Exception:
            log.exception("an inference request could not be read")

    async def response(self) -> pb.ModelInferResponse:
        """Wait for the answer.

        Raises:
            Fault: there is none; nothing else is raised but cancellation.
        """
        call = self.call
        if call is None:
            raise self._fault
        if not self._done.done():
            await self._done
        if call.fault is not None:
            raise call.fault
        try:
            return infer_response(call, self._typed)
        except Fault:
            raise
        except Exception:
            log.exception("an answer could not be written")
            raise Internal("the answer could not be written") from None

    def close(self, outcome: str) -> None:
        """Count it and let go of it; one that is still under way is cancelled."""
        call, self.call = self.call, None
        cancel, self._cancel = self._cancel, None
        if call is None:
            self._plane.record_rejected(self._found, Transport.GRPC, outcome, self.began_ns)
            return
        if cancel is not None and (self._done.cancelled() or not self._done.done()):
            cancel()  # whoever stopped waiting has cancelled the future with it
        self._plane.record_outcome(call, outcome)
        if call.fault is not None:
            fault_of(call.fault)  # raised, it refers to frames that refer to the call

    def broken_off(self) -> str:
        """The outcome of a call that gRPC cancelled: its deadline has passed, or its caller went away."""
        late = self.call is not None and monotonic_ns() + EARLY_NS >= self.call.deadline_ns
        return "deadline" if late else "cancelled"

    def _submit(self, raw: bytes, context: Context) -> None:
        plane, metadata = self._plane, stated(context)
        fields = _fields(metadata)
        self.id = str(metadata.get(REQUEST_ID, "")) or new_id()
        request = infer_request(raw)
        self.id = request.id or self.id
        target = request.model_name, request.model_version
        self._found = loaded, route, observers = plane.route(target, fields)
        message = infer_message(request, plane.regions)
        self._typed, self.closing = message.typed, message.closing
        timeouts = (message.timeout_ns, stated_timeout_ns(metadata.get(TIMEOUT)), _remaining_ns(context))
        deadline = deadline_ns(self.began_ns, timeouts, plane.default_timeout_ns)
        call = InferCall(
            loaded,
            route,
            Transport.GRPC,
            self.id,
            message.tensors,
            message.requested,
            deadline,
            self.began_ns,
            observers,
            priority_of(fields),
        )
        self._cancel = plane.submit(call, self._settled)
        self.call = call

    def _settled(self, _: InferCall) -> None:
        if not self._done.done():
            self._done.set_result(None)


def _fields(metadata: Mapping[str, str | bytes]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in metadata.items()}


def stated_timeout_ns(stated_ms: str | bytes | None) -> int | None:
    """Nanoseconds of a limit in milliseconds; raises ``InvalidInput``."""
    if stated_ms is None:
        return None
    text = str(stated_ms)
    if not (text.isascii() and text.isdigit()) or len(text) > 12:
        raise InvalidInput(f"{TIMEOUT} must be a whole number of milliseconds")
    return int(text) * 1_000_000


def _remaining_ns(context: Context) -> int | None:
    seconds: float | None = context.time_remaining()
    return None if seconds is None else int(seconds * 1e9)


def header_text(text: str) -> str:
    """A request id as metadata: what metadata cannot carry is percent-encoded."""
    return text if text.isascii() and text.isprintable() else quote(text, safe=" !#$&'()*+,/:;=?@[]~")
