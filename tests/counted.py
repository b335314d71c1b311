"""One successful request in a block of counters, as tests count it: with a run of its own, or in another one's."""

from penstock.monitor.counters.block_writer import NOT_COUNTED, BlockWriter


def count_success(
    block: BlockWriter, series: int, run_rows: int, total: int, decode: int, queue: int, run: int, encode: int
) -> None:
    """Count a request and its run; durations in nanoseconds, ``run_rows`` is ``NOT_COUNTED`` in another one's run."""
    block.add_request(series, total, decode, queue, True)
    block.add_run(series, run_rows, run, encode, run_rows != NOT_COUNTED, True)
