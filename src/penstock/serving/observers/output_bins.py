"""Counts what versions answer, for rollouts that compare it: in bunches, after the answers are written."""

import asyncio

import numpy as np

from penstock.core.tensors import Tensor
from penstock.monitor.counters import OUTPUTS
from penstock.monitor.outputs import bins_of
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion

BUNCH = 256
"""Calls that are held back for counting at most; one turn of the loop does not bring more."""


class OutputBinCounter:
    """One version's; see ``calls.Follower``."""

    __slots__ = ("_bunch", "_names", "_served")

    def __init__(self, loaded: LoadedVersion) -> None:
        self._served = loaded
        self._names = {spec.name: index for index, spec in enumerate(loaded.signature.outputs[:OUTPUTS])}
        self._bunch: list[list[Tensor]] = []

    def offer(self, call: InferCall) -> None:
        """Count the outputs of a call soon; classes that the protocol has already turned into texts are left out."""
        if not self._bunch:
            asyncio.get_running_loop().call_soon(self._count)
        if len(self._bunch) < BUNCH and (
            call.requested is None or not any(requested_output.classes for requested_output in call.requested)
        ):
            self._bunch.append(call.outputs)

    def _count(self) -> None:
        bunch, self._bunch = self._bunch, []
        batching = self._served.signature.batching
        found: dict[int, list[np.ndarray]] = {}
        for tensors in bunch:
            for tensor in tensors:
                index = self._names.get(tensor.name)
                if index is not None:
                    found.setdefault(index, []).append(bins_of(tensor.data, batching))
        for index, bins in found.items():
            self._served.block.outputs(index, np.concatenate(bins))
