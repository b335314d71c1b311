"""Bounds what one unit of a sticky split adds to the evidence of a rollout; a unit is identified by a place in a hash
table.

The answers to one user are not independent observations: a broken client that asks ten thousand times is still one. So
in each round (a step of a rollout or experiment) a unit's answers count at most ``MOST_A_MINUTE`` times a minute, its
failures count once, and one of its answers may be judged by a label. Every worker writes its own table and reads those
of the others, so a unit that reaches several workers has one vote. Two units with the same place share a vote.

Votes count only while a round is open. The control process opens it after it has stored the counts before it, so that
no vote comes before the look that its round starts from; a unit that comes too early keeps its vote.
"""

from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final

PLACES: Final = 1 << 17
MOST_A_MINUTE: Final = 20

TAGS: Final = 1 << 16
CLOSED: Final = 0
"""The tag of no round; votes with it do not count."""

_FAILED: Final = 1
_JUDGED: Final = 2
_ONE: Final = 1 << 2
_COUNT: Final = 0x3F
_MINUTE_NS: Final = 60_000_000_000

COUNTS, JUDGED = 1, 2
"""Bits of the result of ``answer``: the answer counts; it may be judged by a label."""


def _current_minute() -> int:
    return monotonic_ns() // _MINUTE_NS & 0xFF  # the same in every process of a machine


class UnitVotes:
    """The votes of a gateway's units as one worker sees them. Only that worker writes to the table ``own``.

    A table has ``PLACES`` entries of 32 bits: 16 for the tag of the vote's round, 8 for the minute, 6 for the number of
    answers in that minute, and 2 marks (the unit has failed, it was judged). ``live`` are the tags of open rounds. A
    unit has no vote in another round, or while its place belongs to a different open round.
    """

    def __init__(
        self, own: memoryview, others: Sequence[memoryview] = (), minute: Callable[[], int] = _current_minute
    ) -> None:
        self._own = own
        self._others = tuple(others)
        self._minute = minute
        self.live: frozenset[int] = frozenset()

    def answer(self, tag: int, index: int) -> int:
        """Record an answer to a unit, and return whether it counts and whether it may be judged (``COUNTS``,
        ``JUDGED``)."""
        minute = self._minute()
        own, marks, count = self._counts_of(tag, index, minute)
        if own < 0 or count >= MOST_A_MINUTE:
            return 0
        self._own[index] = tag << 16 | minute << 8 | (own + 1) * _ONE | marks | _JUDGED
        return COUNTS if marks & _JUDGED else COUNTS | JUDGED

    def failure(self, tag: int, index: int) -> bool:
        """Record a failed request of a unit, and return whether it counts."""
        minute = self._minute()
        own, marks, _ = self._counts_of(tag, index, minute)
        if own < 0 or marks & _FAILED:
            return False
        self._own[index] = tag << 16 | minute << 8 | own * _ONE | marks | _FAILED
        return True

    def _counts_of(self, tag: int, index: int, minute: int) -> tuple[int, int, int]:
        """Return how often this worker counted the unit in this minute (-1: the place belongs to another round, or the
        round is not open), its marks, and how often all workers counted it."""
        if tag not in self.live:
            return -1, 0, 0
        entry = self._own[index]
        held = entry >> 16
        if held != tag:
            if held in self.live:
                return -1, 0, 0
            entry = 0
        own = count = entry >> 2 & _COUNT if entry >> 8 & 0xFF == minute else 0
        marks = entry & (_FAILED | _JUDGED)
        for table in self._others:
            other = table[index]
            if other >> 16 == tag:
                marks |= other & (_FAILED | _JUDGED)
                if other >> 8 & 0xFF == minute:
                    count += other >> 2 & _COUNT
        return own, marks, count
