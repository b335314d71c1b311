"""The captured rows for training and exams: those of this gateway, or of all gateways of a fleet."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.control.retraining.fleet_rows import FleetRows, captured_at
from penstock.core.errors import NotFound
from penstock.core.row_shares import GatewaySelection, RowAmount
from penstock.engine.scratch import scratch_folder, temporary_folder
from penstock.monitor.capture import CapturedRequest
from penstock.monitor.captured_rows import CapturedRows, LabelledRows, RowMerge, RowSelection, select_labelled_rows
from penstock.monitor.pyarrow_extra import require_pyarrow
from penstock.monitor.row_tables import in_batches, write_table
from penstock.registry.records import Document

MOST_OF_TABLE = RowAmount(1_000_000, 1 << 30)
"""Maximum rows and bytes of all gateways together for a training command."""

MOST_OF_EXAM = RowAmount(2000, 256 << 20)
"""Maximum rows of an exam, and bytes to read for it from all gateways together; the newest are taken."""


@dataclass(frozen=True, slots=True)
class AvailableRows:
    """The number of available rows, in a fleet also by gateway (``gateways``), and why others are ``missing``."""

    rows: int
    gateways: dict[str, int]
    missing: dict[str, str]

    @property
    def of_fleet(self) -> bool:
        """Whether there is more than one gateway."""
        return bool(self.gateways or self.missing)

    def document(self) -> Document:
        """Return it as JSON values."""
        coverage = {"gateways": self.gateways, "missing": self.missing} if self.of_fleet else {}
        return {"rows": self.rows, **coverage}


class RowSource:
    """The captured rows of ``home``, and of the other gateways of a ``fleet``. Blocks; any thread may use it."""

    def __init__(self, home: Path, fleet: FleetRows | None = None) -> None:
        self._home = home
        self._fleet = fleet

    def table(self, selection: RowSelection, output: Path) -> AvailableRows:
        """Write the rows for training as Parquet; without rows there is no file.

        Raises:
            Unsupported: without the library that writes Parquet.
            NotReady: the database is away, or this gateway does not lead.
            OSError: the file cannot be written.
        """
        require_pyarrow()
        roll = self._roll()
        if self._fleet is None or not roll.asked:
            rows = _write_rows(self._own().batches(selection), selection, output)
            return AvailableRows(rows, {}, dict(roll.missing))
        with (
            scratch_folder(output.parent, "rows") as scratch,
            self._fleet.collect(roll, selection, MOST_OF_TABLE, scratch) as handed,
        ):
            merge = RowMerge(handed.parts, MOST_OF_TABLE)
            rows = _write_rows(in_batches(merge.records()), selection, output)
            return AvailableRows(rows, dict(merge.rows), handed.missing)

    def labelled(self, selection: RowSelection) -> tuple[LabelledRows | None, AvailableRows]:
        """Return the newest held-out rows with labels; raises ``NotReady`` and ``OSError`` as ``table``."""
        roll = self._roll()
        if self._fleet is None or not roll.asked:
            rows = select_labelled_rows(self._own().newest_first(selection), MOST_OF_EXAM.rows)
            return rows, AvailableRows(_read_number(rows), {}, dict(roll.missing))
        with (
            scratch_folder(temporary_folder(), "exam") as scratch,
            self._fleet.collect(roll, selection, MOST_OF_EXAM, scratch) as handed,
        ):
            merge = RowMerge(handed.parts, MOST_OF_EXAM)
            newest_first = sorted(merge.records(), key=lambda item: -float(item.head["at"]))
            rows = select_labelled_rows(newest_first, MOST_OF_EXAM.rows)
            return rows, AvailableRows(_read_number(rows), dict(merge.rows), handed.missing)

    def _roll(self) -> GatewaySelection:
        return GatewaySelection((), {}) if self._fleet is None else self._fleet.call_roll()

    def _own(self) -> CapturedRows:
        return captured_at(self._home)


def _write_rows(batches: Iterable[Sequence[CapturedRequest]], selection: RowSelection, output: Path) -> int:
    try:
        return write_table(batches, selection, output)
    except NotFound:
        return 0


def _read_number(found: LabelledRows | None) -> int:
    return 0 if found is None else len(found.labels)
