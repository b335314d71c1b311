"""Decodes typed contents of large messages to arrays without a parser: packed numbers as views, varints in slices."""

from collections.abc import Iterator
from typing import Final

import numpy as np

from penstock.api.grpc.wire import Span, check_parts, not_a_request, read_field
from penstock.core.errors import InvalidInput
from penstock.core.protobuf_wire import BYTES, MalformedMessage, read_varints
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE, PauseWork
from penstock.core.tensors import NUMPY_TYPES, Array, text_from_bytes

NAMES: Final = {
    1: "bool_contents",
    2: "int_contents",
    3: "int64_contents",
    4: "uint_contents",
    5: "uint64_contents",
    6: "fp32_contents",
    7: "fp64_contents",
    8: "bytes_contents",
}
"""The fields of InferTensorContents by number."""

_NUMBERS: Final = {name: number for number, name in NAMES.items()}
_FIXED: Final = {6: "<f4", 7: "<f8"}
"""Types of fields with elements of a fixed size."""

_VARINTS: Final = {1: "?", 2: "<i4", 3: "<i8", 4: "<u4", 5: "<u8"}
"""Types of fields with varints."""


class TypedContents:
    """Reads the contents of one input, only from the field of its datatype."""

    def __init__(self, name: str, datatype: str, field: str, message: bytes, pause: PauseWork) -> None:
        self._name = name
        self._datatype = datatype
        self._field = field
        self._number = _NUMBERS[field]
        self._message = message
        self._pause = pause
        self._steps = 0
        self._parts = 0

    def array(self, spans: list[Span], most: int) -> Array:
        """Return all elements, or some more than ``most`` if there are more.

        Raises:
            InvalidInput: another datatype's field, numbers that are not packed or outside the datatype's range, or
                text that is not UTF-8.
            TooLarge: a text is too long, or there are too many parts.
        """
        pieces: list[Array] = []
        texts: list[str] = []
        count = 0
        for kind, start, stop in self._values(spans):
            if self._datatype == "BYTES":
                texts.append(text_from_bytes(self._name, count, self._message[start:stop]))
                count += 1
            else:
                pieces.append(self._read_packed(kind, start, stop, most - count))
                count += len(pieces[-1])
            if count > most:
                break
        if self._datatype == "BYTES":
            return self._texts(texts)
        whole = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self._type()), *pieces])
        return self._in_range(whole)

    def _values(self, spans: list[Span]) -> Iterator[tuple[int, int, int]]:
        """Return the wire type and position of each value of the field; one value may hold many packed numbers."""
        for begin, stop in spans:
            at = begin
            while at < stop:
                number, kind, start, end = read_field(self._message, at, stop)
                self._step(end - at)
                at = end
                if number != self._number or self._datatype != "BYTES":
                    self._parts += 1
                    check_parts(self._parts)
                if number == self._number:
                    yield kind, start, end
                elif number in NAMES and (kind != BYTES or end > start):
                    raise InvalidInput(
                        f"input '{self._name}' of {self._datatype} has {NAMES[number]}; expected {self._field}"
                    )

    def _type(self) -> str:
        return _FIXED.get(self._number) or _VARINTS[self._number]

    def _read_packed(self, kind: int, start: int, stop: int, most: int) -> Array:
        """Return the numbers of one packed value; of more than ``most``, some are not read."""
        if kind != BYTES:
            raise InvalidInput(
                f"the typed contents of input '{self._name}' are not packed; pack them, or send raw_input_contents"
            )
        fixed = _FIXED.get(self._number)
        if fixed is None:
            return self._varints(start, stop, most)
        size = np.dtype(fixed).itemsize
        if (stop - start) % size:
            raise not_a_request()
        return np.frombuffer(self._message, fixed, (stop - start) // size, start)

    def _varints(self, start: int, stop: int, most: int) -> Array:
        pieces: list[Array] = []
        count, at = 0, start
        while at < stop and count <= most:
            values, size = unpack_varints(self._message, at, min(stop, at + BYTE_SLICE))
            pieces.append(self._interpret(values))
            count += len(values)
            at += size
            self._pause()
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self._type()), *pieces])

    def _interpret(self, values: Array) -> Array:
        """Convert varints to the field's type: a truth value, or the lowest bits."""
        if self._number == 1:
            return values.astype(np.bool_)
        kind = np.dtype(_VARINTS[self._number])
        return values.astype(f"<u{kind.itemsize}").view(kind)

    def _in_range(self, values: Array) -> Array:
        kind = NUMPY_TYPES[self._datatype]
        if values.dtype == kind:
            return values
        bounds = np.iinfo(kind)
        if len(values) and (values.min() < bounds.min or values.max() > bounds.max):
            raise InvalidInput(f"input '{self._name}' holds a number outside the range of {self._datatype}")
        return values.astype(kind)

    def _texts(self, texts: list[str]) -> Array:
        values = np.empty(len(texts), object)
        for start in range(0, len(texts), TEXT_SLICE):
            values[start : start + TEXT_SLICE] = texts[start : start + TEXT_SLICE]
            self._pause()
        return values

    def _step(self, size: int) -> None:
        self._steps += min(size, BYTE_SLICE) + BYTE_SLICE // TEXT_SLICE
        if self._steps > BYTE_SLICE:
            self._steps = 0
            self._pause()


def unpack_varints(message: bytes, start: int, stop: int) -> tuple[Array, int]:
    """Return the complete varints of a part of a message as unsigned numbers [numbers], at least one, and the bytes
    that they take; raises ``InvalidInput``."""
    try:
        values, size = read_varints(np.frombuffer(message, np.uint8, stop - start, start))
    except MalformedMessage:
        raise not_a_request() from None
    if not size:
        raise not_a_request()
    return values, size
