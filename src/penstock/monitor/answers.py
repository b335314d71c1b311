"""The record that is remembered of an answered row so that a label can be joined to it.

This file defines the record of fixed size, the hash of a request id, and which of a model's outputs is its answer.
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
"""Class probabilities that a record holds; of a model with more classes it holds only the greatest."""

RECORD = np.dtype(
    [
        ("key", "<u8"),
        ("at", "<f8"),
        ("answer", "<f8"),
        ("label", "<f8"),
        ("label_at", "<f8"),
        ("scores", "<f4", (SCORES,)),
        ("reward", "<f4"),
        ("row", "<u2"),
        ("form", "u1"),
        ("marks", "u1"),
    ]
)
"""One row: the time of the answer (seconds since the epoch), the answer in its ``form``, the label and the time when
it became known, the scores, the reward, and which of them are set (``marks``)."""

NUMBER, CLASS, TEXT = range(3)
"""Forms of an answer: a number, a class by its index, a text by its CRC-32."""

LABELLED, REWARDED, SPLIT = 1, 2, 4
"""Bits of ``marks``: the row has a label, it has a reward, the split chose its version at random."""

LONGEST_TEXT = 1024
"""Characters that distinguish a text from others of its length."""

LONGEST_ID = 512
"""Bytes that distinguish an id from others."""

Records = NDArray[Any]
Keys = NDArray[np.uint64]

_MIX = np.random.default_rng(0x70656E73746F636B).integers(
    1 << 32, 1 << 63, (2, LONGEST_ID // 8), np.uint64
) | np.uint64(1)
_HALF, _THIRD = np.uint64(29), np.uint64(32)


def keys_of(model: str, ids: Sequence[str]) -> Keys:
    """Return a hash of each id [ids], never zero.

    It is the sum of the id's chunks of eight bytes, each mixed by multiplication and shift: one pass hashes many ids.
    """
    raw = np.array([text.encode(errors="replace")[:LONGEST_ID] for text in ids], "S")
    width = max(1, -(-raw.itemsize // 8))
    chunks = raw.astype(f"S{8 * width}").view("<u8").reshape(len(raw), width)
    mixed = chunks * _MIX[0, :width]
    mixed ^= mixed >> _HALF
    mixed *= _MIX[1, :width]
    mixed ^= mixed >> _THIRD
    seed = np.uint64(int.from_bytes(sha256(model.encode()).digest()[:8], "little"))
    keys: Keys = (mixed.sum(axis=1, dtype=np.uint64) + seed) * _MIX[0, 0]
    keys ^= keys >> _THIRD
    return np.maximum(keys, np.uint64(1))


@dataclass(frozen=True, slots=True)
class Answers:
    """Predictions row by row: ``values`` [rows] in one form, and ``scores`` [rows, SCORES] with NaN for no score."""

    form: int
    values: NDArray[np.float64]
    scores: NDArray[np.float32]


def answers_of(outputs: Sequence[Tensor], batching: bool = True) -> Answers | None:
    """Return the predictions in a model's outputs, None if there are none.

    They are the first output of labels or texts, else the class with the greatest score, else the first number. The
    first axis is rows if the model is ``batching``; else there is one row.
    """
    labels = next((tensor.data for tensor in outputs if tensor.data.dtype.kind != "f" and tensor.data.size), None)
    floats = [
        _to_rows(tensor.data, batching) for tensor in outputs if tensor.data.dtype.kind == "f" and tensor.data.size
    ]
    scores = next((rows for rows in floats if rows.shape[1] > 1), None)
    if labels is None and scores is None and not floats:
        return None
    if labels is not None:
        first = _to_rows(labels, batching)[:, 0]
        form, values = (TEXT, _parse_texts(first)) if first.dtype.kind in "OSU" else (CLASS, first.astype(np.float64))
    elif scores is not None:
        form, values = CLASS, scores.argmax(axis=1).astype(np.float64)
    else:
        form, values = NUMBER, floats[0][:, 0].astype(np.float64)
    stored = np.full((len(values), SCORES), np.nan, np.float32)
    if scores is not None and len(scores) == len(values):
        if scores.shape[1] <= SCORES:
            _store_scores(stored[:, : scores.shape[1]], scores)
        else:
            _store_scores(stored[:, 0], scores.max(axis=1))
    return Answers(form, values, stored)


def _store_scores(place: Array, scores: Array) -> None:
    with np.errstate(over="ignore"):  # an FP64 score may be infinite as FP32
        place[:] = scores


def _to_rows(data: Array, batching: bool) -> Array:
    return data.reshape(len(data), -1) if batching and data.ndim else data.reshape(1, -1)


def _parse_texts(values: Array) -> NDArray[np.float64]:
    return np.array([text_token(value) for value in values.tolist()], np.float64)


def text_token(value: Any) -> float:
    """Return the number that stands for a text; for a long text it depends on its beginning and its length."""
    text = value if isinstance(value, bytes) else str(value)
    token = crc32(text[:LONGEST_TEXT] if isinstance(text, bytes) else text[:LONGEST_TEXT].encode())
    return float(token if len(text) <= LONGEST_TEXT else crc32(b"%d" % len(text), token))


def label_token(label: Any, form: int) -> float | None:
    """Return the number that stands for a label of an answer of this form; None if it cannot be one."""
    if form == TEXT:
        return text_token(label)
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def prefix_of(model: str) -> str:
    """Return the prefix of the names of a model's segments."""
    return sha256(model.encode()).hexdigest()[:16]
