"""The drift report of scored rows: the monitor's counts and verdicts for a file, against the reference of a version."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from penstock.core.errors import NotFound
from penstock.core.policies import MonitorPolicy
from penstock.core.signature import Signature
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.reference import Reference, decode_reference
from penstock.monitor.rows import MOST_VALUES, RegionCounts, RegionLayout, RowCounter
from penstock.monitor.verdicts import VersionMonitor

LOOK_ROWS: Final = 1000
"""Rows between two looks at the evidence."""

WHOLE_S: Final = 1e12
"""A window that all rows are in."""

Document = dict[str, Any]


class BatchDrift:
    """Counts the rows of a file as the monitor of a gateway would, as a source of their own. Of one thread at a time.

    Rows have no times here: they are compared with the whole reference, not with that of an hour.
    """

    def __init__(self, reference: Document | None, signature: Signature, names: Sequence[str], title: str) -> None:
        self._reference = _without_hours(decode_reference(check_reference(reference, title)))
        columns = (
            input_columns(signature.inputs, signature.batching, names),
            output_columns(signature.outputs, signature.batching),
        )
        self._cells = np.zeros(RegionLayout.of(self._reference).size, np.uint64)
        self._counter = RowCounter(self._reference, self._cells, columns, 1.0)
        self._looks = 0
        policy = MonitorPolicy(window_s=WHOLE_S)
        self._monitor = VersionMonitor(self._reference, policy, self._counts(), 0.0)

    def add(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> None:
        """Count rows, and look at the evidence."""
        if not inputs or not outputs:
            return
        rows = len(inputs[0].data)
        cells = sum(tensor.data.size for tensor in inputs)
        step = min(LOOK_ROWS, max(1, MOST_VALUES * rows // max(1, cells)))  # of more values a sample would be counted
        for start in range(0, rows, step):
            self._counter.count([(_slice_rows(inputs, start, step), _slice_rows(outputs, start, step))])
            self._looks += 1
            self._monitor.evaluate(self._counts(), float(self._looks))

    def _counts(self) -> RegionCounts:
        return RegionCounts.of(self._reference, [self._cells])

    def document(self) -> Document:
        """Return the report: the document of the monitor, and the columns that drift or have more invalid values."""
        document = self._monitor.document()
        drifting = [item["name"] for item in (*document["features"], *document["outputs"]) if item["state"] == "drift"]
        violated = [item["name"] for item in document["quality"]["violated"]]
        window = {"rows": document["window"]["rows"]}
        return {"source": "batch", "drifting": drifting, "violated": violated, **document, "window": window}


def check_reference(reference: Document | None, title: str) -> Document:
    """Return the reference of a version.

    Raises:
        NotFound: it has none.
    """
    if reference is None:
        raise NotFound(f"{title} has no reference; push it with one (see penstock profile)")
    return reference


def _without_hours(reference: Reference) -> Reference:
    """Return a reference without its counts by the hour."""
    inputs, outputs = (
        tuple(replace(item, hours=()) for item in side) for side in (reference.inputs, reference.outputs)
    )
    joint = reference.joint
    joint = None if joint is None else replace(joint, feature=replace(joint.feature, hours=()))
    return replace(reference, inputs=inputs, outputs=outputs, joint=joint)


def _slice_rows(tensors: Sequence[Tensor], start: int, rows: int) -> list[Tensor]:
    return [Tensor(tensor.name, tensor.datatype, tensor.data[start : start + rows]) for tensor in tensors]
