"""What is told of a version's reference, drift and performance: pure functions; ``now`` is seconds since the epoch."""

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.control.monitoring.drift.sentences import sentence
from penstock.core.versions import VersionKey
from penstock.monitor.drift_changes import DRIFT, QUALITY, SLICE, DriftChange
from penstock.monitor.performance import PerformanceChange
from penstock.registry.records import By
from penstock.registry.stores.traffic import Event

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
) -> Event:
    """A change of drift; ``columns`` are all that are affected after it, ``digest`` is the reference's, ``budget`` the
    rows between false alarms."""
    about = {"reference": digest, "rows_between_false_alarms": budget}
    told = {**about, "columns": columns, "message": sentence(change, columns), **change.evidence}
    return _event(key, _DRIFT_TYPES[change.about, change.begins], change.feature, told, now)


def performance_event(key: VersionKey, change: PerformanceChange, budget: float, now: float) -> Event:
    """A change that labels show; ``budget`` is the labels between false alarms."""
    told = {"what": change.what, "labels_between_false_alarms": budget, **change.evidence}
    return _event(key, _PERFORMANCE_TYPES[change.begins], change.what, told, now)


def relearned_event(key: VersionKey, digest: str | None, by: By, now: float) -> Event:
    """A reference, which had this digest, was taken away to be learned anew."""
    model, version = key
    data = {"model": model, "version": version, "actor": by.actor, "reason": by.reason, "reference": digest or ""}
    return Event("reference.relearned.v1", f"models/{model}/versions/{version}", f"{now:.3f}", data)


def _event(key: VersionKey, kind: str, name: str, told: Mapping[str, Any], now: float) -> Event:
    model, version = key
    data = {"model": model, "version": version, **told}
    return Event(kind, f"models/{model}/versions/{version}", f"{name} {now:.0f}", data)
