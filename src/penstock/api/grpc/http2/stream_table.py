"""The streams of a connection: open ones, and the state of closed ones."""

from typing import Final

from penstock.api.grpc.http2.stream import Http2Stream
from penstock.api.grpc.http2.stream_state import StreamState

MAX_RESETS: Final = 1024
"""Maximum number of reset streams to remember."""

MAX_GAPS: Final = 64
"""Maximum number of gaps in stream numbers to remember; gRPC clients leave none."""

_RESET_LOCAL: Final = StreamState.RESET_LOCAL
_RESET_REMOTE: Final = StreamState.RESET_REMOTE


class StreamTable:
    """Streams by number. A closed stream is remembered only if it was reset; every other one ended on both sides, or
    never began.

    Once there are more resets than are remembered, the older ones are taken for our own: what still comes of those is
    let pass, and no peer is punished for a frame that was on its way.
    """

    def __init__(self) -> None:
        self.live: dict[int, Http2Stream] = {}
        self.last_id = 0
        self._resets: dict[int, StreamState] = {}
        self._forgotten_id = 0  # resets up to this number are forgotten
        self._gaps: list[tuple[int, int]] = []

    def state(self, stream_id: int) -> StreamState:
        """Return the state of any stream."""
        stream = self.live.get(stream_id)
        if stream is not None:
            return stream.state
        if not stream_id & 1:
            return StreamState.SKIPPED
        return StreamState.IDLE if stream_id > self.last_id else self._past(stream_id)

    def begin(self, stream_id: int) -> None:
        """Begin a request with this new number; lower numbers can no longer begin."""
        if stream_id > self.last_id + 2 and len(self._gaps) < MAX_GAPS:
            self._gaps.append((self.last_id, stream_id))
        self.last_id = stream_id

    def end(self, stream_id: int, state: StreamState) -> None:
        """Close a stream in this state; also called when the state of a closed stream changes."""
        self.live.pop(stream_id, None)
        if state in (_RESET_LOCAL, _RESET_REMOTE):
            self._resets[stream_id] = state
            if len(self._resets) > MAX_RESETS:
                oldest = next(iter(self._resets))
                del self._resets[oldest]
                self._forgotten_id = max(self._forgotten_id, oldest)
        elif self._resets:
            self._resets.pop(stream_id, None)

    def _past(self, stream_id: int) -> StreamState:
        reset = self._resets.get(stream_id)
        if reset is not None:
            return reset
        if stream_id <= self._forgotten_id:
            return StreamState.RESET_LOCAL
        if any(after < stream_id < before for after, before in self._gaps):
            return StreamState.SKIPPED
        return StreamState.CLOSED
