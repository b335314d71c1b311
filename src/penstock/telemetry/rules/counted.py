"""Which requests count for an objective: answers, and failures that the server is responsible for."""

from penstock.core.labels import GRPC_STATUS, HTTP_STATUS, MARKED_ROUTES
from penstock.core.objectives import SERVER_FAILURES
from penstock.telemetry import metrics
from penstock.telemetry.promql import none_of, one_of, select

FAILURE_CODES = frozenset(
    code for outcome in SERVER_FAILURES for code in (str(HTTP_STATUS[outcome]), GRPC_STATUS[outcome])
)
"""Codes that count as failures. A message over the size limit is the caller's mistake, but gRPC gives it the same code
as an overload, RESOURCE_EXHAUSTED: it counts as a failure there."""

LIVE = none_of("route", MARKED_ROUTES)
"""The matcher of live traffic: requests that are marked as batch or replay keep no objective and page nobody."""

ANSWER_CODES = frozenset({str(HTTP_STATUS["ok"]), GRPC_STATUS["ok"]})

COUNTED = (
    "5xx but 501, 429, and INTERNAL, DATA_LOSS, UNAVAILABLE, RESOURCE_EXHAUSTED and DEADLINE_EXCEEDED of gRPC count as "
    "failures; other mistakes of callers are left out."
)
"""What the codes mean, for descriptions."""

GUARD = 100
"""Fewer requests in a window say nothing: one failure would be a large share."""


def select_failures(*matchers: str, window: str) -> str:
    """Return the selector of failed requests over a window."""
    return select(metrics.REQUESTS, *matchers, LIVE, one_of("code", FAILURE_CODES), window=window)


def counted_requests(*matchers: str, window: str) -> str:
    """Return the selector of requests that were answered or failed, over a window."""
    return select(metrics.REQUESTS, *matchers, LIVE, one_of("code", FAILURE_CODES | ANSWER_CODES), window=window)
