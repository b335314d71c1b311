"""Whether a call may still join a queue: a pure rule over how long those before it will take."""

SMOOTHING = 0.2
"""The weight of the newest run in what a run is expected to take."""


def smoothed(expected_ns: float, ran_ns: int) -> float:
    """What a run is expected to take after one more that took ``ran_ns``; without any before, what that one took."""
    return float(ran_ns) if expected_ns <= 0 else expected_ns + SMOOTHING * (ran_ns - expected_ns)


def expected_wait_ns(before: int, threads: int, run_ns: float) -> float:
    """How long a call waits that ``before`` others wait or run before: nothing while a thread is free."""
    return before // threads * run_ns


def comes_too_late(before: int, threads: int, run_ns: float, left_ns: int) -> bool:
    """Whether a call would wait beyond the time it has left, and had better be told now; one that finds a free thread
    never does, so that a rule built on one long run is tried again."""
    return before >= threads and expected_wait_ns(before, threads, run_ns) + run_ns > left_ns
