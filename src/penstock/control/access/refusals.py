"""Counts refused requests by reason: those of the ops port, and those that workers report, as one metric."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

from penstock.core.access.refusals import Refusal, RefusalReason
from penstock.telemetry.metrics import AUTH_REFUSED, AUTH_WOULD_REFUSE
from penstock.telemetry.readings import Point, Reading

RefusalKey = tuple[RefusalReason, bool]
"""The reason of a refusal, and whether it was only counted (``auth.dry_run``)."""


class RefusalRecorder(Protocol):
    """Records refused requests in the audit."""

    def count_refusal(self, refusal: Refusal, count: int = 1) -> None:
        """Record refused requests of one kind; never waits or raises."""


class RefusalCounts:
    """The refusals of all ports of a gateway. Belongs to the event loop."""

    def __init__(self) -> None:
        self._counts: Counter[RefusalKey] = Counter()
        self._sources: list[Callable[[], Mapping[RefusalKey, int]]] = []
        self._recorder: RefusalRecorder | None = None

    def count_auth_refusal(self, reason: RefusalReason, dry_run: bool) -> None:
        """Count one refusal of the ops port, or with ``dry_run`` what would be one."""
        self._counts[reason, dry_run] += 1

    def record_with(self, recorder: RefusalRecorder) -> None:
        """Record refusals with this recorder from now on."""
        self._recorder = recorder

    def record_refusal(self, refusal: Refusal) -> None:
        """Record a refused request of the ops port in the audit; never waits or raises."""
        if self._recorder is not None:
            self._recorder.count_refusal(refusal)

    def add_source(self, source: Callable[[], Mapping[RefusalKey, int]]) -> None:
        """Add counts that only grow, such as those of the workers."""
        self._sources.append(source)

    def totals(self) -> Mapping[RefusalKey, int]:
        """Return the refusals of all ports."""
        totals = Counter(self._counts)
        for source in self._sources:
            totals.update(source())
        return totals

    def total(self, reason: RefusalReason) -> int:
        """Return the refusals of one reason, with those that were only counted."""
        totals = self.totals()
        return totals.get((reason, False), 0) + totals.get((reason, True), 0)

    def readings(self) -> Iterator[Reading]:
        """Return both metrics, each with every reason."""
        totals = self.totals()
        for dry_run, metric in ((False, AUTH_REFUSED), (True, AUTH_WOULD_REFUSE)):
            for reason in RefusalReason:
                yield Point(metric, (reason.value,), totals.get((reason, dry_run), 0))
