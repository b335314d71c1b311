"""Notices that models or routes may have changed, without a look at each of them."""

from collections.abc import Callable, Mapping
from operator import is_not

from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired


class ModelChanges:
    """Compares what documents of models and routes are made from with the last look: the registry's ``revision``, the
    ``desired`` state, and the ``reports`` of the workers. Belongs to the event loop."""

    def __init__(
        self,
        revision: Callable[[], int],
        desired: Callable[[], Desired],
        reports: Callable[[], Mapping[int, WorkerReport]],
    ) -> None:
        self._revision = revision
        self._desired = desired
        self._reports = reports
        self._last: tuple[int, tuple[object, ...]] = (-1, ())
        self._number = 0

    def mark(self) -> int:
        """Return a number that is the same as long as none of them was replaced."""
        parts = (self._desired(), *(report.versions for report in self._reports().values()))
        last_revision, last = self._last
        revision = self._revision()
        if revision != last_revision or len(parts) != len(last) or any(map(is_not, parts, last)):
            self._last, self._number = (revision, parts), self._number + 1
        return self._number
