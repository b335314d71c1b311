"""A high dynamic range histogram: durations from 1 µs to an hour with three significant digits, as HdrHistogram's.

The layout is that of HdrHistogram (unit 1, highest value 3,600,000,000, 3 digits), and ``encode`` writes its compressed
V2 form, so that its own tools read what a report contains.
"""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

HIGHEST_US: Final = 3_600_000_000
DIGITS: Final = 3
_HALF_BITS: Final = 10  # 2048 sub-buckets hold two times 10 ** DIGITS values
_HALF: Final = 1 << _HALF_BITS
_SIZE: Final = 23 * _HALF  # 22 buckets reach HIGHEST_US
_COOKIE: Final = 0x1C849313
_COMPRESSED_COOKIE: Final = 0x1C849314

Counts = NDArray[np.int64]


class HdrHistogram:
    """Counts of durations in microseconds, and of ``missed`` requests, which rank beyond every duration.

    Immutable; histograms of parts add up.
    """

    def __init__(self, counts: Counts, missed: int = 0, total_us: float = 0.0) -> None:
        self.counts = counts
        self.missed = missed
        self.total_us = total_us
        self.recorded = int(counts.sum())

    @classmethod
    def of(cls, durations_us: NDArray[np.float64], missed: int = 0) -> "HdrHistogram":
        """Count durations; what is outside of 0 to an hour counts as its nearest bound."""
        values = np.clip(durations_us, 0, HIGHEST_US).astype(np.int64)
        return cls(np.bincount(_find_indices(values), minlength=_SIZE), missed, float(values.sum()))

    def __add__(self, other: "HdrHistogram") -> "HdrHistogram":
        return HdrHistogram(self.counts + other.counts, self.missed + other.missed, self.total_us + other.total_us)

    @property
    def count(self) -> int:
        """All requests."""
        return self.recorded + self.missed

    @property
    def mean_us(self) -> float:
        """The mean of the durations, NaN without any."""
        return self.total_us / self.recorded if self.recorded else math.nan

    def percentile_us(self, percent: float) -> float:
        """Return the duration that this percentage of the requests does not exceed; infinite among missed requests, NaN
        without requests."""
        if not self.count:
            return math.nan
        rank = max(1, math.ceil(round(percent / 100 * self.count, 6)))
        if rank > self.recorded:
            return math.inf
        return float(_highest_value(int(np.searchsorted(np.cumsum(self.counts), rank))))

    def corrected(self, interval_us: float) -> "HdrHistogram":
        """Return the histogram with the durations that a closed loop left out: for a duration longer than the interval
        between its requests, also those of the requests that waited behind it (HdrHistogram's correction)."""
        parts = [self.counts]
        durations = np.array([_highest_value(place) for place in range(_SIZE)], np.float64)
        counts, total = self.counts, self.total_us
        while (longer := (durations - interval_us >= interval_us) & (counts > 0)).any():
            counts, durations = counts[longer], durations[longer] - interval_us
            parts.append(np.bincount(_find_indices(durations.astype(np.int64)), counts, _SIZE).astype(np.int64))
            total += float((counts * durations).sum())
        return HdrHistogram(np.sum(parts, axis=0), self.missed, total)

    def encode(self) -> str:
        """Return the compressed V2 form of HdrHistogram in Base64; missed requests are not part of it."""
        body = b"".join(_encode_zigzag(number) for number in _iterate_runs(self.counts))
        head = struct.pack(">iiiiqqd", _COOKIE, len(body), 0, DIGITS, 1, HIGHEST_US, 1.0)
        packed = zlib.compress(head + body)
        return base64.b64encode(struct.pack(">ii", _COMPRESSED_COOKIE, len(packed)) + packed).decode()


def join(parts: Iterable[HdrHistogram]) -> HdrHistogram:
    """Add histograms up."""
    return sum(parts, HdrHistogram(np.zeros(_SIZE, np.int64)))


def _find_indices(values: Counts) -> Counts:
    """Return the index of the count of each value."""
    bits = np.frexp(np.maximum(values, 1).astype(np.float64))[1].astype(np.int64)
    buckets = np.maximum(bits - _HALF_BITS - 1, 0)
    return (buckets << _HALF_BITS) + (values >> buckets)


def _highest_value(place: int) -> int:
    """Return the greatest value that is counted at an index."""
    bucket = max((place >> _HALF_BITS) - 1, 0)
    return ((place - (bucket << _HALF_BITS) + 1) << bucket) - 1


def _iterate_runs(counts: Counts) -> Iterator[int]:
    """Yield the counts up to the last one, and for each run of zeros its length as a negative number."""
    before = -1
    for place in np.flatnonzero(counts).tolist():
        if place - before > 1:
            yield before + 1 - place
        yield int(counts[place])
        before = place


def _encode_zigzag(number: int) -> bytes:
    """Encode a signed number in 7 bits a byte, as ZigZag LEB128; counts stay far below the ninth byte."""
    rest, out = (number << 1) ^ (number >> 63), bytearray()
    while rest >= 0x80:
        out.append(rest & 0x7F | 0x80)
        rest >>= 7
    out.append(rest)
    return bytes(out)
