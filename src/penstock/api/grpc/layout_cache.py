"""Caches the layout of requests by their bytes, so that similar requests need not be parsed."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from penstock.api.grpc.decode import InferMessage
from penstock.api.grpc.wire import PARAMETERS, RAW_CONTENTS, ParsedRequest, read_field
from penstock.core.bounded_cache import BoundedCache
from penstock.core.errors import InvalidInput
from penstock.core.protobuf_wire import BYTES, encode_varint
from penstock.core.signature import InputLayout, RowForm
from penstock.core.tensors import NUMPY_TYPES, PLAIN, Tensor
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.requested_outputs import RequestedOutput

MAX_LENGTHS: Final = 256
"""Maximum number of message lengths to cache; clients choose them."""

MAX_ALIKE: Final = 8
"""Maximum number of layouts for one length: different models, parameters or names may have the same length."""

MAX_LAYOUT: Final = 4096
"""Maximum bytes before the first value of a cached message."""

_ID: Final = b"\x1a"
"""The tag of ``id``, the third field."""


@dataclass(slots=True)
class RequestLayout:
    """The common part of requests that differ only in their ids and tensor values: everything up to the id, which ends
    at ``id_stop``, from there to the first value, ``heads`` between the values by their positions, and the decoded
    content.
    """

    start: bytes
    id_stop: int
    middle: bytes
    heads: tuple[tuple[int, int, bytes], ...]
    inputs: tuple[InputLayout, ...]
    target: tuple[str, str]
    requested: list[RequestedOutput] | None
    timeout_ns: int | None
    size: int
    """Bytes of a message."""

    row: RowForm | None = None
    """The row of the only input, so that the next request of the version need not be compared."""

    def fits(self, raw: bytes) -> bool:
        """Whether a message of the same length has this layout."""
        id_start, id_stop, middle = len(self.start), self.id_stop, self.middle
        if raw[:id_start] != self.start or raw[id_stop : id_stop + len(middle)] != middle:
            return False
        if id_stop > id_start and not raw[id_start:id_stop].isascii():
            return False  # it may be no text
        for begin, end, head in self.heads:  # noqa: SIM110 - a generator for each message would cost more
            if raw[begin:end] != head:
                return False
        return True

    def id(self, raw: bytes) -> str:
        """Return the id of a request with this layout, "" without one."""
        return raw[len(self.start) : self.id_stop].decode()

    def tensors(self, raw: bytes, row: RowForm | None) -> list[Tensor] | bytes:
        """Return the tensors of a request with this layout, or the bytes of its only row (see ``Signature.row``)."""
        if row is not None and (row is self.row or row.is_only_input(self.inputs)):
            self.row = row
            return raw[self.heads[0][1] :]
        return [
            Tensor(name, datatype, np.frombuffer(raw, dtype, count, offset).reshape(shape))
            for name, datatype, dtype, count, offset, shape in self.inputs
        ]


class LayoutCache:
    """The layouts of one server, by length of the message, newest first."""

    def __init__(self) -> None:
        self._known: BoundedCache[int, list[RequestLayout]] = BoundedCache(
            MAX_LENGTHS, MAX_LENGTHS * MAX_ALIKE * MAX_LAYOUT
        )
        self._last: RequestLayout | None = None

    def find(self, raw: bytes) -> RequestLayout | None:
        """Return the layout of a message, None if it is unknown. Any thread may call it."""
        last = self._last
        if last is not None and last.size == len(raw) and last.fits(raw):
            return last
        alike = self._known.get(len(raw))
        if alike is not None:
            for layout in alike:
                if layout.fits(raw):
                    self._last = layout
                    return layout
        return None

    def learn(self, parsed: ParsedRequest, message: InferMessage) -> None:
        """Cache the layout of a request, if its values come last and any values are valid."""
        layout = _find_layout(parsed, message)
        if layout is None:
            return
        raw = parsed.message
        alike = [layout, *(self._known.get(len(raw)) or [])][:MAX_ALIKE]
        self._known.put(len(raw), alike, sum([len(item.start) + len(item.middle) for item in alike]))


def _find_layout(parsed: ParsedRequest, message: InferMessage) -> RequestLayout | None:
    """Return the layout of a request; None if the values of another one could change its meaning."""
    request, raw, tensors = parsed.request, parsed.message, message.tensors
    if (
        message.explanation is not None
        or message.typed
        or message.closing
        or not tensors
        or len(parsed.raw_contents) != len(tensors)
    ):
        return None
    if any(item.into is not None for item in message.requested or ()):
        return None  # what is in shared memory belongs to one caller, and may be elsewhere the next time
    if any(tensor.datatype not in PLAIN for tensor in tensors):
        return None
    start = pb.ModelInferRequest(model_name=request.model_name, model_version=request.model_version).SerializeToString()
    call_id = request.id.encode()
    if call_id:
        start += _ID + encode_varint(len(call_id))
    id_stop = len(start) + len(call_id)
    if raw[:id_stop] != start + call_id:
        return None
    try:
        values = _find_raw_entries(raw, id_stop, len(tensors))
    except InvalidInput:  # the parser knows more forms
        return None
    if values is None or values[0][0] > MAX_LAYOUT:
        return None
    inputs = tuple(
        (item.name, item.datatype, NUMPY_TYPES[item.datatype], item.data.size, begin, item.data.shape)
        for item, (_, begin, _) in zip(tensors, values, strict=True)
    )
    heads = tuple((tag, begin, raw[tag:begin]) for tag, begin, _ in values)
    target = request.model_name, request.model_version
    middle = raw[id_stop : values[0][0]]
    return RequestLayout(start, id_stop, middle, heads, inputs, target, message.requested, message.timeout_ns, len(raw))


def _find_raw_entries(raw: bytes, at: int, count: int) -> list[tuple[int, int, int]] | None:
    """Return the entries of raw_input_contents as the positions of tag, value and end; None unless they are the last
    fields of the message, there are ``count``, and no earlier field is repeated.
    """
    found: list[tuple[int, int, int]] = []
    while at < len(raw):
        number, kind, start, end = read_field(raw, at, len(raw))
        if number == RAW_CONTENTS and kind == BYTES:
            found.append((at, start, end))
        elif found or number < PARAMETERS:
            return None
        at = end
    return found if len(found) == count else None
