"""One request for a prediction from message to call, for unary calls and for requests of a stream.

What would hold the event loop, of reading a message and of writing its answer, is done on a thread.
"""

from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from typing import Any, Final, Protocol

from penstock.api.common.explanations import explain_instead, with_requested
from penstock.api.common.parts import Payload
from penstock.api.common.request_builder import admit, build_call, request_id
from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.infer_shared import InferContext
from penstock.api.grpc.layout_cache import RequestLayout
from penstock.api.grpc.wire import ParsedRequest
from penstock.core.errors import Fault, Internal, OverBudget, Overloaded
from penstock.core.labels import Protocol as Transport
from penstock.core.slices import Pacer, PauseWork
from penstock.core.tensors import Tensor
from penstock.serving.access.caller_access import CallerAccess, Info, no_info
from penstock.serving.access.caller_quota import QuotaLease
from penstock.serving.call_trace import CallTrace
from penstock.serving.infer_call import DEFAULT, InferCall, fault_of, new_id
from penstock.serving.loop_batcher import RequestSource
from penstock.serving.offload import OffloadedJob
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.routing_table import Fields, RouteDecision, Target

EARLY_NS: Final = 1_000_000
"""A call cancelled this close before its deadline counts as a missed deadline: the two clocks differ a little."""

Encode = Callable[[PauseWork], Payload]
Load = Callable[[PauseWork], bytes]
"""Returns the message of a request; on a thread, with pauses."""

_GRPC: Final = Transport.GRPC


class InferOwner(RequestSource, Protocol):
    """The owner of a request: the loop batcher's source of it, which sends the answer or the refusal."""

    @property
    def is_gone(self) -> bool:
        """Whether nobody waits for the answer."""

    def on_read(self, call: InferCall) -> None:
        """Submit the call of a message that a thread has read. Raises ``Fault``."""

    def refuse(self, fault: Fault) -> None:
        """Refuse the request with this error."""


class InferRequest:
    """The state of one request; lives on the event loop, except for its work on threads.

    ``found`` says who answers, ``submitted`` is its call from when that is made until its outputs are encoded, and
    ``cancel`` ends a call that waits for a thread. ``typed`` asks for typed contents, ``closing`` for an empty last
    answer (streams only); ``endpoint`` is the method with its service, "" for ModelInfer. ``client``
    identifies the connection or stream, and ``access`` is what the caller may do: the owner sets it by ``use`` before
    the message is read; ``lease`` is what it holds of the caller's quota. Owners are arguments, and never kept while
    nothing is under way: owner and request would keep each other alive.
    """

    __slots__ = (
        "_inflating",
        "_info",
        "_job",
        "_parsed",
        "_priority",
        "_shared",
        "_timeout_ns",
        "access",
        "began_ns",
        "call_id",
        "cancel",
        "client",
        "closing",
        "endpoint",
        "fields",
        "found",
        "lease",
        "submitted",
        "typed",
    )

    def __init__(
        self, shared: InferContext, fields: Fields, began_ns: int, timeout_ns: int | None, client: int
    ) -> None:
        self.fields = fields
        self.began_ns = began_ns
        self.client = client
        self.access: CallerAccess = shared.plane.callers.public
        self.lease: QuotaLease | None = None
        self.call_id = ""  # as long as the message is not read
        self.found: RouteDecision | None = None
        self.submitted: InferCall | None = None
        self.cancel: Callable[[], None] | None = None
        self.typed = self.closing = False
        self.endpoint = shared.endpoint
        self._shared = shared
        self._info: Info = no_info
        self._timeout_ns = timeout_ns
        self._priority = DEFAULT
        self._parsed: ParsedRequest | None = None  # its message, while the tensors in it are still to be read
        self._job: OffloadedJob | None = None  # what a thread does for it
        self._inflating = 0  # bytes of the worker's memory that are taken for that

    def use(self, access: CallerAccess, size: int, info: Info) -> None:
        """Let the caller's permissions decide about the request, which has ``size`` bytes; ``info`` is that of its
        connection.

        Raises:
            Fault: the credential is not accepted, or the caller's quota is used up.
        """
        if access.refusal is not None:
            raise access.refusal
        self.access = access
        self._info = info
        if access.quota is not None:
            self.lease = access.quota.admit(monotonic_ns(), size)

    # From a message to a call.

    def read(self, raw: bytes) -> InferCall:
        """Return the call of a message; raises ``Fault``, or ``LargeWork`` to continue with ``read_on_thread``."""
        layout = self._shared.layouts.find(raw)
        if layout is not None:
            return self._laid_out(raw, layout)
        self._take(self._shared.form.parse(raw, None))
        return self._with_tensors(self._tensors(None))

    def read_on_thread(self, owner: InferOwner, load: Load, size: int, inflated_bytes: int) -> None:
        """Continue to read on a thread: it loads and parses the message, or decodes the tensors of a parsed one.

        The message has ``size`` bytes, and at most ``inflated_bytes`` when it is inflated (0: it is not compressed).
        """
        if self._parsed is None:
            work = partial(self._parse, load, Pacer().pause)
            self._submit(owner, work, self._on_parsed, size, inflated_bytes)
        else:
            self._decode_on_thread(owner, self._parsed)

    def _decode_on_thread(self, owner: InferOwner, message: ParsedRequest) -> None:
        self._submit(owner, partial(self._tensors, Pacer().pause), self._with_tensors, len(message.message), 0)

    def _submit(
        self, owner: InferOwner, work: Callable[[], Any], then: Callable[[Any], InferCall], size: int, more: int
    ) -> None:
        plane = self._shared.plane
        if not plane.memory.take(more):
            owner.refuse(OverBudget("the worker has no memory left to inflate the message; try again later"))
            return
        self._inflating = more
        try:
            self._job = plane.offload.submit(work, partial(self._on_work, owner, then), size + more)
        except Overloaded as fault:
            self._free_memory()
            owner.refuse(fault_of(fault))
            return
        if self.found is not None:
            self.found[0].hold()

    def _on_work(
        self, owner: InferOwner, then: Callable[[Any], InferCall], result: Any, error: Exception | None
    ) -> None:
        """Continue with the call after a thread has read, if somebody waits for it."""
        held, self._job = self.found, None
        self._free_memory()
        try:
            if not owner.is_gone:
                if error is not None:
                    raise error
                owner.on_read(then(result))
        except LargeWork:
            self._decode_on_thread(owner, self._parsed_message())
        except Exception as fault:  # a bug must not take the connection down
            owner.refuse(fault_of(fault, self.fields))
        finally:
            if held is not None:
                held[0].release()

    def _free_memory(self) -> None:
        self._shared.plane.memory.give_back(self._inflating)
        self._inflating = 0

    def _parse(self, load: Load, pause: PauseWork) -> tuple[bytes, RequestLayout | None, ParsedRequest | None]:
        """Return the message, and its layout or content; on a thread."""
        raw = load(pause)
        layout = self._shared.layouts.find(raw)
        return raw, layout, self._shared.form.parse(raw, pause) if layout is None else None

    def _on_parsed(self, result: tuple[bytes, RequestLayout | None, ParsedRequest | None]) -> InferCall:
        raw, layout, message = result
        if layout is not None:
            return self._laid_out(raw, layout)
        if message is None:
            raise Internal("the request failed")
        self._take(message)
        return self._with_tensors(self._tensors(None))

    def _laid_out(self, raw: bytes, layout: RequestLayout) -> InferCall:
        """Return the call of a message with a known layout."""
        decision = self._admit(layout.id(raw), layout.target)
        return self._make_call(layout.tensors(raw, decision[0].signature.row), layout.requested, layout.timeout_ns)

    def _take(self, message: ParsedRequest) -> None:
        """Keep a parsed message, and find the version that answers."""
        request = message.request
        self._parsed = message
        self._admit(request.id, (request.model_name, request.model_version))

    def _admit(self, body_id: str, target: Target) -> RouteDecision:
        """Find the version that answers, if it has capacity for the request's class."""
        self.call_id = body_id or request_id("", self.fields) or new_id()
        self.access.check_predict(target[0], self._info)
        self.found = decision = self._shared.plane.route(target, self.fields)
        self._priority = admit(decision, self.fields)
        return decision

    def _parsed_message(self) -> ParsedRequest:
        if self._parsed is None:
            raise Internal("the request failed")
        return self._parsed

    def _tensors(self, pause: PauseWork | None) -> InferMessage:
        """Decode the parsed message; on any thread, but without a ``pause`` only on the event loop."""
        plane, message, decision = self._shared.plane, self._parsed_message(), self.found
        if decision is None:
            raise Internal("the request failed")
        work, owner = RequestWork(plane.limits, pause), self.access.owner
        return self._shared.form.decode(message, decision[0], plane.regions, work, owner)

    def _with_tensors(self, message: InferMessage) -> InferCall:
        if self._shared.form.caches_layouts:
            self._shared.layouts.learn(self._parsed_message(), message)
        self._parsed = None
        self.typed = message.typed and self._shared.mirrors_typed
        self.closing = message.closing
        call = self._make_call(message.tensors, message.requested, message.timeout_ns)
        call.defaulted = message.defaulted
        if message.explanation is not None:
            self._explain(call, with_requested(message.explanation, message.requested))
        return call

    def _explain(self, call: InferCall, parameters: dict[str, Any]) -> None:
        """Make the call one for an explanation; raises ``Fault``."""
        try:
            explain_instead(self._shared.plane, call, parameters)
        except Fault:
            self.submitted = None
            raise

    def _make_call(
        self, inputs: list[Tensor] | bytes, requested: list[RequestedOutput] | None, timeout_ns: int | None
    ) -> InferCall:
        if self.found is None:
            raise Internal("the request failed")
        self.submitted = call = build_call(
            self._shared.plane,
            self.found,
            _GRPC,
            self._priority,
            self.fields,
            self.began_ns,
            self.call_id,
            inputs,
            requested,
            timeout_ns,
            self._timeout_ns,
        )
        call.client = self.client
        call.endpoint = self.endpoint
        call.lease = self.lease
        return call

    # From a call to its answer.

    def enqueue(self, owner: InferOwner, call: InferCall) -> None:
        """Run the call on a thread."""
        self.cancel = call.loaded.enqueue(call, partial(self._shared.plane.batcher.finish, owner, None))

    def release_call(self) -> None:
        """Drop the call while its answer is sent."""
        self.submitted = self.cancel = None

    def encode_on_thread(self, owner: InferOwner, call: InferCall, encode: Encode) -> bool:
        """Encode the answer on a thread; if too much waits for the threads, return False and set the call's fault."""
        try:
            work = partial(encode, Pacer().pause)
            self._job = self._shared.plane.offload.submit(work, partial(self._deliver, owner, call), call.output_bytes)
        except Overloaded as fault:
            call.fail(fault)
            return False
        self.submitted = call  # it can still be given up
        call.loaded.hold()
        return True

    def _deliver(self, owner: InferOwner, call: InferCall, answer: Payload | None, error: Exception | None) -> None:
        """Count and send an answer that a thread has encoded."""
        self._job = self.submitted = None
        if error is not None:
            call.fail(error)
        self._shared.plane.batcher.deliver(owner, None, call, answer or b"")
        call.loaded.release()

    # Ends.

    def abandon(self) -> bool:
        """Cancel it; return whether it is over and counted, or whether its call still comes back."""
        if self._job is not None:
            self._job.cancel()
        call = self.submitted
        if call is None:
            self.reject("cancelled")
            return True
        if monotonic_ns() + EARLY_NS < call.deadline_ns:  # else its own deadline ends it now
            call.abandoned = True
            if self.cancel is not None:
                self.cancel()  # it comes back as cancelled, and is counted so
        return False

    def own_id(self) -> str:
        """Return its id, else the id in its fields, else a new one."""
        return self.call_id or request_id("", self.fields) or new_id()

    def reject(self, outcome: str) -> CallTrace | None:
        """Count it as rejected before it became a call; return its trace, None if it has none."""
        plane, found = self._shared.plane, self.found
        return plane.record_rejected(found, _GRPC, outcome, self.began_ns, self.fields, self.endpoint)
