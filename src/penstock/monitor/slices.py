"""Slices: the columns of the rows with one value of a key, if the reference has enough such rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.core.statistics.change_detection import find_allowance
from penstock.core.statistics.column_state import ColumnPhase
from penstock.core.statistics.effect_sizes import compare_counts
from penstock.monitor.column_panel import ColumnChange, ColumnPanel, EvaluationTerms
from penstock.monitor.drift_changes import SLICE, DriftChange
from penstock.monitor.reference import Reference, ReferenceSlice
from penstock.monitor.rows import RegionCounts

LEAST_IN_SLICE = 100
"""A value's slice is watched if the reference has at least this many rows of it."""

Document = dict[str, Any]


class Slices:
    """Tests the columns of each slice: each value of ``keys`` of which the reference has enough rows."""

    def __init__(self, reference: Reference, keys: Sequence[str]) -> None:
        features = (*reference.inputs, *reference.outputs)
        self._widths = [feature.bins.width for feature in features]
        self._names = [feature.bins.name for feature in features]
        self._labels = {feature.bins.name: feature.bins.value_labels() for feature in reference.inputs}
        self._keys: list[ReferenceSlice] = [slice_ for slice_ in reference.slices if slice_.key in keys]
        self._starts = np.concatenate([[0], np.cumsum(self._widths)]).tolist()
        self._values: list[tuple[int, int]] = [
            (key, value)
            for key, item in enumerate(self._keys)
            for value, counts in enumerate(item.counts)
            if sum(counts[: self._widths[0]]) >= LEAST_IN_SLICE
        ]
        usual = [column for key, value in self._values for column in self._columns(self._keys[key].counts[value])]
        self._panel = ColumnPanel(usual, [find_allowance(item, len(usual)) for item in usual])
        self._usual = usual

    def __len__(self) -> int:
        return len(self._values)

    @property
    def tests(self) -> int:
        """Number of tests: the columns of each value of each key."""
        return len(self._values) * len(self._widths)

    def _columns(self, counts: Any) -> list[Any]:
        return [counts[start:end] for start, end in zip(self._starts, self._starts[1:], strict=False)]

    def _counts(self, now: RegionCounts, base: RegionCounts) -> list[Any]:
        difference = [after - before for after, before in zip(now.slices, base.slices, strict=True)]
        return [column for key, value in self._values for column in self._columns(difference[key][value])]

    @property
    def alarms(self) -> int:
        """Alarms so far."""
        return self._panel.alarms

    def evaluate(self, counted: RegionCounts, last: RegionCounts, look: EvaluationTerms) -> list[DriftChange]:
        """Take the counts so far and those of the last look, and return the changes."""
        return [self._describe(change) for change in self._panel.evaluate(self._counts(counted, last), look)]

    def _describe(self, change: ColumnChange) -> DriftChange:
        evidence: Document = {"slice": self._slice_of(change.index)}
        if change.begins:
            evidence |= {"since": change.since, "log_e": round(change.log_e, 3)}
        return DriftChange(SLICE, self._name(change.index), change.begins, evidence)

    def drifting(self) -> list[str]:
        """Return the names of the columns that drift now, each with its slice."""
        return [self._name(index) for index in self._panel.changed()]

    def _slice_of(self, index: int) -> dict[str, str]:
        key, value = self._values[index // len(self._widths)]
        name = self._keys[key].key
        return {name: self._labels[name][value]}

    def _name(self, index: int) -> str:
        key, value = next(iter(self._slice_of(index).items()))
        return f"{self._names[index % len(self._widths)]} where {key} is {value}"

    def document(self, now: RegionCounts, base: RegionCounts) -> Document:
        """Return each watched value of each key with its rows in the window and the columns that drift there; ``now``
        and ``base`` are the counts at the end and the start of the window."""
        document: Document = {}
        if not self._values:
            return document
        counts = self._counts(now, base)
        width, changed, log_m = len(self._widths), set(self._panel.changed()), self._panel.detector.log_m
        for index, (key, value) in enumerate(self._values):
            columns = range(index * width, (index + 1) * width)
            drifting = [
                {
                    "name": self._names[column - columns.start],
                    "since": self._panel.states[column].since,
                    "psi": round(compare_counts(self._usual[column], counts[column].tolist()).psi, 6),
                }
                for column in columns
                if column in changed
            ]
            name = self._keys[key].key
            document.setdefault(name, {})[self._labels[name][value]] = {
                "rows": int(counts[columns.start].sum()),
                "state": ColumnPhase.DRIFT.value if drifting else ColumnPhase.OK.value,
                "log_e": round(max(0.0, float(log_m[columns.start : columns.stop].max())), 3),
                "drifting": drifting,
            }
        return document

    def column(self, name: str, now: RegionCounts, base: RegionCounts) -> Document:
        """Return one column in each watched value of each key: its rows in the window, PSI, state and evidence."""
        document: Document = {}
        if not self._values or name not in self._names:
            return document
        place, counts, log_m = self._names.index(name), self._counts(now, base), self._panel.detector.log_m
        for index, (key, value) in enumerate(self._values):
            column = index * len(self._widths) + place
            state = self._panel.states[column]
            by_value = document.setdefault(self._keys[key].key, {})
            by_value[self._labels[self._keys[key].key][value]] = {
                "rows": int(counts[column].sum()),
                "psi": round(compare_counts(self._usual[column], counts[column].tolist()).psi, 6),
                "state": state.state.value,
                "since": state.since or None,
                "log_e": round(max(0.0, float(log_m[column])), 3),
            }
        return document
