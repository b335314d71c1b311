"""One request and its answer on an HTTP/1.1 connection, and what it may ask of that connection."""

from io import BytesIO
from typing import Final

from penstock.api.http1.answers import error_answer, fault_fields, field_lines
from penstock.api.http1.request_head import RequestHead
from penstock.core.errors import Fault
from penstock.core.labels import HTTP_STATUS

Answer = bytes | list[bytes | memoryview]
"""A whole answer, in pieces where some are too large to be copied."""


def answer_size(answer: Answer) -> int:
    """Bytes of an answer."""
    return len(answer) if isinstance(answer, bytes) else sum([len(part) for part in answer])


RECEIVING: Final = 0
WAITING: Final = 1
RUNNING: Final = 2
ANSWERED: Final = 3
"""The life of an exchange: its request is coming; it waits for those before it; it is worked on; its answer is
complete. ``Exchange.state`` only ever grows."""


class ConnectionIo:
    """A connection as its exchanges see it."""

    is_lost: bool = False

    def answer(self, exchange: "Exchange", answer: Answer) -> None:
        """Write a whole answer, now or when those before it are written."""
        raise NotImplementedError

    def release_body(self, exchange: "Exchange") -> None:
        """The body of an exchange is kept no more, or who works on it counts it now."""
        raise NotImplementedError

    def last_fields(self, exchange: "Exchange") -> bytes:
        """The lines that every answer has: its date, and whether the connection goes on after it."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write a part of the answer of the exchange that is first."""
        raise NotImplementedError

    def finish(self, exchange: "Exchange") -> None:
        """The answer of the exchange that is first is written."""
        raise NotImplementedError

    def hold_reading(self) -> None:
        """Read no more until ``go_on_reading``: nobody takes what has come."""
        raise NotImplementedError

    def go_on_reading(self) -> None:
        """What had come is taken."""
        raise NotImplementedError

    async def writable(self) -> None:
        """Wait until the client has taken enough of what was written."""
        raise NotImplementedError

    def info(self, name: str) -> object:
        """What the transport knows of the connection, None where it does not."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the connection at once."""
        raise NotImplementedError


class Exchange:
    """A request of ``connection`` that began at ``began_ns`` (``time.monotonic_ns``), and in the end its answer.

    ``size`` counts the bytes of the body that have come, ``counted_bytes`` those of a whole one that its connection
    counts as kept; ``is_answering`` is true once a part of the answer is written.
    What a client asks for is a subclass: ``begin`` has it worked on once its body is whole, or, where it ``streams``,
    once its head is. One that ``is_concurrent`` begins while earlier ones are still worked on; others wait for them.
    """

    def __init__(self, connection: ConnectionIo, head: RequestHead, began_ns: int) -> None:
        self.connection = connection
        self.head = head
        self.began_ns = began_ns
        self.deadline_ns = 0
        self.state = RECEIVING
        self.keep_alive = head.keep_alive
        self.streams = False
        self.is_concurrent = False
        self.awaits_continue = head.expects_continue
        self.is_whole = False
        self.is_answering = False
        self.size = self.counted_bytes = 0
        self.body = b""
        self.answer: Answer | None = None
        self._buffer: BytesIO | None = None

    def begin(self) -> None:
        """Work on it."""
        raise NotImplementedError

    def take(self, part: memoryview) -> None:
        """A part of the body has come; after the answer it is dropped."""
        self.size += len(part)
        if self.state != ANSWERED:
            self.receive(part)

    def receive(self, part: memoryview) -> None:
        """Keep a part of the body."""
        if self._buffer is None:
            self._buffer = BytesIO()
        self._buffer.write(part)

    def end_body(self) -> None:
        """All of the body is there."""
        self.is_whole = True
        if self._buffer is not None:
            self.body = self._buffer.getvalue()  # without a copy
            self._buffer = None

    def drop_body(self) -> None:
        """It will not be worked on."""
        self.is_whole = False
        self.body = b""
        self._buffer = None

    def body_fault(self, size: int) -> Fault | None:
        """Why a body of ``size`` bytes, or of more, is refused; None if it is taken as far as this goes."""
        return None

    def timeout_ns(self, default_ns: int) -> int:
        """How long the request may take from its first byte on."""
        return default_ns

    def refusal(self, fault: Fault) -> bytes:
        """The answer that tells a fault, instead of any other."""
        lines = field_lines(fault_fields(fault)) + self.connection.last_fields(self)
        return error_answer(HTTP_STATUS[fault.kind], str(fault), lines)

    def abandon(self) -> None:
        """Nobody waits for the answer any more."""


class Application:
    """What answers the requests of a listener."""

    def route(self, head: RequestHead) -> bool:
        """Look at a head that is read for the first time, and note in ``head.route`` what it asks for; whether the next
        head like it, to the byte, may be taken for the same without being read.

        Raises:
            HeadError: it is refused.
        """
        raise NotImplementedError

    def open(self, connection: ConnectionIo, head: RequestHead, began_ns: int) -> Exchange:
        """The exchange that a request begins."""
        raise NotImplementedError

    def is_essential(self, head: RequestHead) -> bool:
        """Whether a request is answered even by a server that is full of connections."""
        return False
