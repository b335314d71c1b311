"""Successful requests in a block of counters, as tests count them: each with a run of its own, or in another one's."""

from collections.abc import Callable

from penstock.monitor.counters.block_writer import NOT_COUNTED, BlockWriter
from penstock.monitor.counters.layout import LAST_MS_AT, Cells


def count_success(
    block: BlockWriter, series: int, run_rows: int, total: int, decode: int, queue: int, run: int, encode: int
) -> None:
    """Count a request and its run; durations in nanoseconds, ``run_rows`` is ``NOT_COUNTED`` in another one's run."""
    if run_rows != NOT_COUNTED:
        block.add_alone(series, run_rows, total, decode, queue, run, encode, True)
        return
    block.add_request(series, total, decode, queue, True)
    block.add_run(series, NOT_COUNTED, run, encode, True)


def count_alike(cells: Cells, number: int, count: Callable[[], None]) -> None:
    """Count so many requests that are all alike: once through ``count``, and what that added again for each other."""
    if number < 1:
        return
    before, last_ms = cells.copy(), cells[LAST_MS_AT]
    count()
    added = cells - before
    added[LAST_MS_AT] = 0
    cells += added * (number - 1)
    assert cells[LAST_MS_AT] >= last_ms
