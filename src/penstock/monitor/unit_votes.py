"""What one unit of a sticky split may add to a rollout's evidence; units are known by a place in a table, not by name.

Answers of one user are no independent observations: a broken client that asks ten thousand times is still one. So a
unit's answers count ``MOST_A_MINUTE`` times a minute at most, its failures once, and one of its answers may be judged
by a label; each anew in every round, which is a stage of a trial. Every worker writes its own table and reads those of
the others, so a unit that comes by several workers has one vote, too. Two units that fall on the same place share
theirs.

Votes are taken only in a round that is open: the control process opens it once it has written down what had been
counted before. So no vote can be given before the look that it is counted from, and a unit that comes too early keeps
its vote.
"""

from collections.abc import Callable, Sequence
from time import monotonic_ns
from typing import Final

PLACES: Final = 1 << 17
MOST_A_MINUTE: Final = 20

TAGS: Final = 1 << 16
CLOSED: Final = 0
"""The tag of no round: votes under it are not taken."""

_FAILED: Final = 1
_JUDGED: Final = 2
_ONE: Final = 1 << 2
_COUNT: Final = 0x3F
_MINUTE_NS: Final = 60_000_000_000

COUNTS, JUDGED = 1, 2
"""Bits of what ``answer`` says: the answer counts; it may be judged by a label."""


def _minute() -> int:
    return monotonic_ns() // _MINUTE_NS & 0xFF  # the same in every process of a machine


class UnitVotes:
    """The votes of a gateway's units, as one worker sees them; it alone writes to ``own``.

    A table has ``PLACES`` words of 32 bits: 16 of a tag that names the round in which a vote was given, 8 of the
    minute, 6 that count answers in it, and the marks of a unit that has failed and of one that was judged. ``live`` are
    the tags of open rounds: under others no vote is taken. Where a place is held by another one of these, a unit has no
    vote.
    """

    def __init__(self, own: memoryview, others: Sequence[memoryview] = (), minute: Callable[[], int] = _minute) -> None:
        self._own = own
        self._others = tuple(others)
        self._minute = minute
        self.live: frozenset[int] = frozenset()

    def answer(self, tag: int, place: int) -> int:
        """A unit was answered: whether that counts, and whether it may be judged (``COUNTS``, ``JUDGED``)."""
        minute = self._minute()
        own, marks, count = self._seen(tag, place, minute)
        if own < 0 or count >= MOST_A_MINUTE:
            return 0
        said = COUNTS if marks & _JUDGED else COUNTS | JUDGED
        self._own[place] = tag << 16 | minute << 8 | (own + 1) * _ONE | marks | _JUDGED
        return said

    def failure(self, tag: int, place: int) -> bool:
        """A unit's request failed: whether that counts."""
        minute = self._minute()
        own, marks, _ = self._seen(tag, place, minute)
        if own < 0 or marks & _FAILED:
            return False
        self._own[place] = tag << 16 | minute << 8 | own * _ONE | marks | _FAILED
        return True

    def _seen(self, tag: int, place: int, minute: int) -> tuple[int, int, int]:
        """How often the unit was counted in this minute here (-1 if its place is another's, or the round is not open),
        its marks, and how often in all workers."""
        if tag not in self.live:
            return -1, 0, 0
        word = self._own[place]
        held = word >> 16
        if held != tag:
            if held in self.live:
                return -1, 0, 0
            word = 0
        own = count = word >> 2 & _COUNT if word >> 8 & 0xFF == minute else 0
        marks = word & (_FAILED | _JUDGED)
        for table in self._others:
            other = table[place]
            if other >> 16 == tag:
                marks |= other & (_FAILED | _JUDGED)
                if other >> 8 & 0xFF == minute:
                    count += other >> 2 & _COUNT
        return own, marks, count
