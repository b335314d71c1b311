"""The counters of each version over the workers of one instance, and when a version's counters may be reused.

The counters are in the workers' slots, one block for each version, and outlive this process and the workers. What
only this process counts is stored with the controller state.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from penstock.control.plane import metrics
from penstock.control.reconcile import status
from penstock.control.reconcile.departures import Departures
from penstock.control.reconcile.losses import WorkerLosses
from penstock.control.reconcile.planner import ControllerState
from penstock.control.workers.server import WorkerReport
from penstock.core.desired import Desired
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import BLOCKS, Cells
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.telemetry.exemplars import ExemplarStore
from penstock.telemetry.readings import Reading


class VersionCounters:
    """The counters of all versions; belongs to the event loop.

    ``stored`` is what ``out`` returned in the previous process. The metrics of a version end ``series_s`` seconds
    after its removal, by ``clock``, which is monotonic. ``exemplars`` are those of their histograms.
    """

    def __init__(
        self, slots: Sequence[Slot], stored: Mapping[str, Any], series_s: float, clock: Callable[[], float]
    ) -> None:
        self.slots = slots
        self.exemplars = ExemplarStore()
        self._losses = WorkerLosses.of(stored.get("losses", {}))
        self._tally = metrics.decode_counters(stored.get("tally", {}))
        self._departures = Departures(series_s, clock)

    def out(self) -> dict[str, Any]:
        """What must outlive this process, as JSON values."""
        return {"tally": metrics.encode_counters(self._tally), "losses": self._losses.out()}

    # Counts.

    def totals(self, state: ControllerState, key: VersionKey) -> Totals:
        """The totals of a version since the instance began; zero for one that was never served."""
        block = state.blocks.get(key)
        return Totals.of(self.slots if block is not None else (), block or 0)

    def losses(self, key: VersionKey) -> int:
        """How many workers have died with calls of a version in flight, since the instance began."""
        return self._losses.of_version(key)

    def note_loss(self, state: ControllerState, slot: int, pid: int) -> None:
        """Count the death of a worker for each version whose calls it had in flight."""
        counts = ((key, Totals.of([self.slots[slot]], block)) for key, block in state.blocks.items())
        self._losses.note(slot, pid, [key for key, totals in counts if totals.inflight])

    def note_restart(self, reason: str) -> None:
        """Count a worker that was replaced."""
        self._tally.restarts[reason] += 1

    def note_load(self, key: VersionKey, succeeded: bool) -> None:
        """Count the result of loading a version at a worker."""
        self._tally.loads[*key, "ok" if succeeded else "failed"] += 1

    def reported_versions(
        self, state: ControllerState, desired: Desired, reports: Mapping[int, WorkerReport]
    ) -> set[VersionKey]:
        """The versions whose metrics are reported now."""
        self._departures.record(status.known_versions(desired, reports.values()), state.blocks.keys())
        return self._departures.reported()

    def readings(
        self, state: ControllerState, living: Sequence[Slot], versions: Collection[VersionKey]
    ) -> Iterator[Reading]:
        """The metrics by version and by model; ``living`` are the slots whose worker is alive."""
        counted = metrics.worker_readings(self.slots, living, state.blocks, versions, self._tally)
        yield from self.exemplars.attach(counted)
        yield from metrics.control_readings(self._tally, versions)

    # Blocks.

    def retain(self, state: ControllerState) -> None:
        """Forget the versions that have no block any more."""
        self._tally.forget(state.blocks.keys())
        self._losses.forget(state.blocks.keys())

    def reusable(
        self, state: ControllerState, desired: Desired, reports: Mapping[int, WorkerReport]
    ) -> Collection[VersionKey]:
        """Versions that no worker serves and that have no calls in flight, if no block is free."""
        return self._idle(state, desired, reports, set()) if len(state.blocks) >= BLOCKS - 1 else ()

    def departed_versions(
        self, state: ControllerState, desired: Desired, reports: Mapping[int, WorkerReport]
    ) -> Collection[VersionKey]:
        """Such versions that were removed so long ago that their metrics have ended."""
        if not desired.revision:  # adopted workers may serve versions that this process has not read yet
            return ()
        reported = self.reported_versions(state, desired, reports)
        return self._idle(state, desired, reports, reported) if state.blocks.keys() - reported else ()

    def _idle(
        self,
        state: ControllerState,
        desired: Desired,
        reports: Mapping[int, WorkerReport],
        wanted: Collection[VersionKey],
    ) -> list[VersionKey]:
        """The versions beside the wanted ones that no worker serves and that have no calls in flight."""
        if not status.is_applied(desired, reports.values()):
            return []
        served = {(model.name, version.version) for model in desired.models for version in model.versions}
        left = ((key, block) for key, block in state.blocks.items() if key not in served and key not in wanted)
        return [key for key, block in left if not Totals.of(self.slots, block).inflight]

    def clear(self, state: ControllerState, block: int) -> None:
        """Zero a block in every slot; the refused calls of its version stay in its model's counters."""
        for key, owned in state.blocks.items():
            if owned == block:
                self._tally.keep_refused(self.slots, key[0], block)
        for slot in self.slots:
            slot.clear(block)

    # Regions of rows.

    def regions(self, offset: int, size: int) -> list[Cells]:
        """A region of counters in every slot."""
        return [slot.region(offset, size) for slot in self.slots]

    def clear_region(self, offset: int, size: int) -> None:
        """Zero a region in every slot, before another reference uses it."""
        for slot in self.slots:
            slot.region(offset, size)[:] = 0
