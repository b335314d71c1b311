"""The facts of a loaded version that calls, encoders and observers need; they do not change while it is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.serving.requested_outputs import RequestedOutput

NO_BOUND: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class VersionIdentity:
    """Names a loaded version."""

    model: str
    version: str


class VersionInfo:
    """One version: its names, its signature, the block of its counters, and how outputs get their names.

    ``most_rows`` is the largest number of rows whose outputs all fit into an answer, as far as the signature fixes
    their size.
    """

    def __init__(
        self, identity: VersionIdentity, signature: Signature, block: BlockWriter, limits: RequestLimits | None = None
    ) -> None:
        self.identity = identity
        self.signature = signature
        self.block = block
        self.limits = limits or RequestLimits()
        self.max_output_bytes = self.limits.max_output_bytes
        self.output_names = [spec.name for spec in signature.outputs]
        self.row_elements = 0 if signature.row is None else signature.row.elements
        self.row_bytes = _row_bytes(signature.outputs, signature.batching)
        self.most_rows = self.max_output_bytes // self.row_bytes if self.row_bytes else NO_BOUND
        self._datatypes = [spec.datatype for spec in signature.outputs]

    def names(self, requested: Sequence[RequestedOutput] | None) -> list[str]:
        """The names of the outputs that were asked for, each once; all of them for None.

        Raises:
            InvalidInput: the model has no such output.
        """
        if requested is None:
            return self.output_names
        for item in requested:
            self.signature.output(item.name)
        return [item.name for item in requested]

    def output_bytes(self, rows: int, requested: Sequence[RequestedOutput] | None) -> int:
        """What the outputs of so many rows take at least: those whose size the signature fixes, in bytes."""
        if requested is None:
            return rows * self.row_bytes
        specs = [self.signature.output(item.name) for item in requested]
        return rows * _row_bytes(specs, self.signature.batching)

    def tensors(self, arrays: Sequence[Array]) -> list[Tensor]:
        """All outputs with their names and datatypes."""
        return list(map(Tensor, self.output_names, self._datatypes, arrays))

    def requested_tensors(self, requested: Sequence[RequestedOutput] | None, arrays: Sequence[Array]) -> list[Tensor]:
        """The outputs that were asked for, of ``arrays`` in the order of ``names``; encoders give them other forms."""
        if requested is None:
            return self.tensors(arrays)
        datatypes = [self.signature.output(item.name).datatype for item in requested]
        return [
            Tensor(item.name, datatype, array)
            for item, datatype, array in zip(requested, datatypes, arrays, strict=True)
        ]


def _row_bytes(specs: Sequence[TensorSpec], batching: bool) -> int:
    """What one row of these outputs takes; those of free size and of texts are left out."""
    total = 0
    for spec in specs:
        size = 0 if spec.datatype == "BYTES" else NUMPY_TYPES[spec.datatype].itemsize
        for dim in spec.shape[1:] if batching else spec.shape:
            size *= max(dim, 0)
        total += size
    return total
