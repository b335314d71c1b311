"""Packs one gateway's counts for publication, and sums them over all gateways, as pure functions.

A publication has all counts and replaces the one before, so a repeated or lost publication changes nothing. If a
gateway was silent for so long that its rows were added to those of ended gateways, it starts new rows for later counts.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from penstock.core.versions import VersionKey
from penstock.monitor import rows
from penstock.monitor.counters.layout import BLOCK_CELLS, LAYOUT_ID, Cells
from penstock.monitor.counters.totals import Totals, add_blocks, subtract_block
from penstock.monitor.rows import RegionLayout
from penstock.registry.stores.evidence import ENDED, PublishedCounts

NO_LAYOUT = ""
"""The layout of a version without a reference: its rows are not counted."""

_WORD = np.dtype("<u8")
_FAST = 1
"""Most cells are 0, so more effort gains little."""


def layout_id(digest: str, keys: Sequence[str]) -> str:
    """Return an id of a reference (by its digest) and the keys that rows are sliced by."""
    return hashlib.sha256(json.dumps([digest, sorted(keys)]).encode()).hexdigest()


def pack(cells: Cells) -> bytes:
    """Compress cells."""
    return zlib.compress(cells.astype(_WORD, copy=False).tobytes(), _FAST)


def unpack(packed: bytes, size: int) -> Cells | None:
    """Read ``size`` cells (read-only); None for another number of cells, from a gateway of another release."""
    try:
        cells = np.frombuffer(zlib.decompress(packed), _WORD)
    except (zlib.error, ValueError):
        return None
    return cells.astype(np.uint64, copy=False) if len(cells) == size else None


def pack_block(block: Cells) -> bytes:
    """Compress the cells of a block, with what they mean."""
    return pack(np.concatenate(([np.uint64(LAYOUT_ID)], block)))


def unpack_block(packed: bytes) -> Cells | None:
    """Read the cells of a block (read-only); None if they mean something else, from a gateway of another release."""
    cells = unpack(packed, 1 + BLOCK_CELLS)
    return None if cells is None or int(cells[0]) != LAYOUT_ID else cells[1:]


@dataclass(frozen=True, slots=True)
class CountsLayout:
    """The layout of a version's counts and its name; a version without a reference has neither."""

    id: str = NO_LAYOUT
    layout: RegionLayout | None = None

    @property
    def size(self) -> int:
        """The number of cells."""
        return 0 if self.layout is None else self.layout.size


@dataclass(frozen=True, slots=True)
class VersionCounts:
    """The counts of a version at one or more gateways: ``cells`` of ``shape`` summed over ``workers``, the ``block`` of
    its requests, and its labels by outcome (``outcomes``)."""

    shape: CountsLayout
    cells: Cells
    workers: int
    block: Cells
    gateways: tuple[str, ...] = ()
    outcomes: Mapping[str, int] = field(default_factory=dict)

    @property
    def totals(self) -> Totals:
        """The counts of requests."""
        return Totals(self.block)

    def equals(self, other: "VersionCounts") -> bool:
        """Return whether both have the same counts."""
        same = (self.shape.id, self.workers, self.outcomes) == (other.shape.id, other.workers, other.outcomes)
        return same and np.array_equal(self.cells, other.cells) and np.array_equal(self.block, other.block)

    def since(self, before: "VersionCounts") -> "VersionCounts":
        """Return the counts beyond those of an earlier publication."""
        cells = self.cells
        if self.shape.layout is not None and self.shape.id == before.shape.id:
            cells = rows.subtract_region(self.shape.layout, cells, before.cells)
        block = subtract_block(self.block, before.block)
        outcomes = {name: count - before.outcomes.get(name, 0) for name, count in self.outcomes.items()}
        return VersionCounts(self.shape, cells, self.workers, block, self.gateways, outcomes)


def add_counts(shape: CountsLayout, counts: Sequence[VersionCounts]) -> VersionCounts:
    """Add counts of a version; cells only of those with the same shape."""
    same = [count for count in counts if count.shape.id == shape.id]
    cells = (
        np.zeros(0, np.uint64)
        if shape.layout is None
        else rows.add_regions(shape.layout, [item.cells for item in same])
    )
    gateways = sorted({name for count in counts for name in count.gateways})
    block = add_blocks([count.block for count in counts])
    names = sorted({name for count in counts for name in count.outcomes})
    outcomes = {name: sum(count.outcomes.get(name, 0) for count in counts) for name in names}
    return VersionCounts(shape, cells, sum([item.workers for item in same]), block, tuple(gateways), outcomes)


def pack_counts(key: VersionKey, gateway: str, counts: VersionCounts) -> PublishedCounts:
    """Return counts as a published row."""
    cells, block = pack(counts.cells), pack_block(counts.block)
    return PublishedCounts(*key, gateway, counts.shape.id, counts.workers, cells, block, dict(counts.outcomes))


def unpack_counts(row: PublishedCounts, shape: CountsLayout) -> VersionCounts:
    """Read counts from a published row; without cells if the shape is another, without requests if the release is
    another."""
    cells = unpack(row.words, shape.size) if row.layout == shape.id else None
    block = unpack_block(row.block)
    block = np.zeros(BLOCK_CELLS, np.uint64) if block is None else block
    gateways = () if row.gateway == ENDED else (row.gateway,)
    if cells is None:
        return VersionCounts(CountsLayout(row.layout), np.zeros(0, np.uint64), 0, block, gateways, row.outcomes)
    return VersionCounts(shape, cells, row.workers, block, gateways, row.outcomes)


def sum_published(
    published: Sequence[PublishedCounts], shapes: Mapping[VersionKey, CountsLayout]
) -> dict[VersionKey, VersionCounts]:
    """Return the counts of all gateways for each version of a known shape."""
    by_key: dict[VersionKey, list[VersionCounts]] = {}
    for row in published:
        key = (row.model, row.version)
        if key in shapes:
            by_key.setdefault(key, []).append(unpack_counts(row, shapes[key]))
    return {key: add_counts(shapes[key], counts) for key, counts in by_key.items()}


def add_ended(
    shapes: Mapping[VersionKey, CountsLayout], before: PublishedCounts | None, gone: Sequence[PublishedCounts]
) -> PublishedCounts | None:
    """Return the row of ended gateways with further ones added; None if the version is no longer served."""
    key = (gone[0].model, gone[0].version)
    shape = shapes.get(key)
    if shape is None:
        return None
    total = add_counts(shape, [unpack_counts(row, shape) for row in (*([before] if before else []), *gone)])
    return pack_counts(key, ENDED, replace(total, workers=0))
