"""Rows that were gathered to learn a reference from: put together, drawn from, packed, and what is learned of them.

All of it is deterministic: the same rows of the same gateways give the same reference.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from penstock.control.workers.protocol import Message, rows_in, rows_out
from penstock.core.bins import Places
from penstock.monitor.columns import Rows, joined
from penstock.monitor.confidence import ConfidenceHistogram, confidence_in
from penstock.monitor.reference import LIVE, Reference
from penstock.monitor.reference_builder import build

MOST_BYTES = 16 << 20
"""Packed rows that a gateway hands in of a version; of more, half are taken by chance, as often as it needs."""

_FAST = 1

Names = tuple[Sequence[str], Sequence[str]]
"""Of the inputs' and the outputs' columns, numbers first."""


@dataclass(frozen=True, slots=True)
class GatheredRows:
    """Rows of ``inputs`` and of ``outputs``, in the order of time, and how sure the answers were, if they say so."""

    names: Names
    inputs: Rows
    outputs: Rows
    confidence: ConfidenceHistogram | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def gathered_in(values: Message) -> GatheredRows | None:
    """Rows from their JSON values, None where there is none."""
    if not values["inputs"]["rows"]:
        return None
    names = values["names"][0], values["names"][1]
    confidence = confidence_in(values.get("confidence"))
    return GatheredRows(names, rows_in(values["inputs"]), rows_in(values["outputs"]), confidence)


def below_each_other(parts: Sequence[GatheredRows]) -> GatheredRows:
    """All rows of the first part, then those of the next one."""
    inputs, outputs = joined([one.inputs for one in parts]), joined([one.outputs for one in parts])
    return GatheredRows(parts[0].names, inputs, outputs, _together([one.confidence for one in parts]))


def in_turns(parts: Sequence[GatheredRows]) -> GatheredRows:
    """Rows that were gathered at the same time, in the order of time: those of each part evenly among all others."""
    whole = below_each_other(parts)
    if len(parts) == 1:
        return whole
    at = np.concatenate([(np.arange(len(one)) + 0.5) / len(one) for one in parts])
    return _chosen(whole, np.argsort(at, kind="stable"), whole.confidence)


def drawn(rows: GatheredRows, number: int, seed: int) -> GatheredRows:
    """So many rows by chance, in the order that they have; all of them where there are no more."""
    if number >= len(rows):
        return rows
    places = np.sort(np.random.default_rng(seed).choice(len(rows), number, replace=False))
    sure = rows.confidence
    return _chosen(rows, places, None if sure is None else replace(sure, counts=_scaled(sure.counts, number)))


def seed_of(*names: str) -> int:
    """A seed that is everywhere the same for these names."""
    return zlib.crc32("\n".join(names).encode())


def pack(rows: GatheredRows, most: int = MOST_BYTES) -> tuple[int, bytes]:
    """How many rows there is room for, and these in few bytes."""
    sure = None if rows.confidence is None else asdict(rows.confidence)
    values = {"names": rows.names, "confidence": sure}
    values |= {"inputs": rows_out([rows.inputs]), "outputs": rows_out([rows.outputs])}
    packed = zlib.compress(json.dumps(values).encode(), _FAST)
    if len(packed) <= most:
        return len(rows), packed
    return pack(drawn(rows, len(rows) // 2, 0), most) if len(rows) > 1 else (0, b"")


def unpack(packed: bytes) -> GatheredRows:
    """Rows as they were packed.

    Raises:
        ValueError: they are of another form.
    """
    try:
        found = gathered_in(json.loads(zlib.decompress(packed)))
    except (zlib.error, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"rows that were handed in are of another form ({error!r})") from None
    if found is None:
        raise ValueError("no rows were handed in")
    return found


def learned(rows: GatheredRows) -> Reference:
    """The reference that rows make."""
    found = build((rows.names[0], rows.names[1]), rows.inputs, rows.outputs, LIVE)
    return found if rows.confidence is None else replace(found, confidence=rows.confidence)


def _together(parts: Sequence[ConfidenceHistogram | None]) -> ConfidenceHistogram | None:
    """How sure all answers were, None where some do not say so."""
    sure = [one for one in parts if one is not None]
    if len(sure) < len(parts) or len({one.classes for one in sure}) != 1:
        return None
    counts = tuple(sum(column) for column in zip(*(one.counts for one in sure), strict=True))
    return ConfidenceHistogram(sure[0].classes, counts)


def _chosen(rows: GatheredRows, places: Places, sure: ConfidenceHistogram | None) -> GatheredRows:
    return GatheredRows(rows.names, rows.inputs.at(places), rows.outputs.at(places), sure)


def _scaled(counts: Sequence[int], number: int) -> tuple[int, ...]:
    """Counts of so many rows in the same proportion, by the largest remainders."""
    quotas = np.array(counts) * (number / max(1, sum(counts)))
    given = np.floor(quotas).astype(int)
    given[np.argsort(given - quotas, kind="stable")[: number - int(given.sum())]] += 1
    return tuple(given.tolist())
