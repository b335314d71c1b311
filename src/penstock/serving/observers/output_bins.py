"""Counts the outputs of versions for rollouts that compare them: in batches, after the answers are written."""

import asyncio
from random import random
from typing import Final

import numpy as np

from penstock.core.tensors import Array, Tensor
from penstock.monitor.counters.layout import OUTPUTS
from penstock.monitor.outputs import bins_of
from penstock.serving.infer_call import InferCall
from penstock.serving.version_info import VersionInfo

MAX_CALLS = 256
"""Maximum calls to hold for counting; one turn of the loop does not have more."""

MAX_CELLS: Final = 100_000
"""Maximum numbers of each output to count in one turn of the loop: of larger outputs, some rows are counted."""

MAX_ROW_CELLS: Final = 1 << 20
"""Maximum numbers of a row to count."""


class OutputBinCounter:
    """Counts the outputs of one version; a ``CallObserver``."""

    __slots__ = ("_info", "_names", "_outputs")

    def __init__(self, info: VersionInfo) -> None:
        self._info = info
        self._names = {spec.name: index for index, spec in enumerate(info.signature.outputs[:OUTPUTS])}
        self._outputs: list[list[Tensor]] = []

    def offer(self, call: InferCall) -> None:
        """Count the outputs of a call soon."""
        outputs = call.outputs if call.counted else None
        if not outputs or len(self._outputs) >= MAX_CALLS:
            return
        if not self._outputs:
            asyncio.get_running_loop().call_soon(self._count)
        self._outputs.append(outputs)

    def _count(self) -> None:
        answered, self._outputs = self._outputs, []
        batching = self._info.signature.batching
        most = MAX_CELLS // len(answered)
        counted: dict[int, list[np.ndarray]] = {}
        for tensors in answered:
            for tensor in tensors:
                index = self._names.get(tensor.name)
                if index is not None:
                    rows = some_rows(tensor.data, batching, most)
                    counted.setdefault(index, []).append(bins_of(rows, batching))
        for index, bins in counted.items():
            self._info.block.count_outputs(index, np.concatenate(bins))


def some_rows(output: Array, batching: bool, most: int) -> Array:
    """Return evenly spaced rows of an output from a random one on, with about ``most`` numbers and at least one row;
    none if a row is too large. The first axis is rows for models that batch; otherwise the whole output is one row.
    """
    rows = len(output) if batching and output.ndim else 1
    if output.size > MAX_ROW_CELLS * rows:
        return output[:0] if output.ndim else output
    step = -(-output.size // max(1, most))
    if step < 2 or rows < 2:
        return output
    return output[int(random() * min(step, rows)) :: step]
