"""Composes results: one row for each row of the input, with the columns that are joined and the outputs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from penstock.core.errors import InvalidInput
from penstock.core.frames.frame import list_names
from penstock.core.frames.outputs import outputs_to_frame
from penstock.core.signature import Signature
from penstock.core.texts import shorten
from penstock.monitor.pyarrow_extra import Batch
from penstock.monitor.record_batches import append_columns, batch_of, place_rows
from penstock.scoring.rows import ScoredRows

ALL: Final = "all"
OUTPUT: Final = "output:"
"""What an output's name begins with if a joined column has the same."""


@dataclass(frozen=True, slots=True)
class JoinedColumns:
    """The columns of the input that results have: all of them, or those with these names, with the ``key`` column
    first ("" = none)."""

    names: tuple[str, ...] = ()
    is_all: bool = False
    key: str = ""

    @classmethod
    def parse(cls, text: str, key: str = "") -> "JoinedColumns":
        """Return the columns of ``all``, or of names with commas between them."""
        if text == ALL:
            return cls(is_all=True, key=key)
        return cls(tuple(name.strip() for name in text.split(",") if name.strip()), key=key)

    def choose(self, present: Sequence[str]) -> list[str]:
        """Return the names, in the order in which results have them.

        Raises:
            InvalidInput: the input has no such column.
        """
        wanted = [self.key] * bool(self.key) + list(present if self.is_all else self.names)
        for name in wanted:
            check_column(name, present)
        return list(dict.fromkeys(wanted))


def check_column(name: str, present: Sequence[str]) -> None:
    """Check that the input has a column; raises ``InvalidInput``."""
    if name not in present:
        raise InvalidInput(f"the input has no column '{shorten(name)}'; it has {list_names(present)}")


def compose_results(batch: Batch, scored: ScoredRows, joined: JoinedColumns, signature: Signature) -> Batch:
    """Return the results of rows: one for each, in order; the outputs of rows that could not be scored are null.

    Raises:
        InvalidInput: an output cannot be columns, or the input lacks a column to join.
    """
    names = joined.choose(batch.schema.names)
    outputs = batch_of(outputs_to_frame([*scored.outputs, *scored.explained], signature))
    taken = set(names)
    renamed = [f"{OUTPUT}{name}" if name in taken else name for name in outputs.schema.names]
    if scored.faults:
        outputs = place_rows(outputs, scored.good, scored.rows)
    return append_columns(batch.select(names), renamed, outputs)
