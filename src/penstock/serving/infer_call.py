"""One prediction on its way through a worker, and the interface of the version that answers it."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from os import register_at_fork, urandom
from typing import Any, Final
from typing import Protocol as Interface

from penstock.core.errors import Fault, Internal, InvalidInput, Overloaded
from penstock.core.explanations import ExplanationRecord
from penstock.core.frames.terms import DefaultedColumn
from penstock.core.labels import PRIORITIES, PROTOCOL_NAMES, Priority, Protocol, Route
from penstock.core.limits import RequestLimits
from penstock.core.signature import Feeds, Signature
from penstock.core.tensors import Array, Tensor
from penstock.core.traces.log_fields import caller_fields, request_fields
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.serving.access.caller_quota import QuotaLease
from penstock.serving.admission import ConcurrencyLimiter
from penstock.serving.batch_run_check import BatchRunCheck
from penstock.serving.call_trace import CallTrace, identify_trace
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.version_info import VersionIdentity, VersionInfo

log = logging.getLogger("penstock.serving")

NEVER_NS: Final = 1 << 62
_NO_HEADERS: Final[Mapping[bytes, bytes]] = {}

DEFAULT: Final = Priority.DEFAULT  # a member of an enumeration is looked up each time, which takes longer than a sum
_PROTOCOLS: Final = len(PROTOCOL_NAMES)


class CallObserver(Interface):
    """Receives the calls that were answered."""

    def offer(self, call: "InferCall") -> None:
        """Take a call that is about to be answered; on the event loop, fast, and never raises."""


class Sampler(CallObserver, Interface):
    """The observer of all calls of a version, which handles them in batches."""

    def flush(self) -> None:
        """Handle waiting calls immediately."""

    def publish_baseline(self) -> None:
        """Publish the rows that were collected for a reference, however few."""

    def close(self) -> None:
        """Handle waiting calls, then accept no more."""


class Servable(VersionInfo, ABC):
    """A version that runs calls, as seen by calls, transports and the loop batcher.

    All methods belong to the event loop. ``limiter`` counts the calls in the system, ``sampler`` sees every call that
    was answered, ``check`` some of the runs that calls shared.
    """

    limiter: ConcurrencyLimiter

    def __init__(
        self, identity: VersionIdentity, signature: Signature, block: BlockWriter, limits: RequestLimits | None = None
    ) -> None:
        super().__init__(identity, signature, block, limits)
        self.sampler: Sampler | None = None  # mypyc leaves out the default of a protocol in a class body
        self.check: BatchRunCheck | None = None

    def admission_error(self, priority: Priority) -> Overloaded | None:
        """Return why a call of a class need not be decoded; None if there is capacity for it."""
        return self.limiter.admission_error(priority)

    @abstractmethod
    def prepare_inline(self, call: "InferCall") -> bool:
        """Bind a call to the signature; return whether it may run on the event loop.

        A call that may not is for ``enqueue``. Never raises.
        """

    @abstractmethod
    def run_inline(self, calls: Sequence["InferCall"], until_ns: int = NEVER_NS) -> Sequence["InferCall"]:
        """Run calls that ``prepare_inline`` allowed, in batch runs if the model allows that.

        Returns:
            The calls that are left once ``until_ns`` (``time.monotonic_ns``) has passed or their outputs are large;
            some calls have run by then.
        """

    @abstractmethod
    def enqueue(self, call: "InferCall", on_done: "OnDone") -> Callable[[], None]:
        """Queue a call for a thread; ``on_done`` is called when it has its outputs or its fault.

        Returns:
            A function that cancels the call.
        """

    @abstractmethod
    def hold(self, calls: int = 1) -> None:
        """Count open calls, which keep the version loaded."""

    @abstractmethod
    def release(self, calls: int = 1) -> None:
        """Stop counting open calls."""


Inputs = list[Tensor] | bytes
"""The inputs of a call: tensors, or the bytes of its only row (a packed row, see ``Signature.row``)."""


class BatchResult:
    """A run of several calls, each of one row, that ask for all outputs.

    ``arrays`` are the outputs of all calls (rows x ..., in the order of ``signature.outputs``); ``encoded_cache`` is
    what encoders have made of them, so that it is made once.
    """

    __slots__ = ("arrays", "encoded_cache")

    def __init__(self, arrays: list[Array]) -> None:
        self.arrays = arrays
        self.encoded_cache: dict[Any, Any] = {}


class InferCall:
    """One inference request on its way through a worker; lives on the event loop. Times are ``time.monotonic_ns``.

    - ``inputs``, ``tensors``: what the caller sent; a packed row becomes a tensor when ``tensors`` is read.
    - ``outputs``: on success, in the order of ``requested`` (None: all outputs of the model); ``fault`` otherwise.
    - ``batch_result``, ``place``: the batch run whose row ``place`` is the answer; ``outputs`` cuts it out when read.
    - ``prepared``: while the call waits, its feeds (none for a packed row) and the names of its outputs.
    - ``rows``: its own; ``run_rows``: those of the run that it stands for in the counts. Of the calls of a batch run,
      the first has all rows and the others have ``NOT_COUNTED``.
    - ``run_began``: its run has begun, so that the version is responsible for failures from then on.
    - ``counted``, ``judged``: a rollout may count the call, and its label.
    - ``client``: identifies the connection (0: unknown); ``lease`` is held for a caller with a quota.
    - ``trace``: what is recorded of it, None for most calls; ``is_traceable``: it may get one if it fails.
    - ``endpoint``: what was called, as records of traces have it; "" for the infer request of V2.
    - ``defaulted``: where defaults of the model card stand in for missing values of the inputs.
    - ``explanation``: what is asked for instead of a prediction, None for nearly all calls.
    - ``abandoned``: nobody waits for the answer; a call that has not begun to run then ends as cancelled.
    """

    __slots__ = (
        "_outputs",
        "_tensors",
        "abandoned",
        "batch_result",
        "began_ns",
        "client",
        "counted",
        "deadline_ns",
        "decoded_ns",
        "defaulted",
        "endpoint",
        "explanation",
        "fault",
        "id",
        "inputs",
        "is_traceable",
        "judged",
        "lease",
        "loaded",
        "observers",
        "output_bytes",
        "place",
        "prepared",
        "priority",
        "ran_ns",
        "requested",
        "route",
        "rows",
        "run_began",
        "run_rows",
        "series",
        "started_ns",
        "trace",
    )

    def __init__(
        self,
        loaded: Servable,
        route: Route,
        protocol: Protocol,
        call_id: str,
        inputs: Inputs,
        requested: list[RequestedOutput] | None,
        deadline_ns: int,
        began_ns: int,
        observers: tuple[CallObserver, ...] = (),
        priority: Priority = DEFAULT,
    ) -> None:
        self.loaded = loaded
        self.route = route
        self.series: int = int(route) * _PROTOCOLS + int(protocol)
        self.id = call_id
        self.inputs = inputs
        self._tensors: list[Tensor] | None = None  # of a packed row, once they are asked for
        self.requested = requested
        self.deadline_ns = deadline_ns
        self.began_ns = began_ns
        self.observers = observers
        self.priority: int = priority
        self.client = 0
        self.lease: QuotaLease | None = None
        self.trace: CallTrace | None = None
        self.is_traceable = False
        self.endpoint = ""
        self.defaulted: tuple[DefaultedColumn, ...] = ()
        self.explanation: ExplanationRecord | None = None
        self.decoded_ns = 0
        self.started_ns = 0
        self.ran_ns = 0
        self.rows = self.run_rows = self.output_bytes = 0
        self._outputs: list[Tensor] | None = None
        self.batch_result: BatchResult | None = None
        self.place = 0
        self.prepared: tuple[Feeds, list[str]] = _UNPREPARED
        self.fault: Fault | None = None
        self.abandoned = self.run_began = False
        self.counted = self.judged = True

    @property
    def tensors(self) -> list[Tensor]:
        """Return the inputs as tensors."""
        inputs = self.inputs
        if not isinstance(inputs, bytes):
            return inputs
        if self._tensors is None:
            self._tensors = [self.loaded.signature.row_form().tensor(inputs)]
        return self._tensors

    @property
    def outputs(self) -> list[Tensor]:
        """Return the outputs as tensors; none before the call has succeeded."""
        if self._outputs is None:
            if self.batch_result is None:
                return []
            index = self.place
            self._outputs = self.loaded.tensors([array[index : index + 1] for array in self.batch_result.arrays])
        return self._outputs

    @outputs.setter
    def outputs(self, tensors: list[Tensor]) -> None:
        self._outputs = tensors

    @property
    def input_bytes(self) -> int:
        """Return the size of the inputs in bytes."""
        inputs = self.inputs
        return (
            len(inputs) if isinstance(inputs, bytes) else sum([item.data.nbytes + item.text_bytes for item in inputs])
        )

    def fail(self, error: Exception) -> None:
        """Fail the call; an exception that is not a ``Fault`` is a defect, which is logged and answered as
        ``Internal``.
        """
        self.fault = self.fault_of(error)

    def fault_of(self, error: Exception) -> Fault:
        """Return the fault that the caller gets for an exception; a defect is logged with the trace of the call."""
        if isinstance(error, Fault):
            return fault_of(error)
        if self.is_traceable:
            self.trace = identify_trace(self.trace)
        return _log_defect(error, self.log_fields)

    @property
    def log_fields(self) -> dict[str, str]:
        """Return what joins a log line with the call, and with its span if it has one."""
        identity = self.loaded.identity
        return request_fields(
            self.id, identity.model, identity.version, {} if self.trace is None else self.trace.log_fields
        )


def fault_of(error: Exception, headers: Mapping[bytes, bytes] = _NO_HEADERS) -> Fault:
    """Return the fault that a caller gets for an exception, without the frames that it was raised in. ``headers`` are
    those of a request that has not become a call.

    A traceback refers to every frame it went through, and those to the tensors of the request: kept in a call it would
    make a reference cycle, and the tensors would live until the garbage collector runs.
    """
    if not isinstance(error, Fault):
        return _log_defect(error, caller_fields(headers))
    error.__traceback__ = error.__cause__ = error.__context__ = None
    return error


def _log_defect(error: Exception, fields: Mapping[str, str]) -> Internal:
    log.error("a request failed", exc_info=error, extra={"fields": fields})
    return Internal("the request failed")


CLASS: Final = b"penstock-class"
"""The header and metadata key of a request's priority class."""


def priority_of(fields: Mapping[bytes, bytes]) -> Priority:
    """Return the priority class in the headers of a request; ``DEFAULT`` if there is none.

    Raises:
        InvalidInput: there is no such class.
    """
    stated = fields.get(CLASS)
    if stated is None:
        return DEFAULT
    try:
        return PRIORITIES[stated]
    except KeyError:
        raise InvalidInput(f"{CLASS.decode()} must be one of critical, default and batch") from None


_UNPREPARED: Final[tuple[Feeds, list[str]]] = ({}, [])

OnDone = Callable[[InferCall], None]
"""Called once, on the event loop, when a call has its outputs or its fault."""


_hex: Final = hex  # compiled code looks a built-in function up at each call
_next: Final = next


class RequestIds:
    """The ids that a process gives to requests. A fork begins anew, or it would give the ids of its parent again."""

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Begin with another prefix."""
        self.prefix = urandom(6).hex() + "-"
        self.serial = count(1)


_IDS: Final = RequestIds()
register_at_fork(after_in_child=_IDS.renew)


def new_id() -> str:
    """Return an id for a request without one: unique to this process and its successors."""
    return _IDS.prefix + _hex(_next(_IDS.serial))[2:]  # formatting takes twice as long
