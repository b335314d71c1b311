"""Gathered rows from which a reference is learned: joined, sampled, packed, and built into a reference.

All functions are deterministic: the same rows of the same gateways give the same reference.
"""

import json
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from penstock.control.workers.protocol import Message, decode_rows, encode_rows
from penstock.core.bins import Places
from penstock.monitor.columns import RowValues, concatenate
from penstock.monitor.confidence import ConfidenceHistogram, decode_confidence
from penstock.monitor.reference import LIVE, Reference
from penstock.monitor.reference_builder import build

MOST_BYTES = 16 << 20
"""The most packed bytes of a version; beyond it a random half of the rows is taken, repeatedly if needed."""

_FAST = 1

Names = tuple[Sequence[str], Sequence[str]]
"""The names of input columns and of output columns, numeric ones first."""


@dataclass(frozen=True, slots=True)
class GatheredRows:
    """Rows of ``inputs`` and ``outputs`` in time order, with the confidence of the answers if they have one."""

    names: Names
    inputs: RowValues
    outputs: RowValues
    confidence: ConfidenceHistogram | None = None

    def __len__(self) -> int:
        return len(self.inputs)


def decode_gathered_rows(values: Message) -> GatheredRows | None:
    """Read rows from their JSON values; None if there are none."""
    if not values["inputs"]["rows"]:
        return None
    names = values["names"][0], values["names"][1]
    confidence = decode_confidence(values.get("confidence"))
    return GatheredRows(names, decode_rows(values["inputs"]), decode_rows(values["outputs"]), confidence)


def concatenate_gathered(parts: Sequence[GatheredRows]) -> GatheredRows:
    """Concatenate the rows of all parts."""
    inputs, outputs = concatenate([part.inputs for part in parts]), concatenate([part.outputs for part in parts])
    return GatheredRows(parts[0].names, inputs, outputs, _add_confidence([part.confidence for part in parts]))


def interleave(parts: Sequence[GatheredRows]) -> GatheredRows:
    """Interleave rows that were gathered in the same period, those of each part evenly among all others."""
    rows = concatenate_gathered(parts)
    if len(parts) == 1:
        return rows
    at = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in parts])
    return _choose(rows, np.argsort(at, kind="stable"), rows.confidence)


def draw_rows(rows: GatheredRows, number: int, seed: int) -> GatheredRows:
    """Draw ``number`` rows at random, in their order; all rows if there are not more."""
    if number >= len(rows):
        return rows
    places = np.sort(np.random.default_rng(seed).choice(len(rows), number, replace=False))
    sure = rows.confidence
    return _choose(rows, places, None if sure is None else replace(sure, counts=_scale(sure.counts, number)))


def seed_of(*names: str) -> int:
    """Return a seed that is the same on every machine for these names."""
    return zlib.crc32("\n".join(names).encode())


def pack(rows: GatheredRows, most: int = MOST_BYTES) -> tuple[int, bytes]:
    """Return the number of rows that fit into ``most`` bytes, and these rows packed."""
    sure = None if rows.confidence is None else asdict(rows.confidence)
    values = {"names": rows.names, "confidence": sure}
    values |= {"inputs": encode_rows([rows.inputs]), "outputs": encode_rows([rows.outputs])}
    packed = zlib.compress(json.dumps(values).encode(), _FAST)
    if len(packed) <= most:
        return len(rows), packed
    return pack(draw_rows(rows, len(rows) // 2, 0), most) if len(rows) > 1 else (0, b"")


def unpack(packed: bytes) -> GatheredRows:
    """Read packed rows.

    Raises:
        ValueError: the format is unknown, or there are no rows.
    """
    try:
        rows = decode_gathered_rows(json.loads(zlib.decompress(packed)))
    except (zlib.error, KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(f"the submitted rows have an unknown format ({error!r})") from None
    if rows is None:
        raise ValueError("the submission has no rows")
    return rows


def learn(rows: GatheredRows) -> Reference:
    """Build the reference of rows."""
    reference = build((rows.names[0], rows.names[1]), rows.inputs, rows.outputs, LIVE)
    return reference if rows.confidence is None else replace(reference, confidence=rows.confidence)


def _add_confidence(parts: Sequence[ConfidenceHistogram | None]) -> ConfidenceHistogram | None:
    """Add confidence histograms; None if one is missing or has other classes."""
    sure = [part for part in parts if part is not None]
    if len(sure) < len(parts) or len({item.classes for item in sure}) != 1:
        return None
    counts = tuple(sum(column) for column in zip(*(item.counts for item in sure), strict=True))
    return ConfidenceHistogram(sure[0].classes, counts)


def _choose(rows: GatheredRows, places: Places, sure: ConfidenceHistogram | None) -> GatheredRows:
    return GatheredRows(rows.names, rows.inputs.at(places), rows.outputs.at(places), sure)


def _scale(counts: Sequence[int], number: int) -> tuple[int, ...]:
    """Scale counts to a sum of ``number`` rows, by the largest remainders."""
    quotas = np.array(counts) * (number / max(1, sum(counts)))
    scaled = np.trunc(quotas).astype(int)
    scaled[np.argsort(scaled - quotas, kind="stable")[: number - int(scaled.sum())]] += 1
    return tuple(scaled.tolist())
