"""Callers with a quota are charged for their rows, and for their part of the time of the run that answered them."""

import pytest

from penstock.core.access.table import AccessTable, KeyRecord, Quota
from penstock.monitor.counters.block_writer import NOT_COUNTED
from penstock.monitor.counters.layout import CALLER_MODEL_US, CALLER_ROWS, CALLERS
from penstock.monitor.counters.slot import Slot
from penstock.serving import data_plane
from penstock.serving.access.caller_quota import CallerQuotas
from penstock.serving.infer_call import InferCall
from tests.unit.serving.stubs import Scripted, call_of

SECOND = 1_000_000_000
MS = 1_000_000


class Charged:
    """A worker with one caller who has a quota of rows and of time in the model, and one without."""

    def __init__(self) -> None:
        self.slot, self.version = Slot.in_process(), Scripted()
        quota = Quota(rows=1e6, model_ms=1e6)
        quotas = CallerQuotas(self.slot)
        quotas.use(AccessTable(keys=(KeyRecord("1", "bot", "", ("caller",), quota=quota),)), SECOND)
        found = quotas.find("bot")
        assert found is not None
        self.quota = found

    def call(self, rows: int, *, leased: bool) -> InferCall:
        """A call that took 40 ms in the model."""
        made = call_of(self.version)
        made.rows = made.run_rows = rows
        made.began_ns, made.decoded_ns, made.started_ns, made.ran_ns = SECOND, SECOND, SECOND, SECOND + 40 * MS
        made.lease = self.quota.admit(SECOND, 0) if leased else None
        return made

    def counted(self) -> tuple[int, int]:
        """Rows, and milliseconds in the model."""
        cells = [self.slot.caller(place) for place in range(CALLERS)]
        return sum([one[CALLER_ROWS] for one in cells]), sum([one[CALLER_MODEL_US] for one in cells]) // 1000


def test_a_call_that_ran_alone_is_charged_for_all_of_its_run() -> None:
    charged = Charged()
    data_plane._record_alone(charged.call(3, leased=True), SECOND + 41 * MS)
    data_plane._record_alone(charged.call(5, leased=False), SECOND + 41 * MS)
    assert charged.counted() == (3, 40)


@pytest.mark.parametrize(
    ("leased", "expected"), [((True, False), (1, 10)), ((True, True), (4, 40)), ((False, False), (0, 0))]
)
def test_calls_that_shared_a_run_are_charged_for_their_rows_of_it(
    leased: tuple[bool, bool], expected: tuple[int, int]
) -> None:
    charged = Charged()
    calls = [charged.call(rows, leased=one) for rows, one in zip((1, 3), leased, strict=True)]
    calls[0].run_rows, calls[1].run_rows = 4, NOT_COUNTED
    data_plane._record_run(calls, SECOND + 41 * MS)
    assert charged.counted() == expected
