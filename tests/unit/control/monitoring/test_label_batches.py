"""Labelled rows on their way to the gateway that leads: written once, in order, and not without end."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.control.monitoring import label_batches
from penstock.control.monitoring.label_batches import LabelBatches, pack_rows, unpack_rows
from penstock.monitor.answers import CLASS, SCORES
from penstock.monitor.feedback import LabelledRow

finite = st.floats(allow_nan=False, width=64)
rows = st.builds(
    LabelledRow,
    st.just("1"),
    st.integers(0, 2),
    finite,
    st.tuples(*[st.floats(allow_nan=False, width=32)] * SCORES),
    finite,
    finite,
    finite,
    st.booleans(),
)


@given(st.lists(rows, max_size=5))
def test_rows_come_back_as_they_were_joined(joined: list[LabelledRow]) -> None:
    assert unpack_rows("1", pack_rows(joined)) == joined


def row(version: str, label: float = 1.0) -> LabelledRow:
    return LabelledRow(version, CLASS, 1.0, (), label, 5.0)


def test_batches_are_the_same_until_they_are_written() -> None:
    waiting = LabelBatches("a")
    waiting.add("m", [row("1"), row("2"), row("1", 0.0)])
    first = waiting.batches()
    waiting.add("m", [row("1")])
    assert waiting.batches() == first
    assert [(item.model, item.version, item.number, item.gateway) for item in first] == [
        ("m", "1", 2, "a"),
        ("m", "2", 1, "a"),
    ]
    waiting.forget_current()
    assert [batch.number for batch in waiting.batches()] == [1]
    waiting.forget_current()
    assert waiting.batches() == ()


def test_missing_scores_are_none() -> None:
    found = unpack_rows("1", pack_rows([row("1")]))[0]
    assert all(math.isnan(score) for score in found.scores)


def test_of_too_many_rows_the_oldest_are_given_up_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_batches, "MOST_WAITING", 20)
    waiting = LabelBatches("a")
    waiting.add("m", [row("1", float(number)) for number in range(20 + 3)])
    assert waiting.given_up == {"m": 3}
    (batch,) = waiting.batches()
    assert unpack_rows("1", batch.rows)[0].label == 3.0
