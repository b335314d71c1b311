"""Selects captured requests for training, and labelled ones that are held out for evaluation.

The selection depends on the ids of requests only, so that it is the same at every gateway. A gateway exports a file of
records like a segment: one record that names its owner, then the requests with their labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import Floats
from penstock.core.row_shares import RowAmount, even_amounts
from penstock.core.tensors import Array, Tensor
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import keys_of
from penstock.monitor.capture import CapturedRequest, list_segments, read_segment

RecordWithAmount = tuple[CapturedRequest, RowAmount]
Write = Callable[[bytes], object]
"""Writes the next bytes of a file."""


def is_held_out(model: str, ids: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Return which requests [ids] are held out from training for evaluation: about this share, by a hash of their
    ids."""
    return keys_of(model, ids) % np.uint64(10_000) < round(share * 10_000) if ids else np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Which requests of a version to select: those for training without the ``share`` that is held out, or
    (``for_exam``) the held-out ones that have labels."""

    model: str
    version: str
    share: float = 0.0
    for_exam: bool = False

    def select(self, records: Sequence[RecordWithAmount], answers: AnswerStore) -> list[RecordWithAmount]:
        """Return the selected records with their labels."""
        held = is_held_out(self.model, [record.id for record, _ in records], self.share).tolist()
        chosen = [counted for counted, is_held in zip(records, held, strict=True) if is_held == self.for_exam]
        ids = [record.id for record, _ in chosen]
        labels = answers.labels(self.model, self.version, ids) if ids else {}
        labelled = [(record.with_labels(labels.get(record.id, ())), amount) for record, amount in chosen]
        return [counted for counted in labelled if counted[0].labels or not self.for_exam]


class CapturedRows:
    """The captured requests of one gateway: segments in a ``folder``, joined with the labels in ``answers``. Calls
    block; one thread may use it at a time."""

    def __init__(self, folder: Path, answers: AnswerStore) -> None:
        self._folder = folder
        self._answers = answers

    def batches(self, selection: RowSelection) -> Iterator[list[CapturedRequest]]:
        """Yield the selected records, oldest first, segment by segment."""
        for path in list_segments(self._folder, selection.model, selection.version):
            yield [record for record, _ in self._select_from(path, selection)]

    def newest_first(self, selection: RowSelection) -> Iterator[CapturedRequest]:
        """Yield the selected records, newest first."""
        for path in reversed(list_segments(self._folder, selection.model, selection.version)):
            yield from (record for record, _ in reversed(self._select_from(path, selection)))

    def export_newest(
        self, selection: RowSelection, most: RowAmount, owner: Mapping[str, str], write: Write
    ) -> RowAmount:
        """Write the newest selected records, about ``most`` of them, oldest first, and return their amount.

        The first record is ``owner``, which makes the content of the file unique.

        Raises:
            Fault: ``write`` raised it.
        """
        paths, total = self._newest(selection, most)
        write(CapturedRequest({**owner, "tensors": []}, b"").pack())
        written = RowAmount()
        for record in _newest_within(
            (item for path in paths for item in self._select_from(path, selection)), total, most
        ):
            packed = record.pack()
            write(packed)
            written += RowAmount(record.rows, len(packed))
        return written

    def _newest(self, selection: RowSelection, most: RowAmount) -> tuple[list[Path], RowAmount]:
        """Return the newest segments that together have at least ``most``, oldest first, and their amount."""
        paths, total = list[Path](), RowAmount()
        for path in reversed(list_segments(self._folder, selection.model, selection.version)):
            paths.insert(0, path)
            total = sum((amount for _, amount in self._select_from(path, selection)), total)
            if not total.is_within(most):
                break
        return paths, total

    def _select_from(self, path: Path, selection: RowSelection) -> list[RecordWithAmount]:
        return selection.select(list(read_segment(path)), self._answers)


def _newest_within(records: Iterable[RecordWithAmount], total: RowAmount, most: RowAmount) -> Iterator[CapturedRequest]:
    """Yield the last records within ``most`` of records that amount to ``total``."""
    left = total
    for record, amount in records:
        if left.is_within(most):
            yield record
        left -= amount


@dataclass(frozen=True, slots=True)
class ExportedRows:
    """The exported rows of a gateway: a file and its amount."""

    gateway: str
    file: Path
    amount: RowAmount


class RowMerge:
    """Merges the exported rows of several gateways within ``most``: the newest of each, gateway by gateway in the order
    of their names, oldest first. ``rows`` counts the rows taken from each gateway."""

    def __init__(self, parts: Iterable[ExportedRows], most: RowAmount) -> None:
        self._parts = sorted(parts, key=lambda part: part.gateway)
        self._shares = even_amounts({part.gateway: part.amount for part in self._parts}, most)
        self.rows = Counter({part.gateway: 0 for part in self._parts})

    def records(self) -> Iterator[CapturedRequest]:
        """Yield the merged records; call it once."""
        for part in self._parts:
            unread = islice(read_segment(part.file), 1, None)  # the first record names the owner of the file
            for record in _newest_within(unread, part.amount, self._shares[part.gateway]):
                self.rows[part.gateway] += record.rows
                yield record


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Labelled rows: the inputs [rows, ...], the labels [rows], and the index of each row's request [rows]; None if
    each row came alone."""

    inputs: Sequence[Tensor]
    labels: Floats
    requests: NDArray[np.intp] | None = None

    def units(self) -> NDArray[np.intp]:
        """Return the index of each row's request [rows]."""
        return np.arange(len(self.labels)) if self.requests is None else self.requests


def select_labelled_rows(requests: Iterable[CapturedRequest], most: int) -> LabelledRows | None:
    """Return the rows of the requests that have a label for each row and the same form as the first such request, up to
    ``most`` rows or a little more; None if there are none."""
    parts: list[tuple[Mapping[str, Array], Sequence[float]]] = []
    datatypes: dict[str, str] = {}
    total = 0
    for record in requests:
        if total >= most:
            break
        inputs, labels = record.arrays()["inputs"], record.labels
        if labels and _has_form(inputs, parts[0][0] if parts else inputs, len(labels)):
            tensors = record.head["tensors"]
            datatypes = datatypes or {
                tensor["name"]: tensor["datatype"] for tensor in tensors if tensor["side"] == "inputs"
            }
            parts.append((inputs, labels))
            total += len(labels)
    return _concatenate(parts, datatypes) if parts else None


def _concatenate(
    parts: Sequence[tuple[Mapping[str, Array], Sequence[float]]], datatypes: Mapping[str, str]
) -> LabelledRows | None:
    truth = np.concatenate([np.asarray(labels, np.float64) for _, labels in parts])
    labelled = np.isfinite(truth)
    tensors = [
        Tensor(name, datatypes[name], np.concatenate([inputs[name] for inputs, _ in parts])[labelled])
        for name in parts[0][0]
    ]
    requests = np.repeat(np.arange(len(parts)), [len(labels) for _, labels in parts])
    return LabelledRows(tensors, truth[labelled], requests[labelled]) if labelled.any() else None


def _has_form(inputs: Mapping[str, Array], first: Mapping[str, Array], rows: int) -> bool:
    """Return whether these inputs have this number of rows and the form of the first ones."""
    return inputs.keys() == first.keys() and all(
        data.ndim > 0 and len(data) == rows and data.shape[1:] == first[name].shape[1:] for name, data in inputs.items()
    )
