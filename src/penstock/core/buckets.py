"""Fixed histogram edges; fixed, so that counts of workers, replicas and times add up exactly.

A value falls in the first bucket whose edge is not below it: ``bisect_left(edges, value)``.
"""

SMALLEST_NS = 25_000
LATENCY_EDGES_NS: tuple[int, ...] = tuple(round(SMALLEST_NS * 2 ** (step / 2)) for step in range(42))
"""Upper edges (inclusive) in nanoseconds: 25 µs times powers of √2, up to about 37 s; one more bucket lies above."""

FINE_PER_OCTAVE = 8
FINE_EDGES_NS: tuple[int, ...] = tuple(round(SMALLEST_NS * 2 ** (step / FINE_PER_OCTAVE)) for step in range(165))
"""Upper edges (inclusive) in nanoseconds of what rollouts compare: 25 µs times powers of the eighth root of 2.

Every fourth is one of ``LATENCY_EDGES_NS``, the last of both is the same: fine bucket ``f`` lies in ``(f + 3) // 4``.
"""

RUN_BASE_NS = 250_000
"""Added to the time of each run before it is put in a fine bucket: what a small request takes besides. So a version
whose runs take microseconds is not called slower for microseconds that no caller can feel."""

ROWS_EDGES: tuple[int, ...] = tuple(1 << power for power in range(13))
"""Upper edges (inclusive) of the batch size histogram: 1 to 4096 rows; one more bucket lies above."""

STALL_EDGES_NS: tuple[int, ...] = tuple(step * 10**power for power in (6, 7, 8, 9) for step in (1, 2, 5))
"""Upper edges (inclusive) in nanoseconds of event-loop stalls: 1 ms to 5 s, in steps of 1, 2 and 5."""
