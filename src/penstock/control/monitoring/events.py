"""Builds the events on a version's reference, drift and performance; ``now`` is seconds since the epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.control.monitoring.drift.sentences import describe_change
from penstock.core.versions import VersionKey
from penstock.monitor.drift_changes import DRIFT, QUALITY, SLICE, DriftChange
from penstock.monitor.performance import PerformanceChange
from penstock.registry.records import Author
from penstock.registry.stores.traffic import TrialEvent

_DRIFT_TYPES = {
    (DRIFT, True): "drift.detected.v1",
    (DRIFT, False): "drift.cleared.v1",
    (SLICE, True): "drift.detected.v1",
    (SLICE, False): "drift.cleared.v1",
    (QUALITY, True): "quality.violated.v1",
    (QUALITY, False): "quality.restored.v1",
}
_PERFORMANCE_TYPES = {True: "performance.degraded.v1", False: "performance.recovered.v1"}


def drift_event(
    key: VersionKey, change: DriftChange, columns: Sequence[str], digest: str | None, budget: float, now: float
) -> TrialEvent:
    """The event of a drift change. ``columns`` are all affected columns after it, ``digest`` is that of the reference,
    ``budget`` the rows between false alarms."""
    about = {"reference": digest, "rows_between_false_alarms": budget}
    details = {**about, "columns": columns, "message": describe_change(change, columns), **change.evidence}
    return _make_event(key, _DRIFT_TYPES[change.about, change.begins], change.feature, details, now)


def performance_event(key: VersionKey, change: PerformanceChange, budget: float, now: float) -> TrialEvent:
    """The event of a performance change; ``budget`` is the labels between false alarms."""
    details = {"what": change.what, "labels_between_false_alarms": budget, **change.evidence}
    return _make_event(key, _PERFORMANCE_TYPES[change.begins], change.what, details, now)


def relearned_event(key: VersionKey, digest: str | None, by: Author, now: float) -> TrialEvent:
    """The event of a dropped reference, which had this digest and is learned again."""
    model, version = key
    data = {"model": model, "version": version, "actor": by.actor, "reason": by.reason, "reference": digest or ""}
    return TrialEvent("reference.relearned.v1", f"models/{model}/versions/{version}", f"{now:.3f}", data)


def _make_event(key: VersionKey, kind: str, name: str, details: Mapping[str, Any], now: float) -> TrialEvent:
    model, version = key
    data = {"model": model, "version": version, **details}
    return TrialEvent(kind, f"models/{model}/versions/{version}", f"{name} {now:.0f}", data)
