"""Whether a version meets its objectives for latency and errors, from the counts of requests."""

from collections.abc import Mapping
from typing import Any

SERVER_FAILURES = frozenset({"internal", "damaged", "not_ready", "overloaded", "over_budget", "deadline"})
"""Outcomes that the server is responsible for, not the caller."""


def count_answered(outcomes: Mapping[str, int]) -> tuple[int, int]:
    """Return how many requests were answered or failed, and how many failed, without callers' mistakes."""
    failed = sum(outcomes.get(item, 0) for item in SERVER_FAILURES)
    return outcomes.get("ok", 0) + failed, failed


def objectives_document(
    promised: Mapping[str, float], p99_ms: float | None, outcomes: Mapping[str, int]
) -> dict[str, Any]:
    """Return each objective (``latency_p99_ms``, ``error_ratio``) with its measured value (None without requests), and
    whether it is met; ``outcomes`` counts requests by outcome, of which callers' mistakes are ignored.
    """
    number, failed = count_answered(outcomes)
    measured = {
        "latency_p99_ms": p99_ms if number else None,
        "error_ratio": round(failed / number, 6) if number else None,
    }
    document = {}
    for name, objective in promised.items():
        value = measured.get(name)
        document[name] = {"objective": objective, "value": value, "met": None if value is None else value <= objective}
    return document
