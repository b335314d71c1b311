"""Computes the deadline of a call: the smallest of the caller's limits, or the default."""

from collections.abc import Iterable


def deadline_ns(began_ns: int, timeouts_ns: Iterable[int | None], default_ns: int) -> int:
    """Return the monotonic time in nanoseconds by which a call that began at ``began_ns`` must have ended.

    ``timeouts_ns`` are the limits the caller stated, None where it stated none; a stated limit is never
    lengthened by the default.
    """
    stated = [timeout for timeout in timeouts_ns if timeout is not None]
    return began_ns + (min(stated) if stated else default_ns)
