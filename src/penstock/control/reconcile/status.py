"""Derives the status of versions, models and the gateway from the workers' reports."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from operator import is_not

from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.errors import Fault, InvalidInput, OverBudget
from penstock.core.versions import sort_key


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether the gateway is ready, and why.

    ``versions`` counts the desired versions by state; ``reason`` says why the gateway is not ready ("" = it is).
    """

    ready: bool
    workers_ready: int
    workers: int
    versions: Mapping[str, int]
    reason: str = ""


class GatewayPhase(Enum):
    """The phase of a gateway; it never goes back."""

    STARTING = auto()
    SERVING = auto()
    DRAINING = auto()


def needed_workers(ready_workers: int | None, configured: int, begun: bool) -> int:
    """How many workers must be ready for the gateway to be.

    ``ready_workers`` is the setting. None: all until the gateway has begun to serve, one from then on, so that a
    worker that keeps crashing does not take the others out of the load balancer.
    """
    if ready_workers is not None:
        return min(ready_workers, configured)
    return 1 if begun else configured


def find_readiness(
    worker_ready: Sequence[bool], statuses: Iterable[VersionStatus], needed: int, draining: bool, waiting: str = ""
) -> Readiness:
    """Ready while ``needed`` workers are, the gateway is not stopping, and a desired state exists (else ``waiting``
    says why not).

    A worker is ready once it has applied the desired state it started with. So versions that are loaded later,
    beside those that answer, do not make the gateway unready.
    """
    states = Counter(status.state.value for status in statuses)
    reason = waiting
    if draining:
        reason = "the gateway is stopping"
    elif not waiting and sum(worker_ready) < max(1, needed):
        reason = f"{sum(worker_ready)} of {len(worker_ready)} workers are ready"
    return Readiness(not reason, sum(worker_ready), len(worker_ready), dict(states), reason)


def find_statuses(desired: Desired, reports: Mapping[int, WorkerReport], workers: int) -> list[VersionStatus]:
    """The status of every known version of every model, over all workers."""
    return [status for model in desired.models for status in model_statuses(model, reports, workers)]


class StatusCache:
    """Remembers the last statuses: they are computed again only if the desired state, a report's versions or the number
    of workers is another one. All three are replaced, never changed. Of one thread."""

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._statuses: list[VersionStatus] = []

    def statuses(self, desired: Desired, reports: Mapping[int, WorkerReport], workers: int) -> list[VersionStatus]:
        """The same as the function ``find_statuses``, as a list of the caller's own."""
        of = (desired, workers, *(report.versions for report in reports.values()))
        if len(of) != len(self._of) or any(map(is_not, of, self._of)):
            self._of, self._statuses = of, find_statuses(desired, reports, workers)
        return self._statuses.copy()


def known_versions(desired: Desired, reports: Iterable[WorkerReport]) -> set[tuple[str, str]]:
    """Model and version of everything that is desired or that a worker still has."""
    wanted = {(model.name, item.version) for model in desired.models for item in model.versions}
    unavailable = {(model.name, version) for model in desired.models for version in model.unavailable}
    return wanted | unavailable | {key for report in reports for key in report.versions}


def model_statuses(model: ModelSpec, reports: Mapping[int, WorkerReport], workers: int) -> list[VersionStatus]:
    """The status of every known version of a model, oldest version first; the version is "" for a model without."""
    statuses = [
        VersionStatus(model.name, version, ReadyState.UNAVAILABLE, why) for version, why in model.unavailable.items()
    ]
    served = [version_status(model.name, spec, reports, workers) for spec in model.versions]
    return sorted(statuses + served, key=lambda status: sort_key(status.version))


def version_status(model: str, spec: VersionSpec, reports: Mapping[int, WorkerReport], workers: int) -> VersionStatus:
    """The status of one version over all workers: that of the worker in the worst state."""
    reported = [report.versions.get((model, spec.version)) for report in reports.values()]
    present = [status for status in reported if status is not None]
    reason, detail = next(((status.reason, status.detail) for status in present if status.reason), ("", ""))
    state = ReadyState.READY
    if any(status.state is ReadyState.UNAVAILABLE for status in present):
        state = ReadyState.UNAVAILABLE
    elif len(present) < workers or any(status.state is not ReadyState.READY for status in present):
        state = ReadyState.LOADING
    return VersionStatus(model, spec.version, state, reason, spec.tag, detail)


def load_results(model: ModelSpec, reports: Mapping[int, WorkerReport], workers: int) -> dict[str, str] | None:
    """The result of loading this content of a model: the reason of each version that failed; None while it goes on."""
    failed: dict[str, str] = dict(model.unavailable) if not model.versions else {}
    for spec in model.versions:
        reported = [report.versions.get((model.name, spec.version)) for report in reports.values()]
        done = [item for item in reported if item and item.tag == spec.tag and item.state is not ReadyState.LOADING]
        if len(done) < workers:
            return None
        if reason := next((item.reason for item in done if item.reason), ""):
            failed[spec.version] = reason
    return failed


def load_fault(model: ModelSpec, failed: Mapping[str, str]) -> Fault:
    """The error of a load request whose versions failed, each with its reason."""
    sentence = "; ".join(explain_refusal(model.name, version, why) for version, why in failed.items())
    return OverBudget(sentence) if failed.keys() <= set(model.exhausted) else InvalidInput(sentence)


def explain_refusal(model: str, version: str, why: str) -> str:
    """The sentence for a version (or, "", a model) that cannot be served."""
    subject = f"model '{model}' version '{version}'" if version else f"model '{model}'"
    return f"{subject} cannot be served: {why}"


def version_tried(model: str, spec: VersionSpec, reports: Mapping[int, WorkerReport], workers: int) -> bool:
    """Whether every worker has loaded this content, or found that it cannot."""
    reported = [report.versions.get((model, spec.version)) for report in reports.values()]
    return (
        sum(item is not None and item.tag == spec.tag and item.state is not ReadyState.LOADING for item in reported)
        >= workers
    )


def is_released(model: str, reports: Iterable[WorkerReport]) -> bool:
    """Whether no connected worker still holds the memory of an unloaded version of a model."""
    return all(model not in report.closing for report in reports)


def is_applied(desired: Desired, reports: Iterable[WorkerReport]) -> bool:
    """Whether every connected worker has applied this desired state."""
    return all(report.applied >= desired.revision for report in reports)
