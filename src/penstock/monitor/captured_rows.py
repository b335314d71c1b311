"""Chooses among captured requests: those that training gets, and those that are held out for exams with their labels.

The choice rests on the ids of requests alone, so that it is the same at every gateway. What one gateway hands to
another is a file of records like a segment, each with its labels, behind one record that says whose it is.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from penstock.core.bins import Floats
from penstock.core.row_shares import Amount, shares
from penstock.core.tensors import Array, Tensor
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import keys_of
from penstock.monitor.capture import Record, records, segments

Counted = tuple[Record, Amount]
Write = Callable[[bytes], object]
"""Takes the next bytes of a file."""


def held_out(model: str, ids: Sequence[str], share: float) -> NDArray[np.bool_]:
    """Which requests are kept from training, for exams: about this share of them, by a hash of their ids."""
    return keys_of(model, ids) % np.uint64(10_000) < round(share * 10_000) if ids else np.zeros(0, np.bool_)


@dataclass(frozen=True, slots=True)
class Selection:
    """Which requests of a version are meant: those for training, without the ``share`` that is held out, or
    (``for_exam``) the held-out ones that labels came for."""

    model: str
    version: str
    share: float = 0.0
    for_exam: bool = False

    def of(self, found: Sequence[Counted], answers: AnswerStore) -> list[Counted]:
        """Those of these records that are meant, with their labels."""
        held = held_out(self.model, [one.id for one, _ in found], self.share).tolist()
        chosen = [one for one, out in zip(found, held, strict=True) if out == self.for_exam]
        ids = [one.id for one, _ in chosen]
        known = answers.labels(self.model, self.version, ids) if ids else {}
        labelled = [(one.labelled(known.get(one.id, ())), amount) for one, amount in chosen]
        return [one for one in labelled if one[0].labels or not self.for_exam]


class CapturedRows:
    """What one gateway has kept: segments in a ``folder``, and the labels that came. Blocks; of one thread."""

    def __init__(self, folder: Path, answers: AnswerStore) -> None:
        self._folder = folder
        self._answers = answers

    def batches(self, selection: Selection) -> Iterator[list[Record]]:
        """What is meant, oldest first, segment by segment."""
        for path in segments(self._folder, selection.model, selection.version):
            yield [one for one, _ in self._chosen(path, selection)]

    def newest_first(self, selection: Selection) -> Iterator[Record]:
        """The same, newest first."""
        for path in reversed(segments(self._folder, selection.model, selection.version)):
            yield from (one for one, _ in reversed(self._chosen(path, selection)))

    def hand_over(self, selection: Selection, most: Amount, owner: Mapping[str, str], write: Write) -> Amount:
        """Write the newest of what is meant, oldest first, about ``most`` of it; how much. ``owner`` makes the file one
        of its kind.

        Raises:
            Fault: as ``write`` does.
        """
        paths, total = self._newest(selection, most)
        write(Record({**owner, "tensors": []}, b"").packed())
        written = Amount()
        for record in _tail((one for path in paths for one in self._chosen(path, selection)), total, most):
            packed = record.packed()
            write(packed)
            written += Amount(record.rows, len(packed))
        return written

    def _newest(self, selection: Selection, most: Amount) -> tuple[list[Path], Amount]:
        """The newest segments that have as much, oldest first, and how much they have."""
        paths, total = list[Path](), Amount()
        for path in reversed(segments(self._folder, selection.model, selection.version)):
            paths.insert(0, path)
            total = sum((amount for _, amount in self._chosen(path, selection)), total)
            if not total.within(most):
                break
        return paths, total

    def _chosen(self, path: Path, selection: Selection) -> list[Counted]:
        return selection.of(list(records(path)), self._answers)


def _tail(found: Iterable[Counted], total: Amount, most: Amount) -> Iterator[Record]:
    """The last of these records, which are ``total`` together, that are within ``most``."""
    left = total
    for record, amount in found:
        if left.within(most):
            yield record
        left -= amount


@dataclass(frozen=True, slots=True)
class Part:
    """What a gateway has handed over: a file, and how much is in it."""

    gateway: str
    file: Path
    amount: Amount


class Merge:
    """The rows of several gateways within ``most``: gateway by gateway in the order of their names, the newest of each,
    oldest first. ``rows`` counts what was taken of each."""

    def __init__(self, parts: Iterable[Part], most: Amount) -> None:
        self._parts = sorted(parts, key=lambda one: one.gateway)
        self._shares = shares({one.gateway: one.amount for one in self._parts}, most)
        self.rows = Counter({one.gateway: 0 for one in self._parts})

    def records(self) -> Iterator[Record]:
        """What is taken; to be read once."""
        for part in self._parts:
            found = islice(records(part.file), 1, None)  # the first says whose file it is
            for record in _tail(found, part.amount, self._shares[part.gateway]):
                self.rows[part.gateway] += record.rows
                yield record


@dataclass(frozen=True, slots=True)
class Labelled:
    """Rows that labels came for: the inputs by name [rows, ...], what should have been answered [rows], and the number
    of the request that each row came with [rows]; None where each came alone."""

    inputs: Sequence[Tensor]
    labels: Floats
    requests: NDArray[np.intp] | None = None

    def units(self) -> NDArray[np.intp]:
        """The request that each row came with [rows]."""
        return np.arange(len(self.labels)) if self.requests is None else self.requests


def labelled_rows(found: Iterable[Record], most: int) -> Labelled | None:
    """The rows of these requests that have the form of the first and a label for each row, until there are ``most``;
    None without any."""
    parts: list[tuple[Mapping[str, Array], Sequence[float]]] = []
    told: dict[str, str] = {}
    total = 0
    for one in found:
        if total >= most:
            break
        inputs = one.arrays()["inputs"]
        if one.labels and _alike(inputs, parts[0][0] if parts else inputs, len(one.labels)):
            told = told or {part["name"]: part["datatype"] for part in one.head["tensors"] if part["side"] == "inputs"}
            parts.append((inputs, one.labels))
            total += len(one.labels)
    return _joined(parts, told) if parts else None


def _joined(parts: Sequence[tuple[Mapping[str, Array], Sequence[float]]], told: Mapping[str, str]) -> Labelled | None:
    truth = np.concatenate([np.asarray(one, np.float64) for _, one in parts])
    sound = np.isfinite(truth)
    tensors = [Tensor(name, told[name], np.concatenate([one[name] for one, _ in parts])[sound]) for name in parts[0][0]]
    requests = np.repeat(np.arange(len(parts)), [len(one) for _, one in parts])
    return Labelled(tensors, truth[sound], requests[sound]) if sound.any() else None


def _alike(inputs: Mapping[str, Array], first: Mapping[str, Array], rows: int) -> bool:
    """Whether these inputs are so many rows, and of the same form as others."""
    return inputs.keys() == first.keys() and all(
        data.ndim > 0 and len(data) == rows and data.shape[1:] == first[name].shape[1:] for name, data in inputs.items()
    )
