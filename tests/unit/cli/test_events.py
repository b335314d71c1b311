"""What `penstock events` says of each event."""

from typing import Any

import pytest

from penstock.cli.events import _make_cells


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"reason": "freeze"}, "freeze"),
        (
            {"message": "income drifts from its reference since 2026-11-28T23:30:54Z"},
            "income drifts from its reference since 2026-11-28T23:30:54Z",
        ),
        ({"reason": "", "message": "gap changed"}, "gap changed"),
        ({}, ""),
    ],
)
def test_each_says_why_or_what_was_found(data: dict[str, Any], said: str) -> None:
    event = {
        "sequence": 1,
        "time": "2026-11-28T23:30:54.000+00:00",
        "type": "io.penstock.a.v1",
        "subject": "s",
        "data": data,
    }
    assert _make_cells(event)[-1] == said
