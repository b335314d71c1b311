"""Builds the monitor document of a version from its monitor, its requests and its labels; a pure function."""

from collections.abc import Mapping

from penstock.core.objectives import count_answered, objectives_document
from penstock.monitor.counters.totals import Totals
from penstock.monitor.performance import describe_estimate
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document


def version_document(
    monitor: VersionMonitor | None,
    totals: Totals,
    performance: Document,
    objectives: Mapping[str, float],
    fleet: Document,
    shown: ShownColumns = ALL_COLUMNS,
) -> Document:
    """The monitor document of a version. ``performance`` comes from labels, ``objectives`` from its policy; ``fleet``
    is the fleet's bound of false alarms, and ``shown`` says which columns to show."""
    watched: Document = {"reference": None, "features": [], "outputs": []}
    if monitor is not None:
        watched = monitor.document(shown)
        watched["multiplicity"]["fleet"] = fleet
    estimated = None if monitor is None else describe_estimate(monitor.estimate())
    return {
        **watched,
        **_describe_requests(totals, objectives),
        "performance": {**performance, "estimated": estimated},
        "capture": totals.capture(),
        "shadow": _describe_shadow(totals),
    }


def _describe_requests(totals: Totals, objectives: Mapping[str, float]) -> Document:
    outcomes = totals.live_outcomes()
    latency, (number, failed) = totals.quantiles_ms(), count_answered(outcomes)
    slow = totals.slower_than(objectives["latency_p99_ms"]) if "latency_p99_ms" in objectives else 0
    return {
        "latency": {**latency, "stages": totals.stage_quantiles_ms()},
        "slo": objectives_document(objectives, latency["p99"], outcomes),
        "requests": {"answered": number, "failed": failed, "slow": slow},
        "marked_rows": totals.marked_rows(),
    }


def _describe_shadow(totals: Totals) -> Document:
    shadow = totals.shadow()
    counts = {name: int(shadow[name]) for name in ("pairs", "disagreements")}
    return {**counts, "max_abs_diff": shadow["max_abs_diff"]}
