"""What a gateway tells the others of its counts, and the sum over all gateways, as pure functions.

Counts are told whole and replaced in place, so a publication that is repeated or lost changes nothing. A gateway that
was silent for so long that its rows were added to those of ended gateways begins new ones, with what it counts beyond.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from penstock.core.versions import VersionKey
from penstock.monitor import rows
from penstock.monitor.counters.layout import BLOCK_CELLS, Cells
from penstock.monitor.counters.totals import Totals, add_blocks, subtract_block
from penstock.monitor.rows import Layout
from penstock.registry.stores.evidence import ENDED, Published

NO_LAYOUT = ""
"""Of a version without a reference: its rows are not counted."""

_WORD = np.dtype("<u8")
_FAST = 1
"""Most words are nothing, so that more effort gains little."""


def layout_id(digest: str, keys: Sequence[str]) -> str:
    """Names the reference with this digest and the keys that rows are sliced by: what counts of one layout rest on."""
    return hashlib.sha256(json.dumps([digest, sorted(keys)]).encode()).hexdigest()


def pack(cells: Cells) -> bytes:
    """Words in few bytes."""
    return zlib.compress(cells.astype(_WORD, copy=False).tobytes(), _FAST)


def unpack(packed: bytes, size: int) -> Cells | None:
    """So many words, which are read only; None if they are not so many: they are of a gateway of another release."""
    try:
        whole = np.frombuffer(zlib.decompress(packed), _WORD)
    except (zlib.error, ValueError):
        return None
    return whole.astype(np.uint64, copy=False) if len(whole) == size else None


@dataclass(frozen=True, slots=True)
class Shape:
    """The layout of a version's counts and its name; a version without a reference has neither."""

    id: str = NO_LAYOUT
    layout: Layout | None = None

    @property
    def size(self) -> int:
        """How many words there are."""
        return 0 if self.layout is None else self.layout.size


@dataclass(frozen=True, slots=True)
class Counts:
    """What one or more gateways have counted of a version so far: ``cells`` of ``shape`` of so many ``workers``, the
    ``block`` of its requests, and what became of its labels (``outcomes``)."""

    shape: Shape
    cells: Cells
    workers: int
    block: Cells
    gateways: tuple[str, ...] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def totals(self) -> Totals:
        """The counts of requests."""
        return Totals(self.block)

    def equals(self, other: "Counts") -> bool:
        """Whether both say the same."""
        same = (self.shape.id, self.workers, self.outcomes) == (other.shape.id, other.workers, other.outcomes)
        return same and np.array_equal(self.cells, other.cells) and np.array_equal(self.block, other.block)

    def beyond(self, before: "Counts") -> "Counts":
        """What was counted beyond what was said before."""
        cells = self.cells
        if self.shape.layout is not None and self.shape.id == before.shape.id:
            cells = rows.subtract_region(self.shape.layout, cells, before.cells)
        block = subtract_block(self.block, before.block)
        outcomes = {name: count - before.outcomes.get(name, 0) for name, count in self.outcomes.items()}
        return Counts(self.shape, cells, self.workers, block, self.gateways, outcomes)


def added(shape: Shape, counts: Sequence[Counts]) -> Counts:
    """Counts of a version added up; those of rows only where they are of the same shape."""
    same = [one for one in counts if one.shape.id == shape.id]
    cells = (
        np.zeros(0, np.uint64) if shape.layout is None else rows.add_regions(shape.layout, [one.cells for one in same])
    )
    gateways = sorted({name for one in counts for name in one.gateways})
    block = add_blocks([one.block for one in counts])
    names = sorted({name for one in counts for name in one.outcomes})
    outcomes = {name: sum(one.outcomes.get(name, 0) for one in counts) for name in names}
    return Counts(shape, cells, sum([one.workers for one in same]), block, tuple(gateways), outcomes)


def packed(key: VersionKey, gateway: str, counts: Counts) -> Published:
    """Counts as they are published."""
    cells, block = pack(counts.cells), pack(counts.block)
    return Published(*key, gateway, counts.shape.id, counts.workers, cells, block, dict(counts.outcomes))


def unpacked(row: Published, shape: Shape) -> Counts:
    """Counts as they were published; of another shape than that there is nothing of rows, of another release nothing
    of requests either."""
    cells = unpack(row.words, shape.size) if row.layout == shape.id else None
    block = unpack(row.block, BLOCK_CELLS)
    block = np.zeros(BLOCK_CELLS, np.uint64) if block is None else block
    gateways = () if row.gateway == ENDED else (row.gateway,)
    if cells is None:
        return Counts(Shape(row.layout), np.zeros(0, np.uint64), 0, block, gateways, row.outcomes)
    return Counts(shape, cells, row.workers, block, gateways, row.outcomes)


def summed(published: Sequence[Published], shapes: Mapping[VersionKey, Shape]) -> dict[VersionKey, Counts]:
    """What all gateways have counted of each version of a known shape."""
    by_key: dict[VersionKey, list[Counts]] = {}
    for row in published:
        key = (row.model, row.version)
        if key in shapes:
            by_key.setdefault(key, []).append(unpacked(row, shapes[key]))
    return {key: added(shapes[key], counts) for key, counts in by_key.items()}


def ended(shapes: Mapping[VersionKey, Shape], before: Published | None, gone: Sequence[Published]) -> Published | None:
    """The row of ended gateways with those of further ones; None of a version that is not served any more."""
    key = (gone[0].model, gone[0].version)
    shape = shapes.get(key)
    if shape is None:
        return None
    whole = added(shape, [unpacked(row, shape) for row in (*([before] if before else []), *gone)])
    return packed(key, ENDED, replace(whole, workers=0))
