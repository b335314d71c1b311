"""One stream of a connection, as the application sees it: the request as it arrives, and the calls that answer it."""

import asyncio

from penstock.api.common.parts import Payload
from penstock.api.grpc.http2.flow_control import ReceiveWindow, SendWindow
from penstock.api.grpc.http2.frames import ErrorCode
from penstock.api.grpc.http2.request_head import Http2RequestHead
from penstock.api.grpc.http2.stream_state import StreamState, is_remote_closed

REQUEST_NS = 60_000_000_000
"""Default time in which a request must be complete."""


class StreamIo:
    """The calls of a stream to its connection; all on the connection's event loop. ``last_received_ns`` is when the
    connection last received bytes (``time.monotonic_ns``), ``certificate_names`` are the names in the client's verified
    certificate, () without one, which never change."""

    last_received_ns: int
    certificate_names: tuple[str, ...] = ()

    def info(self, name: str) -> object:
        """Return transport information by name, None if unknown."""
        raise NotImplementedError

    def respond(self, stream: "Http2Stream", head: bytes, message: Payload, trailers: bytes) -> bool:
        """Send a complete answer: two header blocks, and the data between them; return False, with nothing sent, if
        there is no memory for it.
        """
        raise NotImplementedError

    def send_head(self, stream: "Http2Stream", block: bytes) -> None:
        """Send the first header block of an answer."""
        raise NotImplementedError

    def send_data(self, stream: "Http2Stream", data: Payload) -> bool:
        """Send data as soon as flow control allows; return False, with nothing sent, if there is no memory for it."""
        raise NotImplementedError

    def send_trailers(self, stream: "Http2Stream", block: bytes) -> None:
        """Send the last header block of an answer after all of its data; the stream is closed then."""
        raise NotImplementedError

    def reset(self, stream: "Http2Stream", code: ErrorCode) -> None:
        """End a stream without an answer."""
        raise NotImplementedError

    async def wait_sent(self, stream: "Http2Stream") -> None:
        """Wait until all data of a stream is written, or the stream is closed."""
        raise NotImplementedError

    def admit_answer(self, stream: "Http2Stream", size: int, deadline_ns: int) -> bool:
        """Whether an answer of about ``size`` bytes may be made now; if not, ``on_admitted`` is called when it may, or
        when the deadline has passed (``time.monotonic_ns``).

        So a client that asks for much at a time has its answers made as fast as it takes them.
        """
        raise NotImplementedError

    def hold(self, stream: "Http2Stream", size: int) -> bool:
        """Reserve memory for ``size`` more bytes of an incomplete request; return False if there is none. The first
        kilobyte of a request is always allowed.

        The first kilobyte of a request is kept without memory where there is none.
        """
        raise NotImplementedError

    def let_go(self, stream: "Http2Stream", size: int) -> None:
        """Release memory of ``hold``; the rest is released when the stream is closed."""
        raise NotImplementedError

    def replenish(self, stream: "Http2Stream") -> None:
        """Return the received bytes of the stream to the peer's window."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the whole connection after a defect."""
        raise NotImplementedError


class Http2Stream:
    """A request and its answer; subclasses implement its handling. Times are of ``time.monotonic_ns``.

    No method of a subclass may raise. ``on_data`` and ``on_end`` may still be called once ``local_closed`` is set. The
    attributes below the line are the connection's own.
    """

    __slots__ = (
        "answer_bytes",
        "began_ns",
        "drained",
        "end_frame",
        "expires_ns",
        "head",
        "held_bytes",
        "id",
        "io",
        "local_closed",
        "receive_window",
        "received_bytes",
        "reserved_bytes",
        "send_window",
        "state",
        "streams_request",
        "unsent",
        "unsent_bytes",
        "waits_since_ns",
    )

    def __init__(self, io: StreamIo, stream_id: int, head: Http2RequestHead, send_window: int, began_ns: int) -> None:
        self.io = io
        self.id = stream_id
        self.head = head
        self.began_ns = began_ns
        self.expires_ns = began_ns + REQUEST_NS  # the request has to be whole by then
        self.streams_request = False  # unless it may take as long as it likes
        self.held_bytes = 0  # memory of the unfinished request
        self.local_closed = False  # the application has said all, or the stream was reset
        # ----
        self.state = StreamState.IDLE
        self.send_window = SendWindow(send_window)
        self.receive_window: ReceiveWindow | None = None  # from the first DATA frame on
        self.received_bytes = 0
        self.answer_bytes = 0  # admitted or unsent
        self.reserved_bytes = 0  # memory of the answer
        self.unsent: list[memoryview] = []
        self.unsent_bytes = 0
        self.end_frame: bytes | None = None  # what ends the stream after its unsent data
        self.waits_since_ns = 0  # for the peer to open the stream's window
        self.drained: asyncio.Event | None = None  # set once nothing is unsent

    @property
    def remote_closed(self) -> bool:
        """Whether the client has sent the complete request."""
        return is_remote_closed(self.state)

    def on_request(self, data: bytes) -> None:
        """Receive the whole data of a request at once."""
        self.on_data(data)
        if not self.local_closed:
            self.on_end()

    def on_data(self, data: bytes) -> None:
        """Receive a part of the request's data, never empty."""
        raise NotImplementedError

    def on_end(self) -> None:
        """Handle the end of the request."""
        raise NotImplementedError

    def on_admitted(self) -> None:
        """Run the queued call: its answer is admitted, or its deadline has passed."""
        raise NotImplementedError

    def on_expired(self) -> None:
        """Handle a request that is incomplete after its deadline."""
        self.io.reset(self, ErrorCode.CANCEL)

    def on_reset(self) -> None:
        """Cancel the call and count it: the stream was closed before its answer was complete. Called at most once."""
        raise NotImplementedError
