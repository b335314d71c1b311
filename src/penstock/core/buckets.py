"""Fixed histogram edges; fixed, so that counts of workers, replicas and times add up exactly.

A value falls in the first bucket whose edge is not below it: ``bisect_left(edges, value)``.
"""

SMALLEST_NS = 25_000
LATENCY_EDGES_NS: tuple[int, ...] = tuple(round(SMALLEST_NS * 2 ** (step / 2)) for step in range(42))
"""Upper edges (inclusive) in nanoseconds: 25 µs times powers of √2, up to about 37 s; one more bucket lies above."""

ROWS_EDGES: tuple[int, ...] = tuple(1 << power for power in range(13))
"""Upper edges (inclusive) of the batch size histogram: 1 to 4096 rows; one more bucket lies above."""
