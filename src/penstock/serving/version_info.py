"""The constant facts of a loaded version that calls, encoders and observers need."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from penstock.core.frames.terms import NO_TERMS, RowTerms
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.monitor.counters.block_writer import BlockWriter
from penstock.serving.requested_outputs import RequestedOutput

if TYPE_CHECKING:
    from penstock.core.frames.layout import RowLayout

NO_BOUND: Final = 1 << 62


@dataclass(frozen=True, slots=True)
class VersionIdentity:
    """Names a loaded version."""

    model: str
    version: str


class VersionInfo:
    """The facts of one version: its names, signature, counter block, and the names of its outputs.

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
        self.row_terms = NO_TERMS
        self._row_layout: RowLayout | None = None

    @property
    def row_layout(self) -> "RowLayout":
        """Return how rows become the inputs of the version; on any thread."""
        if self._row_layout is None:
            from penstock.core.frames.binding import row_layout  # noqa: PLC0415 - only dialects need it

            self._row_layout = row_layout(self.signature, self.row_terms)
        return self._row_layout

    def set_row_terms(self, terms: RowTerms) -> None:
        """Set what the version says about its rows."""
        self.row_terms, self._row_layout = terms, None

    def names(self, requested: Sequence[RequestedOutput] | None) -> list[str]:
        """Return the names of the requested outputs, each once; all of them for None.

        Raises:
            InvalidInput: the model has no such output.
        """
        if requested is None:
            return self.output_names
        for item in requested:
            self.signature.output(item.name)
        return [item.name for item in requested]

    def output_bytes(self, rows: int, requested: Sequence[RequestedOutput] | None) -> int:
        """Return the minimum bytes of the outputs of this number of rows: those with a size fixed by the signature."""
        if requested is None:
            return rows * self.row_bytes
        specs = [self.signature.output(item.name) for item in requested]
        return rows * _row_bytes(specs, self.signature.batching)

    def tensors(self, arrays: Sequence[Array]) -> list[Tensor]:
        """Return all outputs with their names and datatypes."""
        names, datatypes = self.output_names, self._datatypes
        return [Tensor(names[index], datatypes[index], array) for index, array in enumerate(arrays)]

    def requested_tensors(self, requested: Sequence[RequestedOutput] | None, arrays: Sequence[Array]) -> list[Tensor]:
        """Return the requested outputs, from ``arrays`` in the order of ``names``; encoders convert them to other
        forms.
        """
        if requested is None:
            return self.tensors(arrays)
        datatypes = [self.signature.output(item.name).datatype for item in requested]
        return [
            Tensor(item.name, datatype, array)
            for item, datatype, array in zip(requested, datatypes, arrays, strict=True)
        ]


def _row_bytes(specs: Sequence[TensorSpec], batching: bool) -> int:
    """Return the bytes of one row of these outputs; outputs of free size and texts are excluded."""
    total = 0
    for spec in specs:
        size = 0 if spec.datatype == "BYTES" else NUMPY_TYPES[spec.datatype].itemsize
        for dim in spec.shape[1:] if batching else spec.shape:
            size *= max(dim, 0)
        total += size
    return total
