"""Bursts of threads, from what the kernel has recorded of them."""

import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtests.control import (
    ROUNDS,
    WINDOW_S,
    LoadedWindow,
    Round,
    Sample,
    ThreadSampler,
    bursts_ms,
    estimate_s,
    verdict,
)
from loadtests.latencies import Latencies
from loadtests.openloop import Misses, OpenWindow

MS = 1_000_000


@pytest.mark.parametrize(
    ("samples", "bursts"),
    [
        ([], []),
        ([(5, 1)], []),
        ([(5, 1), (7, 2)], [2.0]),
        ([(5, 1), (5, 2), (6, 2), (8, 2)], [3.0]),
        ([(5, 1), (7, 2), (8, 3)], [2.0, 1.0]),
        ([(5, 1), (9, 4)], [4.0]),
        ([(5, 1), (5, 2)], []),
    ],
)
def test_a_burst_lasts_until_the_thread_gets_the_processor_again(
    samples: list[tuple[int, int]], bursts: list[float]
) -> None:
    assert bursts_ms([Sample(ran * MS, slices) for ran, slices in samples]) == bursts


@given(st.lists(st.integers(1, 50 * MS), min_size=1, max_size=40), st.data())
def test_no_burst_is_longer_than_what_is_said(lengths: list[int], data: st.DataObject) -> None:
    """Whichever samples are missed; the first and the last are not."""
    taken, ran = [Sample(0, 0)], 0
    for number, length in enumerate(lengths, 1):
        ran += length
        if number == len(lengths) or data.draw(st.booleans()):
            taken.append(Sample(ran, number))
    found = bursts_ms(taken)
    assert max(found) >= max(lengths) / MS
    assert sum(found) == pytest.approx(sum(lengths) / MS)


def test_the_bursts_of_a_thread_are_seen() -> None:
    watch, over = ThreadSampler([os.getpid()]), threading.Event()
    worker = threading.Thread(target=_work, args=(over,))
    sampler = threading.Thread(target=watch.run)
    worker.start()
    sampler.start()
    while not any(bursts_ms(samples) for samples in list(watch.samples.values())):
        time.sleep(0.01)
    watch.stop()
    over.set()
    sampler.join()
    worker.join()


def _work(over: threading.Event) -> None:
    while not over.wait(0.001):
        sum(range(10_000))


def _round(beside: float, without: float) -> Round:
    def loaded(p999: float) -> LoadedWindow:
        durations = Latencies(1.0, 1.0, p999, 9)
        return LoadedWindow(OpenWindow(9, 0, 1.0, durations, 1.0, Misses(), 0, 0.0, durations, durations), 0.0)

    return Round(loaded(beside), loaded(without))


@pytest.mark.parametrize(
    ("ratios", "bursts", "passed", "text"),
    [
        ([1.0, 1.04, 3.0], [0.2, 0.9], True, "passed: p99.9 is 1.04"),
        ([1.0, 1.06, 3.0], [], False, "p99.9 is 1.06"),
        ([1.0], [0.2, 1.5], False, "for 1.50 ms at a time"),
    ],
)
def test_the_verdict_rests_on_the_median_of_the_rounds_and_the_longest_burst(
    ratios: list[float], bursts: list[float], passed: bool, text: str
) -> None:
    found = verdict([_round(2 * ratio, 2.0) for ratio in ratios], bursts)
    assert found[0] is passed
    assert text in found[1]


def test_the_measurement_takes_less_than_four_minutes_unless_more_is_asked_for() -> None:
    assert estimate_s(ROUNDS, WINDOW_S) < 240
    assert estimate_s(ROUNDS, 60.0) > 600
