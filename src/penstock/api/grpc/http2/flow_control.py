"""Flow control (RFC 9113 sections 5.2 and 6.9): how much each side may send, on a connection and on a stream."""

from penstock.api.grpc.http2.frames import MAX_WINDOW


class ReceiveWindow:
    """The window for the peer: ``size`` bytes, of which ``outstanding`` were received and are not returned yet.

    Giving back waits until it is worth a frame: half of the window of a stream, say.
    """

    __slots__ = ("_size", "_threshold", "outstanding")

    def __init__(self, size: int, threshold: int) -> None:
        self._size = size
        self._threshold = threshold
        self.outstanding = 0

    def receive(self, size: int) -> bool:
        """Count ``size`` received bytes, including padding; return False if they exceed the window."""
        if self.outstanding + size > self._size:
            return False
        self.outstanding += size
        return True

    def replenish(self) -> int:
        """Return received bytes to the window; return the increment to announce, 0 while it is too small."""
        increment = self.outstanding
        if increment < self._threshold:
            return 0
        self.outstanding = 0
        return increment


class SendWindow:
    """The window for this side: ``available`` bytes, negative after the peer has reduced its initial window."""

    __slots__ = ("available",)

    def __init__(self, available: int) -> None:
        self.available = available

    def grow(self, increment: int) -> bool:
        """Add ``increment`` bytes, negative if the peer reduces it; return False if the window gets too large.

        A window that got too large ends its stream, or its connection, so what it holds then is of no use.
        """
        self.available += increment
        return self.available <= MAX_WINDOW

    def take(self, size: int) -> None:
        """Count ``size`` sent bytes; they are at most ``available``."""
        self.available -= size
