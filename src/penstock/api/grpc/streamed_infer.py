"""One inference request on its way from bytes to an answer, counted exactly once; unary calls and streams share it."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import monotonic_ns

from penstock.api.common.request_builder import admitted, build_call, stated_id
from penstock.api.common.response_metadata import REQUEST_ID, answered_by
from penstock.api.common.text_safety import id_text
from penstock.api.common.work import Work
from penstock.api.grpc.decode import infer_message
from penstock.api.grpc.encode import infer_response
from penstock.api.grpc.errors import Context, Metadata
from penstock.api.grpc.wire import parsed
from penstock.core.errors import Fault, Internal
from penstock.core.labels import Protocol as Transport
from penstock.core.slices import no_pause
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.data_plane import DataPlane
from penstock.serving.infer_call import InferCall, fault_of, new_id
from penstock.serving.routing_table import RouteDecision

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
        return answered_by(self._found[0], self._found[1])

    def facts(self) -> Metadata:
        """Who answers, and the request id."""
        call_id = id_text(self.id)
        return (*self.answered_by(), (REQUEST_ID, call_id)) if call_id else self.answered_by()

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
            return infer_response(call, self._typed, Work(self._plane.limits, no_pause))
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
        self.id = stated_id("", fields) or new_id()
        message = parsed(raw, no_pause)
        request = message.request
        self.id = request.id or self.id
        self._found = found = plane.route((request.model_name, request.model_version), fields)
        priority = admitted(found, fields)
        infer = infer_message(message, found[0].signature, plane.regions, Work(plane.limits, no_pause))
        self._typed, self.closing = infer.typed, infer.closing
        call = build_call(
            plane,
            found,
            Transport.GRPC,
            priority,
            fields,
            self.began_ns,
            self.id,
            infer.tensors,
            infer.requested,
            infer.timeout_ns,
            _remaining_ns(context),
        )
        self._cancel = plane.submit(call, self._settled)
        self.call = call

    def _settled(self, _: InferCall) -> None:
        if not self._done.done():
            self._done.set_result(None)


def _fields(metadata: Mapping[str, str | bytes]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode() if isinstance(value, str) else value for name, value in metadata.items()}


def _remaining_ns(context: Context) -> int | None:
    seconds: float | None = context.time_remaining()
    return None if seconds is None else int(seconds * 1e9)
