"""How much a peer may ask for that is of no use: each limit is a ratio to useful work, or to time.

Useful work are streams begun, DATA frames that carried something, and answers. The ratios for WINDOW_UPDATE and
PRIORITY are those of Envoy's HTTP/2 codec. A peer that is over a limit loses its connection (ENHANCE_YOUR_CALM).
"""

from typing import Final

from penstock.api.grpc.http2.frames import ErrorCode, Http2ConnectionError

UPDATES_PER_DATA_FRAME: Final = 10
"""WINDOW_UPDATE frames for each DATA frame sent, half of them on the stream and half on the connection; simple clients
have windows of 64 KiB and open both after each frame."""

UPDATES_AT_ONCE: Final = 100
PRIORITIES_PER_STREAM: Final = 100
EMPTY_FRAMES_AT_ONCE: Final = 10
EMPTY_FRAMES_PER_USE: Final = 2
"""Frames that carry nothing and end nothing, for each stream, and each DATA frame that carried something."""

CONTINUATIONS_PER_BLOCK: Final = 256
"""CONTINUATION frames of a block that is not decoded yet."""

LARGE_BLOCK_STEPS: Final = 4096
"""What decoding header blocks that are too large may cost at once, in steps of 64 fields or 4 KiB: 16 MiB of ordinary
fields, or 256 KiB of fields of one byte each, which take about half a second."""

CONTROL_FRAMES_AT_ONCE: Final = 300
"""PING, SETTINGS, GOAWAY, frames of unknown types and frames on streams that are over."""

UNSENT_CONTROL_FRAMES: Final = 1000
"""Acknowledgements and resets that the peer does not read."""

RESETS_AT_ONCE: Final = 100
"""What resets may cost at once where fewer streams than that are allowed at a time."""

PER_SECOND: Final = 100.0
PER_ANSWER: Final = 4.0
"""What time and answers add to the budgets of control frames and of resets."""

EARLY_NS: Final = 1_000_000
EARLY_COST: Final = 5.0
SOON_NS: Final = 100_000_000
SOON_COST: Final = 0.5
"""A stream that its peer resets at once was opened to be reset; one that is reset a little later wasted some work. What
lived longer costs nothing: the number of streams at a time already bounds how many end so."""

MALFORMED_COST: Final = 5.0
REFUSED_COST: Final = 1.0


class RefillingBudget:
    """A budget that time and answers refill up to ``capacity``. Not part of ``AbuseLimits`` so that there are two."""

    __slots__ = ("_answers", "_capacity", "_filled_ns", "_left")

    def __init__(self, capacity: float, now_ns: int) -> None:
        self._capacity = capacity
        self._left = capacity
        self._answers = 0
        self._filled_ns = now_ns

    def spend(self, cost: float, answers: int, now_ns: int) -> bool:
        """Spend ``cost``, where so many answers have been given so far; False if there is not as much left."""
        earned = (answers - self._answers) * PER_ANSWER + (now_ns - self._filled_ns) / 1e9 * PER_SECOND
        self._answers, self._filled_ns = answers, now_ns
        self._left = min(self._capacity, self._left + earned) - cost
        return self._left >= 0


class AbuseLimits:
    """The counts of one connection. Those of useful work are plain attributes, as they change with every call.

    Every method counts one frame and raises ``Http2ConnectionError`` when it is one too many. Times are of
    ``time.monotonic_ns``.
    """

    def __init__(self, max_streams: int, now_ns: int) -> None:
        self.streams_opened = 0
        self.data_frames_sent = 0
        self.data_frames_received = 0
        self.answers = 0
        self._window_updates = 0
        self._priorities = 0
        self._empty_frames = 0
        self._unsent_control = 0
        self._control = RefillingBudget(CONTROL_FRAMES_AT_ONCE, now_ns)
        self._large_blocks = RefillingBudget(LARGE_BLOCK_STEPS, now_ns)
        # whoever gives up all its streams at once, as at a common deadline, is honest
        self._resets = RefillingBudget(max(max_streams, RESETS_AT_ONCE), now_ns)

    def window_update(self) -> None:
        """A WINDOW_UPDATE came."""
        self._window_updates += 1
        useful = self.streams_opened + UPDATES_PER_DATA_FRAME * self.data_frames_sent
        if self._window_updates > UPDATES_AT_ONCE + 2 * useful:
            raise _too_many("WINDOW_UPDATE frames")

    def priority(self) -> None:
        """A PRIORITY came."""
        self._priorities += 1
        if self._priorities > PRIORITIES_PER_STREAM * (1 + self.streams_opened):
            raise _too_many("PRIORITY frames")

    def empty_frame(self) -> None:
        """A DATA or CONTINUATION frame came that carries nothing and ends nothing."""
        self._empty_frames += 1
        useful = self.streams_opened + self.data_frames_received
        if self._empty_frames > EMPTY_FRAMES_AT_ONCE + EMPTY_FRAMES_PER_USE * useful:
            raise _too_many("empty frames")

    def continuation(self, count: int) -> None:
        """The header block that comes has ``count`` CONTINUATION frames so far."""
        if count > CONTINUATIONS_PER_BLOCK:
            raise _too_many("CONTINUATION frames")

    def large_block_step(self, now_ns: int) -> None:
        """A step of decoding a header block that is too large; time and answers pay for it."""
        if not self._large_blocks.spend(1.0, self.answers, now_ns):
            raise _too_many("header fields")

    def control_frame(self, cost: float, now_ns: int) -> None:
        """A frame came that is about the connection, or of no use."""
        if not self._control.spend(cost, self.answers, now_ns):
            raise _too_many("frames without use")

    def stream_reset(self, lived_ns: int, now_ns: int) -> None:
        """The peer has reset a stream that was under way for so long."""
        if lived_ns < EARLY_NS:
            self._reset(EARLY_COST, now_ns)
        elif lived_ns < SOON_NS:
            self._reset(SOON_COST, now_ns)

    def stream_malformed(self, now_ns: int) -> None:
        """A stream has to be reset because of what the peer sent."""
        self._reset(MALFORMED_COST, now_ns)

    def stream_refused(self, now_ns: int) -> None:
        """A stream is refused, as the peer has too many."""
        self._reset(REFUSED_COST, now_ns)

    def control_frame_queued(self) -> None:
        """A frame that answers one of the peer's waits to be written."""
        self._unsent_control += 1
        if self._unsent_control > UNSENT_CONTROL_FRAMES:
            raise _too_many("frames whose answers are not read")

    def control_frames_written(self) -> None:
        """All frames that waited are written."""
        self._unsent_control = 0

    def _reset(self, cost: float, now_ns: int) -> None:
        if not self._resets.spend(cost, self.answers, now_ns):
            raise _too_many("streams given up")


def _too_many(what: str) -> Http2ConnectionError:
    return Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")
