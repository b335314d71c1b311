"""A simulated gateway's monitor: the policy, which versions' rows drift, and what all gateways have counted."""

from collections.abc import Callable, Set
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from penstock.control.monitoring.fleet_evidence import FleetEvidence, Run
from penstock.control.monitoring.publication import CountsLayout, VersionCounts
from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.policies import MonitorPolicy, parse_policy
from penstock.core.versions import VersionKey
from penstock.monitor.counters.totals import Totals
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.performance import PerformanceChange
from penstock.monitor.reference import Reference
from penstock.monitor.shown_columns import ALL_COLUMNS, ShownColumns
from penstock.monitor.verdicts import VersionMonitor
from penstock.registry.records import Document
from penstock.registry.stores.evidence import EvidenceStore
from penstock.registry.stores.traffic import TrialEvent
from tests.simulation.fleet import SimFleet

SINK = "train"
BUDGET = 2
"""Requests for retraining that rules of one model may make in a day, which no run is longer than."""

APPROVED = "b"
"""The model whose candidates a person has to approve."""

ROLLOUT: Document = {
    "steps": [3000, 10_000],
    "min_step_seconds": 1,
    "guards": [{"metric": "error_ratio", "max": 0.2}],
    "hold_back": 500,
}

_TRIGGERS: list[Document] = [
    {"name": "drift", "when": {"drift": {}}, "for_seconds": 1, "cooldown_seconds": 5, "send": [SINK]},
    {
        "name": "wrong",
        "when": {"performance": {"metric": "accuracy", "below": 0.6, "min_labels": 20}},
        "cooldown_seconds": 5,
        "send": [SINK],
    },
]


@cache
def policy_of(model: str) -> MonitorPolicy:
    """A model's policy."""
    retraining = {
        "budget_per_day": BUDGET,
        "timeout_seconds": 20,
        "escalate_after": 2,
        "auto_rollout": ROLLOUT,
        "approval": model == APPROVED,
        "gates": {"beats": {"metric": "accuracy", "by": 0.0}},
    }
    sinks = {SINK: {"webhook": {"url": "http://sink.invalid/"}}}
    return parse_policy({"sinks": sinks, "triggers": _TRIGGERS, "retraining": retraining}, parse_schedule)


class Monitoring:
    """One gateway's; ``drifting`` are the versions that rows have drifted away from, whoever answers them."""

    def __init__(
        self, store: EvidenceStore, gateway: str, fleet: SimFleet, drifting: Set[VersionKey], run: Run, notes: Path
    ) -> None:
        self._fleet = fleet
        self._drifting = drifting
        self._wall: Callable[[], float] = store.now
        self.evidence = FleetEvidence(store, gateway, self, run, notes)

    # What the evidence asks.

    def own_counts(self) -> dict[VersionKey, VersionCounts]:
        """See ``Watched``: requests alone, as no version has a reference."""
        workers = self._fleet.workers
        keys = [(model.name, version.version) for model in self._fleet.desired.models for version in model.versions]
        nothing = np.zeros(0, np.uint64)
        return {
            key: VersionCounts(CountsLayout(), nothing, 0, Totals.of([workers.slot], workers.block(key)).cells)
            for key in keys
        }

    def terms(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """See ``Watched``."""
        return None, policy_of(key[0])

    def event_of(self, key: VersionKey, change: DriftChange, monitor: VersionMonitor) -> TrialEvent:
        """See ``Watched``; there is no reference to drift from."""
        raise NotImplementedError

    def performance_event_of(self, key: VersionKey, change: PerformanceChange) -> TrialEvent:
        """See ``Watched``."""
        reported = "degraded" if change.begins else "recovered"
        return TrialEvent(f"performance.{reported}.v1", f"models/{key[0]}/versions/{key[1]}", f"{self._wall():.0f}", {})

    def document_of(
        self,
        key: VersionKey,
        monitor: VersionMonitor | None,
        totals: Totals,
        performance: Document | None = None,
        shown: ShownColumns = ALL_COLUMNS,
    ) -> Document:
        """See ``Watched``."""
        return {"answered": requests_of(totals), "performance": performance}

    # What rules ask.

    def policy_of(self, model: str) -> MonitorPolicy:
        """A model's policy."""
        return policy_of(model)

    def feature_names(self, key: VersionKey) -> tuple[str, ...]:
        """What a version's features are called."""
        return ("x",)

    @property
    def can_judge(self) -> bool:
        """Whether what it says rests on the counts of all gateways."""
        return self.evidence.is_known

    def describe(self, model: str, version: str) -> dict[str, Any]:
        """What it says of a version; whether rows drift is not counted in the simulation, but known."""
        key = (model, version)
        state, psi = ("drift", 1.0) if key in self._drifting else ("stable", 0.0)
        column = {"name": "x", "state": state, "psi": psi}
        return {**(self.evidence.describe(key) or {}), "features": [column], "outputs": []}


def requests_of(totals: Totals) -> int:
    """All requests that were counted."""
    return sum(count for *_, count in totals.requests())
