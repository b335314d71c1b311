"""One request and its answer on an HTTP/1.1 connection, and the interface of that connection."""

from io import BytesIO
from typing import Final

from penstock.api.http1.answers import error_answer, fault_fields, field_lines
from penstock.api.http1.request_head import Http1RequestHead
from penstock.core.access.origins import OriginRefusal
from penstock.core.errors import Fault
from penstock.core.labels import HTTP_STATUS
from penstock.serving.access.caller_access import CallerAccess
from penstock.serving.access.caller_quota import QuotaLease
from penstock.serving.access.caller_resolver import CallerResolver

Answer = bytes | list[bytes | memoryview]
"""A complete answer, in several parts if some are too large to copy."""


def answer_size(answer: Answer) -> int:
    """Return the bytes of an answer."""
    return len(answer) if isinstance(answer, bytes) else sum([len(part) for part in answer])


RECEIVING: Final = 0
WAITING: Final = 1
RUNNING: Final = 2
ANSWERED: Final = 3
"""The states of an exchange: its request arrives; it waits for earlier ones; it runs; its answer is complete.
``Exchange.state`` only increases. Plain integers, because compiled code compares them fastest."""

EXPECTED: Final = 0
ARRIVING: Final = 1
WHOLE: Final = 2
"""The states of the body of an exchange: the client sends it after "100 Continue"; parts of it arrive; it is
complete."""


class ConnectionIo:
    """A connection as its exchanges see it.

    ``certificate_names`` are the names in the client's verified certificate, () without one; they never change.
    """

    is_lost: bool = False
    certificate_names: tuple[str, ...] = ()

    def answer(self, exchange: "Exchange", answer: Answer) -> None:
        """Write a complete answer, now or after those before it."""
        raise NotImplementedError

    def release_body(self, exchange: "Exchange") -> None:
        """Stop counting the body of an exchange: it is freed, or counted elsewhere."""
        raise NotImplementedError

    def last_fields(self, exchange: "Exchange") -> bytes:
        """Return the lines of every answer: date and connection."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write a part of the answer of the first exchange."""
        raise NotImplementedError

    def finish(self, exchange: "Exchange") -> None:
        """Complete the answer of the first exchange."""
        raise NotImplementedError

    def pause_body(self) -> None:
        """Pause reading the body until ``resume_body``."""
        raise NotImplementedError

    def resume_body(self) -> None:
        """Resume reading the body."""
        raise NotImplementedError

    async def writable(self) -> None:
        """Wait until the write buffer has space."""
        raise NotImplementedError

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close the connection immediately."""
        raise NotImplementedError

    def resume_head(self) -> None:
        """Read on: the credential of a head is verified."""
        raise NotImplementedError


class Exchange:
    """A request of ``connection`` that began at ``began_ns`` (``time.monotonic_ns``), and in the end its answer.

    ``size`` counts the bytes of the body so far, ``counted_bytes`` those of a complete body in the memory of the
    connection; ``is_answering`` is true once a part of the answer is written. ``lease`` is what it holds of its
    caller's quota. Subclasses implement ``begin``, which starts the request when its body is complete or, if it
    ``streams``, when its head is. An exchange that
    ``is_concurrent`` starts while earlier ones run; others wait for them.
    """

    def __init__(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int) -> None:
        self.connection = connection
        self.head = head
        self.began_ns = began_ns
        self.deadline_ns = 0
        self.state = RECEIVING
        self.keep_alive = head.keep_alive
        self.streams = False
        self.is_concurrent = False
        self.body_state = EXPECTED if head.expects_continue else ARRIVING
        self.is_answering = False
        self.size = self.counted_bytes = 0
        self.body = b""
        self.answer: Answer | None = None
        self.lease: QuotaLease | None = None
        self._buffer: BytesIO | None = None

    def begin(self) -> None:
        """Start the request."""
        raise NotImplementedError

    def take(self, part: memoryview) -> None:
        """Receive a part of the body; after the answer it is dropped."""
        self.size += len(part)
        if self.state != ANSWERED:
            self.receive(part)

    def receive(self, part: memoryview) -> None:
        """Buffer a part of the body."""
        if self._buffer is None:
            self._buffer = BytesIO()
        self._buffer.write(part)

    def end_body(self) -> None:
        """Note that the body is complete."""
        self.body_state = WHOLE
        if self._buffer is not None:
            self.body = self._buffer.getvalue()  # without a copy
            self._buffer = None

    def drop_body(self) -> None:
        """Drop the body of a request that will not run."""
        self.body = b""
        self._buffer = None

    def body_fault(self, size: int) -> Fault | None:
        """Return why a body of at least ``size`` bytes is refused; None if it is not."""
        return None

    def timeout_ns(self, default_ns: int) -> int:
        """Return the time limit of the request from its first byte, in nanoseconds."""
        return default_ns

    def refusal(self, fault: Fault) -> bytes:
        """Return the answer for an error."""
        lines = field_lines(fault_fields(fault)) + self.connection.last_fields(self)
        return error_answer(HTTP_STATUS[fault.kind], str(fault), lines)

    def abandon(self) -> None:
        """Note that the client is gone."""


class HttpApplication:
    """Answers the requests of a listener; ``callers`` knows who sends them."""

    def __init__(self, callers: CallerResolver | None = None) -> None:
        self.callers = callers or CallerResolver()

    def route(self, head: Http1RequestHead) -> bool:
        """Set ``head.route`` of a new head; return whether identical heads may be answered from the cache.

        Raises:
            HeadError: the head is refused.
        """
        raise NotImplementedError

    def find_access(self, connection: ConnectionIo, head: Http1RequestHead) -> CallerAccess | None:
        """Return what the credential of a request may do; None while that is being verified, and then
        ``connection.resume_head`` is called."""
        return self.callers.anonymous

    def open(self, connection: ConnectionIo, head: Http1RequestHead, began_ns: int, access: CallerAccess) -> Exchange:
        """Return the exchange for a request, with what its credential may do."""
        raise NotImplementedError

    def count_origin_refusal(self, connection: ConnectionIo, refusal: OriginRefusal) -> None:
        """Count a request that is refused by its host or origin, before it is routed."""
        self.callers.count_origin_refusal(refusal, connection.info)

    def is_essential(self, head: Http1RequestHead) -> bool:
        """Whether a request is answered even at the limit of connections."""
        return False
