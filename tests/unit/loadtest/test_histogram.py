"""The histogram: percentiles within three digits of the values, sums of parts, and HdrHistogram's own form."""

import base64
import math
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.loadtest.histogram import HIGHEST_US, HdrHistogram, join

VALUES = st.lists(st.integers(0, HIGHEST_US), min_size=1, max_size=60)


def of(values: list[int], missed: int = 0) -> HdrHistogram:
    return HdrHistogram.of(np.array(values, np.float64), missed)


@given(VALUES, st.sampled_from([1.0, 50.0, 90.0, 99.0, 99.9, 100.0]), st.integers(0, 5))
def test_a_percentile_is_the_value_of_its_rank_to_three_digits(values: list[int], percent: float, missed: int) -> None:
    found = of(values, missed).percentile_us(percent)
    rank = max(1, math.ceil(round(percent / 100 * (len(values) + missed), 6)))
    if rank > len(values):
        assert found == math.inf
    else:
        exact = sorted(values)[rank - 1]
        assert exact <= found <= exact * 1.001 + 1e-9


@given(VALUES, VALUES)
def test_parts_add_up(first: list[int], second: list[int]) -> None:
    together, sum_of = of(first + second, 3), join([of(first, 1), of(second, 2)])
    assert (together.counts == sum_of.counts).all()
    assert (together.count, together.missed) == (sum_of.count, sum_of.missed)
    assert together.mean_us == pytest.approx(sum_of.mean_us)


def test_without_requests_there_is_no_figure() -> None:
    nothing = join([])
    assert math.isnan(nothing.percentile_us(50)) and math.isnan(nothing.mean_us)


def test_what_is_outside_counts_as_the_nearest_bound() -> None:
    found = HdrHistogram.of(np.array([-5.0, 1e12]))
    assert found.percentile_us(50) == 0
    assert found.percentile_us(100) >= HIGHEST_US


def test_a_correction_adds_the_requests_that_waited_behind_a_long_one() -> None:
    found = of([100, 1000]).corrected(250)
    assert found.recorded == 2 + 3  # 1000 hides those of 750, 500 and 250
    assert [round(found.percentile_us(percent), -1) for percent in (20, 40, 60, 80, 100)] == [100, 250, 500, 750, 1000]


@given(VALUES)
def test_the_encoded_form_is_that_of_hdr_histogram(values: list[int]) -> None:
    histogram = of(values)
    assert decode(histogram.encode()) == histogram.counts.tolist()


def decode(text: str) -> list[int]:
    """Counts of a compressed V2 histogram, read as its specification says."""
    outer = base64.b64decode(text)
    cookie, size = struct.unpack(">ii", outer[:8])
    assert cookie == 0x1C849304 | 0x10 and size == len(outer) - 8
    inner = zlib.decompress(outer[8:])
    cookie, size, offset, digits, lowest, highest, ratio = struct.unpack(">iiiiqqd", inner[:40])
    assert (cookie, size, offset, digits) == (0x1C849303 | 0x10, len(inner) - 40, 0, 3)
    assert (lowest, highest, ratio) == (1, HIGHEST_US, 1.0)
    counts: list[int] = []
    at = 40
    while at < len(inner):
        value = shift = 0
        while True:
            byte = inner[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
        number = (value >> 1) ^ -(value & 1)
        counts.extend([0] * -number if number < 0 else [number])
    return counts + [0] * (23 * 1024 - len(counts))
