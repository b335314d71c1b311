"""Follows the importance of features: takes the attributions of live rows that workers send, and judges their drift.

It rests on the rows of this gateway. The bins and the evidence outlive the process.
"""

import json
import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from penstock.control.monitoring.events import drift_event
from penstock.control.monitoring.terms import WatchTerms
from penstock.control.workers.protocol import Message, decode_rows
from penstock.core.versions import VersionKey
from penstock.engine.durable_files import write_atomically
from penstock.monitor.attributions import PREFIX, AttributionMonitor, AttributionSource
from penstock.monitor.drift_changes import DriftChange
from penstock.registry.records import Document
from penstock.registry.stores.traffic import TrialEvent
from penstock.telemetry import explanation_metrics, metrics
from penstock.telemetry.readings import Point, Reading

log = logging.getLogger("penstock.control")

KEEP_S: Final = 10.0
"""The state is written at this interval, and at every change."""

MOST_MEASURED: Final = 64
"""The most features of a version with metrics, the most important first; the admin API has all."""

OFF: Final = "set 'monitor.explained_rows_per_second' in the policy of the model to have live rows explained"
NO_REFERENCE: Final = "the version has no reference yet, with whose rows live ones are compared"
NO_ROWS: Final = "no rows are explained yet; a worker explains eight together, and none where the policy masks inputs"


class AttributionDrift:
    """The attributions of all versions, for one event loop. ``correlation`` is the autocorrelation of a version's rows,
    ``clock`` gives seconds since the epoch."""

    def __init__(
        self,
        terms: WatchTerms,
        correlation: Callable[[VersionKey], float],
        file: Path,
        clock: Callable[[], float],
    ) -> None:
        self._terms = terms
        self._correlation = correlation
        self._file = file
        self._clock = clock
        self._problems: dict[VersionKey, str] = {}
        self._monitors: dict[VersionKey, AttributionMonitor] = self._read()
        self._kept_at = 0.0

    def take(self, message: Message) -> None:
        """Take a worker's message: attributions against the present reference, or why there are none."""
        key = message["model"], message["version"]
        is_present = self._terms.references.digest(key) == message["digest"]
        if not is_present or not self._terms.policies.of(key[0]).explained_rate:
            return
        self._problems[key] = message["problem"]
        if message["problem"]:
            return
        texts = {name: message[name] for name in ("digest", "output", "method", "scale")}
        source = AttributionSource(features=tuple(message["features"]), **texts)
        monitor = self._monitors.get(key)
        if monitor is None or monitor.source != source:
            monitor = self._monitors[key] = AttributionMonitor(source, self._clock())
        monitor.take(decode_rows(message["sizes"]).numbers)

    def evaluate(self) -> list[tuple[str, TrialEvent]]:
        """Evaluate the rows since the last look, and return the events of changes with their models."""
        now, events = self._clock(), list[tuple[str, TrialEvent]]()
        self._retain(self._terms.served())
        for key, monitor in self._monitors.items():
            _, policy = self._terms.of_gateway(key)
            changes = monitor.evaluate(policy, self._correlation(key), now)
            events += [(key[0], self._event_of(key, change, monitor, policy.budget, now)) for change in changes]
        if events or now - self._kept_at >= KEEP_S:
            self._kept_at = now
            self.write()
        return events

    def _retain(self, served: Collection[VersionKey]) -> None:
        """Forget versions that are not served, have another reference, or are no longer explained."""
        if not served:  # before the first desired state
            return
        for key in [*self._monitors]:
            is_other = self._terms.references.digest(key) not in (None, self._monitors[key].source.digest)
            if key not in served or is_other or not self._terms.policies.of(key[0]).explained_rate:
                del self._monitors[key]
        self._problems = {key: problem for key, problem in self._problems.items() if key in served}

    def _event_of(
        self, key: VersionKey, change: DriftChange, monitor: AttributionMonitor, budget: float, now: float
    ) -> TrialEvent:
        event = drift_event(key, change, monitor.drifting(), monitor.source.digest, budget, now)
        log.warning("model %s version %s: %s", *key, event.data["message"])
        return event

    def document(self, key: VersionKey) -> Document:
        """Return the importance of a version's features, or the ``problem`` for which it is not known."""
        _, policy = self._terms.of_gateway(key)
        if not policy.explained_rate:
            return {"problem": OFF, "features": []}
        monitor, problem = self._monitors.get(key), self._problems.get(key, "")
        if monitor is not None and not problem:
            return monitor.document(policy, self._correlation(key))
        if not problem:
            problem = NO_ROWS if self._terms.references.digest(key) else NO_REFERENCE
        return {"problem": problem, "features": []}

    def add_to(self, document: Document, key: VersionKey) -> Document:
        """Return the monitor document of a version with its importance, and with the tests of attributions among all;
        the same where no live rows are explained."""
        if not self._terms.policies.of(key[0]).explained_rate:
            return document
        importance = self.document(key)
        whole = {**document, "importance": importance}
        if "multiplicity" in document:
            tests = {**document["multiplicity"]["tests"], "attributions": importance.get("tests", 0)}
            whole["multiplicity"] = {**document["multiplicity"], "tests": tests}
        return whole

    def column(self, key: VersionKey, name: str) -> Document | None:
        """Return one column of a version's attributions, None for an unknown name."""
        monitor, (_, policy) = self._monitors.get(key), self._terms.of_gateway(key)
        return None if monitor is None else monitor.column(name, policy, self._correlation(key))

    def readings(self, served: Collection[VersionKey]) -> Iterator[Reading]:
        """Yield the metrics: the importance and state of features, the rows and the alarms."""
        for key, monitor in self._monitors.items():
            if key in served:
                yield Point(explanation_metrics.EXPLAINED_ROWS, key, monitor.rows)
                yield from _feature_readings(key, monitor)

    def write(self) -> None:
        """Write the state, for the next process; a failed write is ignored."""
        states = [(key, monitor.export_state()) for key, monitor in self._monitors.items()]
        values = [[*key, state] for key, state in states if state is not None]
        if values or self._file.exists():
            with suppress(OSError):
                write_atomically(self._file, json.dumps(values))

    def _read(self) -> dict[VersionKey, AttributionMonitor]:
        """Return the stored monitors, none if they cannot be read."""
        try:
            stored, now = json.loads(self._file.read_text()), self._clock()
            return {(model, version): AttributionMonitor.restored(saved, now) for model, version, saved in stored}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _feature_readings(key: VersionKey, monitor: AttributionMonitor) -> Iterator[Reading]:
    importances, states, evidence = monitor.importances().tolist(), monitor.states(), monitor.evidence()
    order = sorted(range(len(importances)), key=lambda index: -importances[index])
    for index in order[:MOST_MEASURED]:
        name = monitor.source.features[index]
        yield Point(explanation_metrics.FEATURE_IMPORTANCE, (*key, name), importances[index])
        if states:
            yield Point(metrics.DRIFT_STATE, (*key, PREFIX + name), states[index])
            yield Point(metrics.DRIFT_LOG_EVIDENCE, (*key, PREFIX + name), evidence[index])
