"""Limits how much useless work a peer may cause: each limit is a ratio to useful work, or to time.

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
"""Frames without content or effect, for each stream and each DATA frame with content."""

CONTINUATIONS_PER_BLOCK: Final = 256
"""Maximum CONTINUATION frames of a block that is not decoded yet."""

LARGE_BLOCK_STEPS: Final = 4096
"""What decoding header blocks that are too large may cost at once, in steps of 64 fields or 4 KiB: 16 MiB of ordinary
fields, or 256 KiB of fields of one byte each, which take about half a second."""

CONTROL_FRAMES_AT_ONCE: Final = 300
"""PING, SETTINGS, GOAWAY, frames of unknown types, and frames on closed streams."""

UNSENT_CONTROL_FRAMES: Final = 1000
"""Acknowledgements and resets that the peer does not read."""

RESETS_AT_ONCE: Final = 100
"""Minimum cost of resets at once, if fewer streams are allowed at a time."""

PER_SECOND: Final = 100.0
PER_ANSWER: Final = 4.0
"""Amounts that time and answers add to the budgets of control frames and resets."""

EARLY_NS: Final = 1_000_000
EARLY_COST: Final = 5.0
SOON_NS: Final = 100_000_000
SOON_COST: Final = 0.5
"""A stream that its peer resets at once was opened to be reset; one that is reset a little later wasted some work. What
lived longer costs nothing: the number of streams at a time already bounds how many end so."""

MALFORMED_COST: Final = 5.0
REFUSED_COST: Final = 1.0


class RefillingBudget:
    """A budget that time and answers refill up to ``capacity``. A class of its own, because there are two."""

    __slots__ = ("_answers", "_capacity", "_filled_ns", "_left")

    def __init__(self, capacity: float, now_ns: int) -> None:
        self._capacity = capacity
        self._left = capacity
        self._answers = 0
        self._filled_ns = now_ns

    def spend(self, cost: float, answers: int, now_ns: int) -> bool:
        """Spend ``cost``, after this number of answers so far; return False if the budget is exceeded."""
        earned = (answers - self._answers) * PER_ANSWER + (now_ns - self._filled_ns) / 1e9 * PER_SECOND
        self._answers, self._filled_ns = answers, now_ns
        self._left = min(self._capacity, self._left + earned) - cost
        return self._left >= 0


class AbuseLimits:
    """The counts of one connection. Counts of useful work are plain attributes, because they change with every call.

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
        """Count a WINDOW_UPDATE."""
        self._window_updates += 1
        useful = self.streams_opened + UPDATES_PER_DATA_FRAME * self.data_frames_sent
        if self._window_updates > UPDATES_AT_ONCE + 2 * useful:
            raise _too_many("WINDOW_UPDATE frames")

    def priority(self) -> None:
        """Count a PRIORITY."""
        self._priorities += 1
        if self._priorities > PRIORITIES_PER_STREAM * (1 + self.streams_opened):
            raise _too_many("PRIORITY frames")

    def empty_frame(self) -> None:
        """Count a DATA or CONTINUATION frame without content or effect."""
        self._empty_frames += 1
        useful = self.streams_opened + self.data_frames_received
        if self._empty_frames > EMPTY_FRAMES_AT_ONCE + EMPTY_FRAMES_PER_USE * useful:
            raise _too_many("empty frames")

    def continuation(self, count: int) -> None:
        """Check that the current header block has at most the allowed number of CONTINUATION frames."""
        if count > CONTINUATIONS_PER_BLOCK:
            raise _too_many("CONTINUATION frames")

    def large_block_step(self, now_ns: int) -> None:
        """Count a step of decoding a header block that is too large; time and answers refill the budget."""
        if not self._large_blocks.spend(1.0, self.answers, now_ns):
            raise _too_many("header fields")

    def control_frame(self, cost: float, now_ns: int) -> None:
        """Count a frame that concerns the connection or has no effect."""
        if not self._control.spend(cost, self.answers, now_ns):
            raise _too_many("frames without useful work")

    def stream_reset(self, lived_ns: int, now_ns: int) -> None:
        """Count a reset by the peer of a stream that was open for this time."""
        if lived_ns < EARLY_NS:
            self._reset(EARLY_COST, now_ns)
        elif lived_ns < SOON_NS:
            self._reset(SOON_COST, now_ns)

    def stream_malformed(self, now_ns: int) -> None:
        """Count a reset by the server after an error of the peer."""
        self._reset(MALFORMED_COST, now_ns)

    def stream_refused(self, now_ns: int) -> None:
        """Count a refused stream: the peer has too many."""
        self._reset(REFUSED_COST, now_ns)

    def control_frame_queued(self) -> None:
        """Count a queued frame that answers one of the peer's."""
        self._unsent_control += 1
        if self._unsent_control > UNSENT_CONTROL_FRAMES:
            raise _too_many("frames whose answers are not read")

    def control_frames_written(self) -> None:
        """Note that all queued frames are written."""
        self._unsent_control = 0

    def _reset(self, cost: float, now_ns: int) -> None:
        if not self._resets.spend(cost, self.answers, now_ns):
            raise _too_many("streams given up")


def _too_many(what: str) -> Http2ConnectionError:
    return Http2ConnectionError(ErrorCode.ENHANCE_YOUR_CALM, f"too many {what}")
