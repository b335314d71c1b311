"""Which requests are kept, and what of them."""

from collections.abc import Sequence

import numpy as np
import pytest

from penstock.core.labels import Route
from penstock.core.tensors import Tensor
from penstock.monitor.capture import AnsweredRequest, CaptureCounters
from penstock.monitor.counters.slot import Slot
from penstock.serving.observers import capture
from penstock.serving.observers.capture import Capture
from penstock.serving.requested_outputs import RequestedOutput
from tests.calls import answered


class Writer:
    def __init__(self) -> None:
        self.seen: list[AnsweredRequest] = []
        self.closed = False

    def write(self, seen: Sequence[AnsweredRequest], _: CaptureCounters) -> None:
        self.seen += seen

    def close(self) -> None:
        self.closed = True


TENSOR = Tensor("y", "FP32", np.ones((1, 2), np.float32))


def test_a_share_is_kept_each_by_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    draws = iter([0.1, 0.5, 0.29, 0.3])
    monkeypatch.setattr(capture, "random", lambda: next(draws))
    writer = Writer()
    kept = Capture(writer, 0.3, Slot.in_process().block(1))  # type: ignore[arg-type]  # as much of one as is asked
    kept.take([answered([TENSOR], f"r{number}", [TENSOR]) for number in range(4)])
    assert [item.id for item in writer.seen] == ["r0", "r2"]
    assert writer.seen[0].route == Route.STABLE.name.lower()
    assert writer.seen[0].inputs == [TENSOR]
    assert writer.seen[0].outputs == [TENSOR]
    kept.close()
    assert writer.closed


def test_outputs_are_kept_as_the_model_gave_them_where_a_caller_asks_for_classes() -> None:
    writer = Writer()
    call = answered([TENSOR], "a", [TENSOR])
    call.requested = [RequestedOutput("y", 3)]
    Capture(writer, 1.0, Slot.in_process().block(1)).take([call])  # type: ignore[arg-type]  # as much of one as is asked
    assert writer.seen[0].outputs == [TENSOR]
