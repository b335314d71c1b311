"""The terms of each version: its reference, and its policy within the fleet's bound of false alarms."""

from dataclasses import replace

from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.references import References
from penstock.control.monitoring.workers import MonitoredWorkers
from penstock.core.frames.terms import ExtraColumns, RowTerms, names_in_order
from penstock.core.policies import FleetAlarms, MonitorPolicy, ReferenceColumns
from penstock.core.versions import VersionKey
from penstock.monitor.columns import header_names
from penstock.monitor.reference import Reference
from penstock.registry.records import Document


class WatchTerms:
    """The terms of the versions that a gateway serves; ``alarms`` is the fleet's bound, and ``extra_columns`` says what
    becomes of columns of rows that a model does not take."""

    def __init__(
        self,
        workers: MonitoredWorkers,
        references: References,
        policies: Policies,
        alarms: FleetAlarms,
        extra_columns: ExtraColumns = "refuse",
    ) -> None:
        self.references = references
        self.policies = policies
        self._workers = workers
        self._alarms = alarms
        self._extra_columns = extra_columns

    def served(self) -> list[VersionKey]:
        """Return the versions that the gateway serves."""
        return [(model.name, version.version) for model in self._workers.desired.models for version in model.versions]

    def of_gateway(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """Return a version's terms for verdicts on the counts of this gateway."""
        return self.references.get(key), self._alarms.share_of(self.policies.of(key[0]), len(self.served()))

    def of_fleet(self, key: VersionKey) -> tuple[Reference | None, MonitorPolicy]:
        """Return a version's terms for verdicts on the counts of all gateways."""
        alarms = replace(self._alarms, gateways=1)
        return self.references.get(key), alarms.share_of(self.policies.of(key[0]), len(self.served()))

    def multiplicity(self) -> Document:
        """Return the fleet's bound as JSON values."""
        return self._alarms.to_api(len(self.served()))

    def capture_bytes(self) -> int:
        """Return the limit of captured requests in bytes: the largest limit of the served models."""
        wanted = [self.policies.of(model.name).capture_bytes for model in self._workers.desired.models]
        return max(wanted, default=MonitorPolicy().capture_bytes)

    def feature_names(self, key: VersionKey) -> tuple[str, ...]:
        """Return the feature names of a version in the order of its input, from its graph, its model card, or its
        reference; a card may have them in any order."""
        return names_in_order(tuple(self._workers.feature_names(*key)), self._reference_names(key))

    def row_terms(self, key: VersionKey, stated: RowTerms) -> RowTerms:
        """Return what a version says about its rows, with the names of its features in the order of its reference."""
        return replace(stated, names=self._in_order(key, stated.names), extra_columns=self._extra_columns)

    def column_names(self, model: str, version: str) -> tuple[str, ...]:
        """Return the names of a version's columns in the order of its input, () if nobody has named them."""
        return self._in_order((model, version), tuple(self._workers.feature_names(model, version)))

    def _in_order(self, key: VersionKey, stated: tuple[str, ...]) -> tuple[str, ...]:
        return names_in_order(stated, header_names(self._reference_names(key)))

    def _reference_names(self, key: VersionKey) -> tuple[str, ...]:
        reference = self.references.get(key)
        return () if reference is None else tuple(item.bins.name for item in reference.inputs)

    def columns(self, model: str) -> ReferenceColumns | None:
        """Return what the references of a model's versions have; None while a version has no reference."""
        references = [self.references.get(key) for key in self.served() if key[0] == model]
        available = [reference for reference in references if reference is not None]
        if not available or len(available) < len(references):
            return None
        parts = {"features": "inputs", "outputs": "outputs", "any": "features"}
        counts = {scope: max(len(getattr(item, part)) for item in available) for scope, part in parts.items()}
        return ReferenceColumns(counts, frozenset(one.key for item in available for one in item.slices))
