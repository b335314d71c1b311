"""Adds to the desired state how the workers watch each version, and what it says about its rows."""

from dataclasses import replace
from pathlib import Path

from penstock.control.monitoring.drift.detection import DriftDetection
from penstock.control.monitoring.drift.regions import CounterRegion, CounterRegions
from penstock.control.monitoring.references.files import ReferenceFiles
from penstock.control.monitoring.references.learning import ReferenceLearning, learn_spec
from penstock.control.monitoring.terms import WatchTerms
from penstock.control.monitoring.workers import MonitoredWorkers
from penstock.core.desired import Desired, VersionSpec, WatchSpec
from penstock.core.policies import MonitorPolicy
from penstock.core.versions import VersionKey
from penstock.monitor.answer_segments import ANSWERS
from penstock.monitor.capture import CAPTURES
from penstock.monitor.reference import Reference
from penstock.monitor.rows import RegionLayout


class WatchSpecs:
    """Builds watch specs. Answers and captures are below ``home``; the first spec of a version assigns its region."""

    def __init__(
        self,
        workers: MonitoredWorkers,
        terms: WatchTerms,
        regions: CounterRegions,
        detection: DriftDetection,
        learning: ReferenceLearning,
        files: ReferenceFiles,
        home: Path,
    ) -> None:
        self._workers = workers
        self._terms = terms
        self._regions = regions
        self._detection = detection
        self._learning = learning
        self._files = files
        self._home = home

    def decorate(self, desired: Desired) -> Desired:
        """Return the desired state with the watch of each version."""
        models = tuple(
            replace(model, versions=tuple(self._with_watch(model.name, spec) for spec in model.versions))
            for model in desired.models
        )
        return replace(desired, models=models)

    def _with_watch(self, model: str, spec: VersionSpec) -> VersionSpec:
        key, policy = (model, spec.version), self._terms.policies.of(model)
        latency_ns = int(policy.objectives.get("latency_p99_ms", 0) * 1e6)
        terms, watch = self._terms.row_terms(key, spec.row_terms), self._storage(key, policy)
        return replace(spec, latency_ns=latency_ns, watch=self._with_region(key, policy, watch), row_terms=terms)

    def _storage(self, key: VersionKey, policy: MonitorPolicy) -> WatchSpec:
        """Return the spec of a version's stored requests and answers."""
        return WatchSpec(
            sample=policy.sample,
            names=self._terms.feature_names(key),
            keys=policy.slices,
            answers=str(self._home / ANSWERS) if policy.horizon_s else "",
            captures=str(self._home / CAPTURES) if policy.capture else "",
            capture=policy.capture,
            masked=policy.masked,
            patterns=policy.patterns,
            explained_rate=policy.explained_rate / max(1, self._workers.workers),
        )

    def _with_region(self, key: VersionKey, policy: MonitorPolicy, watch: WatchSpec) -> WatchSpec:
        """Add the region in which rows are counted, or the rows to gather for a reference."""
        if not policy.sample:
            return watch
        reference = self._terms.references.get(key)
        if reference is None:
            is_awaited = self._learning.is_awaited(key)
            return replace(watch, learn=learn_spec(policy, max(1, self._workers.workers), is_awaited))
        region = self._region(key, reference, policy.slices)
        if region is None:
            return watch
        path = str(self._files.path(region.digest))
        return replace(watch, path=path, digest=region.digest, offset=region.offset, size=region.size)

    def _region(self, key: VersionKey, reference: Reference, keys: tuple[str, ...]) -> CounterRegion | None:
        assigned, digest = self._regions.get(key), self._terms.references.digest(key) or ""
        region = self._regions.assign(key, digest, RegionLayout.of(reference, keys).size, keys, self._terms.served())
        if region is not None and region != assigned:
            self._detection.forget(key)
        return region
