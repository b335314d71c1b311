"""A decoded infer request, and what is cached of repeated ones: the header, or the JSON around the numbers of a row."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from penstock.core.frames.terms import DefaultedColumn
from penstock.core.signature import InputLayout, RowForm
from penstock.core.tensors import Tensor
from penstock.serving.requested_outputs import RequestedOutput


class InferBody:
    """A decoded request: ``given`` are its tensors, or the bytes of one row (see ``Signature.row``); ``binary`` says of
    each output (or of all, when ``requested`` is None) how it travels back, ``nulls`` that NaN and infinity may be null
    in JSON, ``defaulted`` where defaults of the model card stand in for missing values. ``explanation`` are the
    parameters of the explanation that is asked for instead of a prediction, if one is."""

    __slots__ = ("binary", "defaulted", "explanation", "given", "id", "nulls", "requested", "timeout_ns")

    def __init__(
        self,
        call_id: str,
        inputs: list[Tensor] | bytes,
        requested: list[RequestedOutput] | None,
        binary: list[bool] | bool,
        timeout_ns: int | None,
        nulls: bool,
        defaulted: tuple[DefaultedColumn, ...] = (),
    ) -> None:
        self.id = call_id
        self.given = inputs
        self.requested = requested
        self.binary = binary
        self.timeout_ns = timeout_ns
        self.nulls = nulls
        self.defaulted = defaulted
        self.explanation: dict[str, Any] | None = None


@dataclass(slots=True)
class KnownHeader:
    """The content of the JSON part of a binary request; the next request with the same part need not be parsed."""

    size: int
    inputs: tuple[InputLayout, ...]
    requested: list[RequestedOutput] | None
    binary: list[bool] | bool
    timeout_ns: int | None
    nulls: bool
    row: RowForm | None = None
    """The row of the only input, so that the next request of the version need not be compared."""

    def body(self, raw: bytes, header_length: int, row: RowForm | None) -> InferBody:
        """Return the body of a request with this header."""
        if row is not None and (row is self.row or row.is_only_input(self.inputs)):
            self.row = row
            return InferBody("", raw[header_length:], self.requested, self.binary, self.timeout_ns, self.nulls)
        tensors = [
            Tensor(name, datatype, np.frombuffer(raw, dtype, count, header_length + offset).reshape(shape))
            for name, datatype, dtype, count, offset, shape in self.inputs
        ]
        return InferBody("", tensors, self.requested, self.binary, self.timeout_ns, self.nulls)


class KnownRowText:
    """The JSON around the numbers of a request with one row: the next request with the same text before them and
    ``after`` them differs in its numbers only."""

    __slots__ = ("_row", "after")

    def __init__(self, after: bytes, row: RowForm) -> None:
        self.after = after
        self._row = row

    def fits(self, row: RowForm) -> bool:
        """Whether the text states this row; compared once for each version."""
        known = self._row
        if row is known:
            return True
        if (row.name, row.datatype, row.dims) != (known.name, known.datatype, known.dims):
            return False
        self._row = row
        return True
