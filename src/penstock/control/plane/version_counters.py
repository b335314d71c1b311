"""What the workers of one instance have counted for each version, and when a version's counters may be given away.

The counters lie in the workers' slots, one block for each version of the ledger, and outlive this process and the
workers; what only this process counts is kept beside the ledger.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

from penstock.control.plane import metrics
from penstock.control.reconcile import status
from penstock.control.reconcile.departures import Departures
from penstock.control.reconcile.losses import Losses
from penstock.control.reconcile.planner import Ledger
from penstock.control.workers.server import Report
from penstock.core.desired import Desired
from penstock.core.versions import VersionKey
from penstock.monitor.counters.layout import BLOCKS, Cells
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.telemetry.readings import Reading


class VersionCounters:
    """The counters of all versions; belongs to the event loop.

    ``kept`` is what ``out`` gave to the process before. Series of versions end ``series_s`` seconds after their
    versions have gone, by ``clock``, which is monotonic.
    """

    def __init__(
        self, slots: Sequence[Slot], kept: Mapping[str, Any], series_s: float, clock: Callable[[], float]
    ) -> None:
        self._slots = slots
        self._losses = Losses.of(kept.get("losses", {}))
        self._tally = metrics.tally_in(kept.get("tally", {}))
        self._departures = Departures(series_s, clock)

    def out(self) -> dict[str, Any]:
        """What must outlive this process, as JSON values."""
        return {"tally": metrics.tally_out(self._tally), "losses": self._losses.out()}

    # Counts.

    def totals(self, ledger: Ledger, key: VersionKey) -> Totals:
        """What a version was counted by since the instance began; nothing for one that was never served."""
        block = ledger.blocks.get(key)
        return Totals.of(self._slots if block is not None else (), block or 0)

    def losses(self, key: VersionKey) -> int:
        """How many workers have ended while they had calls of a version in hand, since the instance began."""
        return self._losses.of_version(key)

    def note_loss(self, ledger: Ledger, slot: int, pid: int) -> None:
        """Note which versions' calls a worker had in hand when it ended."""
        counts = ((key, Totals.of([self._slots[slot]], block)) for key, block in ledger.blocks.items())
        self._losses.note(slot, pid, [key for key, totals in counts if totals.inflight])

    def note_restart(self, reason: str) -> None:
        """Count a worker that was replaced."""
        self._tally.restarts[reason] += 1

    def note_load(self, key: VersionKey, succeeded: bool) -> None:
        """Count how loading a version ended at a worker."""
        self._tally.loads[*key, "ok" if succeeded else "failed"] += 1

    def known(self, ledger: Ledger, desired: Desired, reports: Mapping[int, Report]) -> set[VersionKey]:
        """The versions whose series are told of now."""
        self._departures.look(status.known(desired, reports.values()), ledger.blocks.keys())
        return self._departures.told()

    def readings(self, ledger: Ledger, living: Sequence[Slot], known: Collection[VersionKey]) -> Iterator[Reading]:
        """What was counted, by version and by model; ``living`` are the slots whose worker lives."""
        yield from metrics.counted(self._slots, living, ledger.blocks, known, self._tally)
        yield from metrics.tallied(self._tally, known)

    # Blocks.

    def retain(self, ledger: Ledger) -> None:
        """Forget the versions that have no block any more."""
        self._tally.forget(ledger.blocks.keys())
        self._losses.forget(ledger.blocks.keys())

    def reusable(self, ledger: Ledger, desired: Desired, reports: Mapping[int, Report]) -> Collection[VersionKey]:
        """Versions that no worker serves and that nobody is still answering for, if no block is left for others."""
        return self._idle(ledger, desired, reports, set()) if len(ledger.blocks) >= BLOCKS - 1 else ()

    def departed(self, ledger: Ledger, desired: Desired, reports: Mapping[int, Report]) -> Collection[VersionKey]:
        """Such versions that went so long ago that their series have ended."""
        if not desired.revision:  # workers that were adopted serve what nobody has asked for yet
            return ()
        known = self.known(ledger, desired, reports)
        return self._idle(ledger, desired, reports, known) if ledger.blocks.keys() - known else ()

    def _idle(
        self, ledger: Ledger, desired: Desired, reports: Mapping[int, Report], wanted: Collection[VersionKey]
    ) -> list[VersionKey]:
        """The versions beside the wanted ones that no worker serves and that nobody is still answering for."""
        if not status.applied(desired, reports.values()):
            return []
        served = {(model.name, one.version) for model in desired.models for one in model.versions}
        left = ((key, block) for key, block in ledger.blocks.items() if key not in served and key not in wanted)
        return [key for key, block in left if not Totals.of(self._slots, block).inflight]

    def clear(self, ledger: Ledger, block: int) -> None:
        """Zero a block in every slot; what its version refused stays in its model's counters."""
        for key, given in ledger.blocks.items():
            if given == block:
                self._tally.keep_refused(self._slots, key[0], block)
        for slot in self._slots:
            slot.clear(block)

    # Regions of rows.

    def regions(self, offset: int, size: int) -> list[Cells]:
        """A region of every slot's words."""
        return [slot.region(offset, size) for slot in self._slots]

    def clear_region(self, offset: int, size: int) -> None:
        """Zero a region in every slot, before it is given to another reference."""
        for slot in self._slots:
            slot.region(offset, size)[:] = 0
