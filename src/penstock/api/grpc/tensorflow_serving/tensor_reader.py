"""Reads TensorProto without a parser: content and packed numbers are views, varints are read in slices.

The rules are those of TensorFlow's ``tensor.proto``: elements are in ``tensor_content`` or in the list of their type,
and a list shorter than the shape repeats its last element, or means zeros if it is empty.
"""

from typing import Final

import numpy as np

from penstock.api.common.work import LargeWork, RequestWork
from penstock.api.grpc.tensorflow_serving.datatypes import DATATYPES, FIELD_OF, FIELDS
from penstock.api.grpc.typed_contents import unpack_varints
from penstock.api.grpc.wire import Span, check_parts, not_a_request, read_field, read_varint
from penstock.core.errors import InvalidInput, TooLarge
from penstock.core.protobuf_wire import BYTES, VARINT
from penstock.core.signature import Signature
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE
from penstock.core.tensors import (
    MAX_RANK,
    NUMPY_TYPES,
    PLAIN,
    Array,
    Tensor,
    element_count,
    from_raw,
    shape_text,
    text_from_bytes,
)
from penstock.core.texts import shorten

INLINE_FIELDS: Final = 256
"""Maximum number of fields of a tensor to read on the event loop."""

MAX_REPEATED: Final = 1 << 18
"""Maximum elements of a tensor whose list is shorter than its shape: memory that the message did not bring."""

_DTYPE, _SHAPE, _CONTENT, _TEXTS = 1, 2, 4, 8
_FIXED: Final = {5: "<f4", 6: "<f8"}
_VARINTS: Final = {7: "<i4", 10: "<i8", 11: "?", 13: "<i4", 16: "<u4", 17: "<u8"}


class TensorProtoReader:
    """One TensorProto of a message, and the places of its elements."""

    __slots__ = ("_content", "_dims", "_dtype", "_message", "_name", "_values", "_work")

    def __init__(self, name: str, message: bytes, work: RequestWork) -> None:
        self._name = name
        self._message = message
        self._work = work
        self._dtype = 0
        self._dims: list[int] = []
        self._content: Span | None = None
        self._values: list[tuple[int, int, int, int]] = []  # field, wire type, begin and end

    def read(self, start: int, stop: int, signature: Signature) -> Tensor:
        """Return the tensor at a place of the message; it is held against the signature before its data is read.

        Raises:
            InvalidInput: it is none of the signature's inputs, or its data contradicts its type or shape.
            TooLarge: it is over one of the limits.
            LargeWork: it has to be read on a thread.
        """
        self._scan(start, stop)
        name, shape = self._name, tuple(self._dims)
        datatype = DATATYPES.get(self._dtype)
        if datatype is None:
            raise InvalidInput(f"tensor '{shorten(name)}' has the dtype {self._dtype}, which is not offered")
        count = element_count(name, shape)
        signature.check(name, datatype, shape)
        if datatype == "BYTES":
            return self._text_tensor(shape, count)
        if self._content is not None:
            return Tensor(name, datatype, self._raw(datatype, shape, self._content))
        self._work.add_typed(name, count)
        return Tensor(name, datatype, self._elements(datatype, shape, count).reshape(shape))

    def _scan(self, start: int, stop: int) -> None:
        """Find type, shape and the places of the elements."""
        at, seen = start, 0
        while at < stop:
            number, kind, begin, end = read_field(self._message, at, stop)
            seen += 1
            if self._work.inline and seen > INLINE_FIELDS:
                raise LargeWork
            if seen % TEXT_SLICE == 0:
                self._work.pause()
            self._take(number, kind, begin, end)
            at = end

    def _take(self, number: int, kind: int, begin: int, end: int) -> None:
        if number in FIELDS:
            if number == _TEXTS:
                self._work.texts(self._name, 1)
            else:
                check_parts(len(self._values))
            self._values.append((number, kind, begin, end))
        elif number == _DTYPE and kind == VARINT:
            self._dtype = read_varint(self._message, begin, end)[0]
        elif number == _SHAPE and kind == BYTES:
            self._read_shape(begin, end)
        elif number == _CONTENT and kind == BYTES and end > begin:
            self._content = begin, end

    def _read_shape(self, start: int, stop: int) -> None:
        """Read a TensorShapeProto; the name of a dimension says nothing here."""
        at = start
        while at < stop:
            number, kind, begin, end = read_field(self._message, at, stop)
            if number == 2 and kind == BYTES:
                self._dims.append(self._read_dim(begin, end))
                if len(self._dims) > MAX_RANK:
                    raise InvalidInput(f"tensor '{shorten(self._name)}' has more than {MAX_RANK} dimensions")
            elif number == 3 and kind == VARINT and read_varint(self._message, begin, end)[0]:
                raise InvalidInput(f"tensor '{shorten(self._name)}' has an unknown rank; state its shape")
            at = end

    def _read_dim(self, start: int, stop: int) -> int:
        size, at = 0, start
        while at < stop:
            number, kind, begin, end = read_field(self._message, at, stop)
            if number == 1 and kind == VARINT:
                size = read_varint(self._message, begin, end)[0]
            at = end
        return size - (1 << 64) if size >> 63 else size

    def _raw(self, datatype: str, shape: tuple[int, ...], content: Span) -> Array:
        if self._values:
            raise InvalidInput(f"tensor '{self._name}' has both tensor_content and elements; expected one of them")
        raw = memoryview(self._message)[content[0] : content[1]]
        if datatype not in PLAIN:
            self._work.add_copied(len(raw))
        return from_raw(self._name, datatype, shape, raw, self._work.pause)

    # Typed lists.

    def _elements(self, datatype: str, shape: tuple[int, ...], count: int) -> Array:
        """Return ``count`` elements from the field of the datatype."""
        self._check_fields(datatype)
        pieces, found = [], 0
        for number, kind, begin, end in self._values:
            piece = self._numbers(number, kind, begin, end)
            pieces.append(piece)
            found += len(piece)
            if found > count:
                raise self._wrong_count(datatype, shape, count, "more")
        whole = pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, self._type_of(datatype)), *pieces])
        return self._repeat(_in_range(self._name, datatype, whole), datatype, shape, count)

    def _check_fields(self, datatype: str) -> None:
        expected = FIELD_OF[datatype]
        for number, _, _, _ in self._values:
            if number != expected:
                raise InvalidInput(
                    f"tensor '{self._name}' of {datatype} has {FIELDS[number]}; expected {FIELDS[expected]}"
                )

    def _type_of(self, datatype: str) -> str:
        number = FIELD_OF[datatype]
        return _FIXED.get(number) or _VARINTS[number]

    def _numbers(self, number: int, kind: int, begin: int, end: int) -> Array:
        """Return the numbers of one field: packed ones, or a single one."""
        fixed = _FIXED.get(number)
        if fixed is None:
            return self._varints(number, begin, end)
        size = np.dtype(fixed).itemsize
        if (end - begin) % size or kind == VARINT:
            raise not_a_request()
        return np.frombuffer(self._message, fixed, (end - begin) // size, begin)

    def _varints(self, number: int, begin: int, end: int) -> Array:
        pieces: list[Array] = []
        at = begin
        while at < end:
            values, size = unpack_varints(self._message, at, min(end, at + BYTE_SLICE))
            pieces.append(_interpret(values, _VARINTS[number]))
            at += size
            self._work.pause()
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, _VARINTS[number]), *pieces])

    def _repeat(self, values: Array, datatype: str, shape: tuple[int, ...], count: int) -> Array:
        """Return ``count`` elements: those given, then the last of them again."""
        if len(values) == count:
            return values
        if len(values) > count:
            raise self._wrong_count(datatype, shape, count, str(len(values)))
        if count > MAX_REPEATED:
            raise TooLarge(
                f"tensor '{self._name}' states {len(values)} of {count} elements; send all of them where they are "
                f"more than {MAX_REPEATED}"
            )
        whole = np.zeros(count, values.dtype)
        if len(values):
            whole[:] = values[-1]
            whole[: len(values)] = values
        return whole

    def _wrong_count(self, datatype: str, shape: tuple[int, ...], count: int, got: str) -> InvalidInput:
        stated = f"tensor '{self._name}' of {datatype} {shape_text(shape)}"
        return InvalidInput(f"{stated} needs {count} elements, got {got}")

    def _text_tensor(self, shape: tuple[int, ...], count: int) -> Tensor:
        """Return a tensor of texts; unlike numbers, they are not repeated."""
        if self._content is not None:
            raise InvalidInput(f"tensor '{self._name}' of BYTES has tensor_content; expected string_val")
        self._check_fields("BYTES")
        if len(self._values) != count:
            raise self._wrong_count("BYTES", shape, count, str(len(self._values)))
        size = sum([end - begin for _, _, begin, end in self._values])
        self._work.text_bytes(self._name, size)
        texts: list[str] = []
        for index, (_, kind, begin, end) in enumerate(self._values):
            if kind != BYTES:
                raise not_a_request()
            texts.append(text_from_bytes(self._name, index, self._message[begin:end]))
            if index % TEXT_SLICE == 0:
                self._work.pause()
        data = np.empty(count, object)
        data[:] = texts
        return Tensor(self._name, "BYTES", data.reshape(shape), size)


def _interpret(values: Array, kind: str) -> Array:
    """Convert varints to a field's type: a truth value, or the lowest bits."""
    dtype = np.dtype(kind)
    if dtype.kind == "b":
        return values.astype(np.bool_)
    return values.astype(f"<u{dtype.itemsize}").view(dtype)


def _in_range(name: str, datatype: str, values: Array) -> Array:
    """Return values in the type of the tensor; 16-bit floats are their bits."""
    kind = NUMPY_TYPES[datatype]
    if values.dtype == kind:
        return values
    bounds = np.iinfo(np.uint16 if kind.kind == "f" else kind)
    if len(values) and (values.min() < bounds.min or values.max() > bounds.max):
        raise InvalidInput(f"tensor '{name}' holds a number outside the range of {datatype}")
    return values.astype(np.uint16).view(kind) if kind.kind == "f" else values.astype(kind)
