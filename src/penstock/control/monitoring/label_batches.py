"""Labelled rows that a gateway sends to the leader."""

import zlib
from collections import Counter, deque
from collections.abc import Sequence
from threading import Lock
from uuid import uuid4

import numpy as np

from penstock.core.versions import VersionKey
from penstock.monitor.answers import SCORES
from penstock.monitor.feedback import LabelledRow
from penstock.registry.stores.evidence import LabelBatch

MOST_WAITING = 100_000
"""The most labelled rows that wait for an unreachable database; beyond it the oldest are dropped."""


_ROW = np.dtype(
    [
        ("form", "u1"),
        ("by_split", "u1"),
        ("answer", "<f8"),
        ("label", "<f8"),
        ("at", "<f8"),
        ("answered_at", "<f8"),
        ("scores", "<f4", (SCORES,)),
    ]
)

_NO_SCORES = (np.nan,) * SCORES


def pack_rows(rows: Sequence[LabelledRow]) -> bytes:
    """Compress labelled rows of one version."""
    values = [
        (row.form, row.by_split, row.answer, row.label, row.at, row.answered_at, (*row.scores, *_NO_SCORES)[:SCORES])
        for row in rows
    ]
    return zlib.compress(np.array(values, _ROW).tobytes())


def unpack_rows(version: str, packed: bytes) -> list[LabelledRow]:
    """Read the labelled rows of a version from ``pack_rows``.

    Raises:
        ValueError: the format is unknown, such as that of another release.
    """
    try:
        table = np.frombuffer(zlib.decompress(packed), _ROW)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    return [
        LabelledRow(
            version,
            int(row["form"]),
            float(row["answer"]),
            tuple(row["scores"].tolist()),
            float(row["label"]),
            float(row["at"]),
            float(row["answered_at"]),
            bool(row["by_split"]),
        )
        for row in table
    ]


class LabelBatches:
    """One gateway's labelled rows that wait for the database; any thread may use it. ``given_up`` counts the dropped
    rows of each model."""

    def __init__(self, gateway: str) -> None:
        self._gateway = gateway
        self._lock = Lock()
        self._waiting: deque[tuple[str, LabelledRow]] = deque()
        self._batches: list[LabelBatch] = []
        self.given_up: Counter[str] = Counter()

    def add(self, model: str, rows: Sequence[LabelledRow]) -> None:
        """Add labelled rows of a model."""
        with self._lock:
            self._waiting.extend((model, row) for row in rows)
            while len(self._waiting) > MOST_WAITING:
                lost, _ = self._waiting.popleft()
                self.given_up[lost] += 1

    def batches(self) -> Sequence[LabelBatch]:
        """The batches to write: the same ones, with the same ids, until ``forget_current`` is called."""
        with self._lock:
            if not self._batches:
                by_key: dict[VersionKey, list[LabelledRow]] = {}
                for model, row in self._waiting:
                    by_key.setdefault((model, row.version), []).append(row)
                self._waiting.clear()
                self._batches = [
                    LabelBatch(0, uuid4().hex, *key, self._gateway, len(rows), pack_rows(rows))
                    for key, rows in by_key.items()
                ]
            return tuple(self._batches)

    def forget_current(self) -> None:
        """Forget the current batches, which are stored."""
        with self._lock:
            self._batches = []
