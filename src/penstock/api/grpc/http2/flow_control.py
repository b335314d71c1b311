"""Flow control (RFC 9113 sections 5.2 and 6.9): how much either side may send, on a connection and on a stream."""

from penstock.api.grpc.http2.frames import MAX_WINDOW


class ReceiveWindow:
    """What the peer may send: ``size`` bytes, of which ``outstanding`` have come and are not given back yet.

    Giving back waits until it is worth a frame: half of the window of a stream, say.
    """

    __slots__ = ("_size", "_threshold", "outstanding")

    def __init__(self, size: int, threshold: int) -> None:
        self._size = size
        self._threshold = threshold
        self.outstanding = 0

    def receive(self, size: int) -> bool:
        """Count ``size`` bytes that have come, padding included; False if the peer was not allowed to send them."""
        if self.outstanding + size > self._size:
            return False
        self.outstanding += size
        return True

    def replenish(self) -> int:
        """Give back what has come; the increment to announce, 0 as long as that is not worth a frame."""
        increment = self.outstanding
        if increment < self._threshold:
            return 0
        self.outstanding = 0
        return increment


class SendWindow:
    """What may be sent: ``available`` bytes, which are negative after the peer has made its first window smaller."""

    __slots__ = ("available",)

    def __init__(self, available: int) -> None:
        self.available = available

    def grow(self, increment: int) -> bool:
        """Add ``increment`` bytes, less than none where the peer takes some back; False if the window gets too large.

        A window that got too large ends its stream, or its connection, so what it holds then is of no use.
        """
        self.available += increment
        return self.available <= MAX_WINDOW

    def take(self, size: int) -> None:
        """Count ``size`` bytes that are sent; they are at most ``available``."""
        self.available -= size
