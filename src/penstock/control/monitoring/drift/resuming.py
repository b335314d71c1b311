"""Makes a monitor that continues with the evidence of another process or gateway."""

from collections.abc import Mapping
from typing import Any

from penstock.core.policies import MonitorPolicy
from penstock.core.statistics.seasons import HOUR_S
from penstock.monitor.reference import Reference
from penstock.monitor.rows import RegionCounts
from penstock.monitor.verdicts import VersionMonitor


def resume_monitor(
    reference: Reference, policy: MonitorPolicy, counted: RegionCounts, now: float, evidence: Mapping[str, Any] | None
) -> VersionMonitor:
    """Return a monitor with stored evidence (see ``VersionMonitor.export_state``), None for none.

    The monitor has yet to look at the counts since then. It skips them if counting has restarted, or if they belong to
    other hours than the present one and the reference distinguishes hours.
    """
    before = (RegionCounts.of(reference, (), policy.slices), now) if evidence is None else None
    if evidence is not None:
        before = VersionMonitor.saved_counts(reference, evidence, policy.slices)
    if before is None or not counted.covers(before[0]) or _out_of_season(reference, before[1], now):
        before = counted, now
    monitor = VersionMonitor(reference, policy, *before)
    if evidence is not None:
        monitor.restore_state(evidence)
    return monitor


def _out_of_season(reference: Reference, since: float, now: float) -> bool:
    """Return whether rows since a time (seconds since the epoch) belong to other hours than the present one, and the
    reference distinguishes hours."""
    return bool(reference.hours) and now - since > HOUR_S / 4
