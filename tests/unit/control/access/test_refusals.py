"""Refusals of all ports are one metric: those of the ops port and of the workers add up, by reason."""

from penstock.control.access.refusals import RefusalCounts
from penstock.core.access.refusals import RefusalReason
from penstock.telemetry.metrics import AUTH_REFUSED, AUTH_WOULD_REFUSE
from penstock.telemetry.readings import Point


def test_refusals_of_all_ports_add_up() -> None:
    counts = RefusalCounts()
    counts.count_auth_refusal(RefusalReason.EXPIRED, dry_run=False)
    counts.count_auth_refusal(RefusalReason.EXPIRED, dry_run=True)
    counts.add_source(lambda: {(RefusalReason.EXPIRED, False): 4, (RefusalReason.MALFORMED, False): 1})
    readings = [item for item in counts.readings() if isinstance(item, Point)]
    assert len(readings) == 2 * len(RefusalReason)
    assert {(item.metric, *item.labels): item.value for item in readings if item.value} == {
        (AUTH_REFUSED, "expired"): 5,
        (AUTH_REFUSED, "malformed"): 1,
        (AUTH_WOULD_REFUSE, "expired"): 1,
    }
