"""Reads the files of a capture as one stream in the order of time, whatever their number and size.

The segments of several workers and gateways lie beside each other in time. A part is opened when the stream comes to
its first record, so few are open at a time, and records that are a little out of order are put in order again.
"""

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Final

from penstock.core.errors import InvalidInput
from penstock.monitor.answers import prefix_of
from penstock.monitor.capture import SUFFIX, CapturedRequest, read_records
from penstock.monitor.tables import PARQUET

SLACK_S: Final = 5.0
"""A part may have records that are older than its first one by this much."""

MOST_OPEN: Final = 64
"""Parts that are open at a time; if more lie beside each other, the order of their records is not exact."""

REORDERED: Final = 1024
REORDERED_BYTES: Final = 64 << 20
"""Records, and bytes of them, that are held to put them in order."""


@dataclass(slots=True)
class ReadCounts:
    """What was read: ``size`` of ``total`` (bytes, or rows of Parquet), the files that were ``deleted`` meanwhile, and
    those that are ``damaged`` from some record on."""

    size: int = 0
    total: int = 0
    deleted: int = 0
    damaged: int = 0

    @property
    def share(self) -> float:
        """The part that was read, 0 to 1."""
        return min(1.0, self.size / self.total) if self.total else 1.0


RecordWithSize = tuple[CapturedRequest, int]
Read = Callable[[ReadCounts], Iterator[RecordWithSize]]
"""Yields the records of a part, each with its share of the part's size."""


@dataclass(frozen=True, slots=True)
class CapturePart:
    """A part of a capture: the time of its first record (seconds since the epoch), its size, and what reads it."""

    start: float
    size: int
    read: Read


@dataclass(slots=True)
class _Heap:
    """Records in order of time, at most so many and so large."""

    items: list[tuple[float, int, RecordWithSize]] = field(default_factory=list)
    size: int = 0
    numbers: Iterator[int] = field(default_factory=count)

    def push(self, sized: RecordWithSize) -> None:
        heapq.heappush(self.items, (time_of(sized[0]), next(self.numbers), sized))
        self.size += len(sized[0].body)

    def pop(self) -> RecordWithSize:
        sized = heapq.heappop(self.items)[2]
        self.size -= len(sized[0].body)
        return sized

    @property
    def is_full(self) -> bool:
        return len(self.items) > REORDERED or self.size > REORDERED_BYTES


def time_of(record: CapturedRequest) -> float:
    """Return when a request came, seconds since the epoch."""
    return float(record.head["at"])


def merge_parts(parts: Iterable[CapturePart], counts: ReadCounts) -> Iterator[CapturedRequest]:
    """Yield the records of all parts in the order of time, and count what was yielded."""
    waiting = deque(sorted(parts, key=lambda part: part.start))
    counts.total = sum(part.size for part in waiting)
    for record, size in _reorder(_merge(waiting, counts)):
        counts.size += size
        yield record


def _reorder(records: Iterator[RecordWithSize]) -> Iterator[RecordWithSize]:
    held = _Heap()
    for sized in records:
        held.push(sized)
        while held.is_full:
            yield held.pop()
    while held.items:
        yield held.pop()


def _merge(waiting: deque[CapturePart], counts: ReadCounts) -> Iterator[RecordWithSize]:
    opened: list[tuple[float, int, RecordWithSize, Iterator[RecordWithSize]]] = []
    numbers = count()
    while waiting or opened:
        while waiting and len(opened) < MOST_OPEN and (not opened or waiting[0].start <= opened[0][0] + SLACK_S):
            rest = waiting.popleft().read(counts)
            if (first := next(rest, None)) is not None:
                heapq.heappush(opened, (time_of(first[0]), next(numbers), first, rest))
        if opened:
            _, _, sized, rest = opened[0]
            yield sized
            following = next(rest, None)
            if following is None:
                heapq.heappop(opened)
            else:
                heapq.heapreplace(opened, (time_of(following[0]), next(numbers), following, rest))


def record_parts(place: Path, model: str, version: str = "") -> list[CapturePart]:
    """Return the parts of a folder of segments (of one model, and of one ``version`` if it is given), or of one file of
    records.

    Raises:
        InvalidInput: the file holds no captured requests.
        OSError: the place cannot be read.
    """
    files = [place]
    if place.is_dir() or not place.exists():  # a gateway that never captured has no folder
        files = sorted(place.glob(f"{prefix_of(model)}@{version or '*'}@*{SUFFIX}"))
    return [part for file in files if (part := _record_part(file)) is not None]


def _record_part(file: Path) -> CapturePart | None:
    """Return a file as a part, None if it is empty."""
    size = file.stat().st_size
    first = next(_read_records(file, ReadCounts()), None)
    if first is None and size and file.suffix != SUFFIX:
        raise InvalidInput(f"{file.name} holds no captured requests; expected a segment, or Parquet of `capture`")
    return None if first is None else CapturePart(time_of(first[0]), size, lambda counts: _read_records(file, counts))


def _read_records(file: Path, counts: ReadCounts) -> Iterator[RecordWithSize]:
    """Yield the requests of a file; other records, such as the one that names the owner, have no tensors."""
    try:
        with file.open("rb") as opened:
            for record, amount in read_records(opened):
                if record.head["tensors"]:
                    time_of(record)
                    yield record, amount.size
    except FileNotFoundError:
        counts.deleted += 1
    except (ValueError, KeyError, TypeError, MemoryError, OSError):  # it is not a record, or the disk fails
        counts.damaged += 1


def is_parquet(file: Path) -> bool:
    """Whether a file is Parquet; raises ``OSError``."""
    with file.open("rb") as opened:
        return opened.read(len(PARQUET)) == PARQUET
