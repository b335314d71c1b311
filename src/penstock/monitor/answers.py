"""What is remembered of an answered row, so that a label can be joined to it.

That is a record of fixed size, the hash of a request's id, and what of a model's outputs is its answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from penstock.core.tensors import Array, Tensor

SCORES = 4
"""Probabilities of classes that are remembered of a row; of more classes only the greatest is."""

RECORD = np.dtype(
    [
        ("key", "<u8"),
        ("at", "<f8"),
        ("answer", "<f8"),
        ("label", "<f8"),
        ("told_at", "<f8"),
        ("scores", "<f4", (SCORES,)),
        ("reward", "<f4"),
        ("row", "<u2"),
        ("form", "u1"),
        ("marks", "u1"),
    ]
)
"""One row: seconds since the epoch, what was answered (``form`` says what it means) and what was told since (see
``marks``)."""

NUMBER, CLASS, TEXT = range(3)
"""Forms of an answer: a number, a class by its number, a text by its CRC-32."""

LABELLED, REWARDED, SPLIT = 1, 2, 4
"""Bits of ``marks``: what was told of the row, and whether the split chose the version that answered it, by chance."""

LONGEST_TEXT = 1024
"""Characters of a text that tell it from others of its length."""

LONGEST_ID = 512
"""Bytes of an id that tell it from others."""

Records = NDArray[Any]
Keys = NDArray[np.uint64]

_MIX = np.random.default_rng(0x70656E73746F636B).integers(
    1 << 32, 1 << 63, (2, LONGEST_ID // 8), np.uint64
) | np.uint64(1)
_HALF, _THIRD = np.uint64(29), np.uint64(32)


def keys_of(model: str, ids: Sequence[str]) -> Keys:
    """A hash of each id, never zero: a sum of mixed words of eight bytes, so that the ids of a bunch take one pass."""
    raw = np.array([one.encode(errors="replace")[:LONGEST_ID] for one in ids], "S")
    width = max(1, -(-raw.itemsize // 8))
    words = raw.astype(f"S{8 * width}").view("<u8").reshape(len(raw), width)
    mixed = words * _MIX[0, :width]
    mixed ^= mixed >> _HALF
    mixed *= _MIX[1, :width]
    mixed ^= mixed >> _THIRD
    seed = np.uint64(int.from_bytes(sha256(model.encode()).digest()[:8], "little"))
    found: Keys = (mixed.sum(axis=1, dtype=np.uint64) + seed) * _MIX[0, 0]
    found ^= found >> _THIRD
    return np.maximum(found, np.uint64(1))


@dataclass(frozen=True, slots=True)
class Answers:
    """What was predicted, row by row: ``values`` [rows] of a form, and ``scores`` [rows, SCORES], NaN where there are
    none."""

    form: int
    values: NDArray[np.float64]
    scores: NDArray[np.float32]


def answers_of(outputs: Sequence[Tensor], batching: bool = True) -> Answers | None:
    """What was predicted: the first output of labels or texts, else the class with the greatest score, else the first
    number; a row for each of the first axis where the model is ``batching``, else one."""
    labels = next((one.data for one in outputs if one.data.dtype.kind != "f" and one.data.size), None)
    floats = [_rows(one.data, batching) for one in outputs if one.data.dtype.kind == "f" and one.data.size]
    scores = next((one for one in floats if one.shape[1] > 1), None)
    if labels is None and scores is None and not floats:
        return None
    if labels is not None:
        first = _rows(labels, batching)[:, 0]
        form, values = (TEXT, _texts(first)) if first.dtype.kind in "OSU" else (CLASS, first.astype(np.float64))
    elif scores is not None:
        form, values = CLASS, scores.argmax(axis=1).astype(np.float64)
    else:
        form, values = NUMBER, floats[0][:, 0].astype(np.float64)
    kept = np.full((len(values), SCORES), np.nan, np.float32)
    if scores is not None and len(scores) == len(values):
        if scores.shape[1] <= SCORES:
            kept[:, : scores.shape[1]] = scores
        else:
            kept[:, 0] = scores.max(axis=1)
    return Answers(form, values, kept)


def _rows(data: Array, batching: bool) -> Array:
    return data.reshape(len(data), -1) if batching and data.ndim else data.reshape(1, -1)


def _texts(values: Array) -> NDArray[np.float64]:
    return np.array([text_token(one) for one in values.tolist()], np.float64)


def text_token(value: Any) -> float:
    """The number that stands for a text: of a long one, for how it begins and how long it is."""
    text = value if isinstance(value, bytes) else str(value)
    token = crc32(text[:LONGEST_TEXT] if isinstance(text, bytes) else text[:LONGEST_TEXT].encode())
    return float(token if len(text) <= LONGEST_TEXT else crc32(b"%d" % len(text), token))


def label_token(label: Any, form: int) -> float | None:
    """The number that stands for a label beside an answer of this form; None where it cannot be one."""
    if form == TEXT:
        return text_token(label)
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def prefix_of(model: str) -> str:
    """What the names of a model's segments begin with."""
    return sha256(model.encode()).hexdigest()[:16]
