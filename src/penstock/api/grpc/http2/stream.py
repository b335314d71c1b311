"""One stream of a connection, as the application sees it: what comes of a request, and what may be sent in answer."""

import asyncio

from penstock.api.grpc.http2.frames import ErrorCode
from penstock.api.grpc.http2.request_head import RequestHead


class StreamIo:
    """What a stream may ask of its connection; all of it on the connection's event loop."""

    def respond(self, stream: "Stream", head: bytes, message: bytes, trailers: bytes) -> None:
        """Send a whole answer: two header blocks, and the data between them."""
        raise NotImplementedError

    def send_head(self, stream: "Stream", block: bytes) -> None:
        """Send the first header block of an answer."""
        raise NotImplementedError

    def send_data(self, stream: "Stream", data: bytes) -> None:
        """Send data as soon as flow control allows."""
        raise NotImplementedError

    def send_trailers(self, stream: "Stream", block: bytes) -> None:
        """Send the last header block of an answer after all of its data; the stream is closed then."""
        raise NotImplementedError

    def reset(self, stream: "Stream", code: ErrorCode) -> None:
        """End a stream without an answer."""
        raise NotImplementedError

    async def wait_sent(self, stream: "Stream") -> None:
        """Wait until all data of a stream is sent and the transport takes more, or the stream is closed."""
        raise NotImplementedError

    def hold(self, stream: "Stream", size: int) -> bool:
        """Count ``size`` more bytes of an unfinished request; False if there is no room for them."""
        raise NotImplementedError

    def let_go(self, stream: "Stream", size: int) -> None:
        """Count ``size`` bytes less of an unfinished request."""
        raise NotImplementedError

    def replenish(self, stream: "Stream") -> None:
        """Let the peer send as many bytes again as have been taken from the stream."""
        raise NotImplementedError

    def abort(self) -> None:
        """End the whole connection at once, after an error of our own."""
        raise NotImplementedError


class Stream:
    """A request and its answer; subclasses say what becomes of it. Times are of ``time.monotonic_ns``.

    No method of a subclass may raise. ``on_data`` and ``on_end`` may still be called once ``local_closed`` is set, as
    the peer may go on sending.
    """

    __slots__ = (
        "began_ns",
        "drained",
        "head",
        "held_bytes",
        "id",
        "io",
        "local_closed",
        "remote_closed",
        "send_window",
        "streams_request",
        "unacked_bytes",
        "unsent",
        "waits_since_ns",
    )

    def __init__(self, io: StreamIo, stream_id: int, head: RequestHead, send_window: int, began_ns: int) -> None:
        self.io = io
        self.id = stream_id
        self.head = head
        self.send_window = send_window
        self.began_ns = began_ns
        self.held_bytes = 0  # of the unfinished request
        self.unacked_bytes = 0  # received, and not yet given back to the peer's window
        self.remote_closed = False  # the peer has sent END_STREAM
        self.local_closed = False  # nothing more is to be sent, or the stream was reset
        self.streams_request = False  # its request may take as long as it likes to be whole
        # parts that wait for flow control, and whether each is data
        self.unsent: list[tuple[bytes | memoryview, bool]] = []
        self.waits_since_ns = 0
        self.drained: asyncio.Event | None = None  # set once nothing waits any more

    def on_data(self, data: bytes) -> None:
        """Some more of the request's data, never empty."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The request is whole."""
        raise NotImplementedError

    def on_reset(self) -> None:
        """The stream was closed before its answer was sent: stop, and count it. Called at most once."""
        raise NotImplementedError
