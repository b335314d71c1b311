"""Promises of a policy against what was counted."""

from typing import Any

import pytest

from penstock.core.errors import KINDS
from penstock.core.objectives import SERVER_FAILURES, count_answered, objectives_document

PROMISED = {"latency_p99_ms": 20, "error_ratio": 0.01}


@pytest.mark.parametrize(
    ("p99", "outcomes", "met"),
    [
        (5.0, {"ok": 1000}, (True, True)),
        (20.0, {"ok": 990, "internal": 10}, (True, True)),
        (20.1, {"ok": 989, "internal": 6, "deadline": 5}, (False, False)),
        (5.0, {"ok": 100, "invalid": 900}, (True, True)),  # callers' mistakes break no promise
        (None, {}, (None, None)),
        (5.0, {"invalid": 3}, (None, None)),
    ],
)
def test_what_is_kept(p99: float | None, outcomes: dict[str, int], met: tuple[Any, Any]) -> None:
    document = objectives_document(PROMISED, p99, outcomes)
    assert (document["latency_p99_ms"]["met"], document["error_ratio"]["met"]) == met
    assert document["latency_p99_ms"]["objective"] == 20


@pytest.mark.parametrize(
    ("outcomes", "found"),
    [({}, (0, 0)), ({"ok": 9, "internal": 1, "deadline": 2, "invalid": 50}, (12, 3)), ({"invalid": 3}, (0, 0))],
)
def test_what_was_answered_and_what_failed(outcomes: dict[str, int], found: tuple[int, int]) -> None:
    assert count_answered(outcomes) == found


def test_nothing_promised_is_nothing_reported() -> None:
    assert objectives_document({}, 5.0, {"ok": 1}) == {}


def test_whose_fault_an_outcome_is() -> None:
    assert {kind.kind for kind in KINDS} > SERVER_FAILURES
