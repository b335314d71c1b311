"""Counts what versions answer, for rollouts that compare it: in batches, after the answers are written."""

import asyncio

import numpy as np

from penstock.core.tensors import Tensor
from penstock.monitor.counters import OUTPUTS
from penstock.monitor.outputs import bins_of
from penstock.serving.infer_call import InferCall
from penstock.serving.version_info import VersionInfo

MAX_CALLS = 256
"""Calls that are held back for counting at most; one turn of the loop does not bring more."""


class OutputBinCounter:
    """One version's; a ``CallObserver``."""

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
        found: dict[int, list[np.ndarray]] = {}
        for tensors in answered:
            for tensor in tensors:
                index = self._names.get(tensor.name)
                if index is not None:
                    found.setdefault(index, []).append(bins_of(tensor.data, batching))
        for index, bins in found.items():
            self._info.block.outputs(index, np.concatenate(bins))
