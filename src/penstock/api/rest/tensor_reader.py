"""The inputs of a JSON or binary request as tensors, each checked against the signature first."""

from penstock.api.common.request_rules import NameCheck
from penstock.api.common.work import RequestWork
from penstock.api.rest.json_data import array_of
from penstock.api.rest.json_scan import JsonSkeleton
from penstock.api.rest.messages import NO_DATA, JsonInput, JsonRequest
from penstock.api.rest.parameters import span_of
from penstock.core.errors import InvalidInput
from penstock.core.signature import Signature
from penstock.core.tensors import PLAIN, RAW_ONLY, Array, Shape, Tensor, element_count, from_raw
from penstock.serving.shared_memory import SharedRegions


class TensorReader:
    """The inputs of one request on their way to tensors; each is held against the signature before its data is read.

    ``repeatable`` says, once they are read, that another request with this JSON differs in nothing but the bytes behind
    it: no data stands in the JSON or in shared memory, and any bytes are good. ``owner`` is the caller as the owner of
    shared memory regions.
    """

    __slots__ = (
        "_binary",
        "_cut",
        "_inputs",
        "_offset",
        "_owner",
        "_regions",
        "_signature",
        "_text",
        "_text_bytes",
        "_used",
        "_work",
        "repeatable",
    )

    def __init__(
        self,
        request: JsonRequest,
        text: bytes,
        cut: JsonSkeleton | None,
        binary: bytes | memoryview,
        signature: Signature,
        regions: SharedRegions,
        owner: str,
        work: RequestWork,
    ) -> None:
        self.repeatable = True
        self._inputs = request.inputs
        self._text = text
        self._cut = cut
        self._binary = binary
        self._signature = signature
        self._regions = regions
        self._owner = owner
        self._work = work
        self._offset = 0  # of the next binary tensor
        self._used = 0  # long lists of the JSON text
        self._text_bytes = 0  # of the tensor that is read

    def read(self) -> list[Tensor]:
        """Return all inputs, in order."""
        names, tensors = NameCheck(self._signature), []
        for item in self._inputs:
            names.input(item.name)
            self._text_bytes = 0
            array = self._array(item)
            tensors.append(Tensor(item.name, item.datatype, array, self._text_bytes))
            self._work.pause()
        if self._offset != len(self._binary):
            raise InvalidInput(f"{len(self._binary) - self._offset} bytes are left over after the last binary input")
        if self._cut is not None and self._used != len(self._cut.lists):
            raise InvalidInput("the request has a long list that is not the data of an input")
        return tensors

    def _array(self, item: JsonInput) -> Array:
        name, datatype, shape = item.name, item.datatype, tuple(item.shape)
        count = element_count(name, shape)
        self._signature.check(name, datatype, shape)
        if datatype == "BYTES":
            self._work.texts(name, count)
        shared = span_of(name, item.parameters, self._regions, self._owner) if item.parameters else None
        size = self._binary_size(item)
        if shared is not None:
            self._work.add_copied(shared.size)
            self._count_text(item, shared.size)
            self.repeatable = False
            return from_raw(name, datatype, shape, shared.read(), self._work.pause)
        if size is None:
            self.repeatable = False
            return self._json_array(item, shape, count)
        if datatype not in PLAIN:
            self._work.add_copied(size)
            self._count_text(item, size)
            self.repeatable = False
        self._offset += size
        return from_raw(name, datatype, shape, self._binary[self._offset - size : self._offset], self._work.pause)

    def _binary_size(self, item: JsonInput) -> int | None:
        left = len(self._binary) - self._offset
        if not item.parameters or "binary_data_size" not in item.parameters:
            alone = left and item.data is NO_DATA and len(self._inputs) == 1
            return left if alone else None  # one input alone may leave the obvious out
        size = item.parameters["binary_data_size"]
        if size is None:
            return None
        if type(size) is not int or size < 0:
            raise InvalidInput(f"binary_data_size of input '{item.name}' must be a whole number of bytes")
        if item.data is not NO_DATA and bytes(item.data) != b"null":
            raise InvalidInput(f"input '{item.name}' has both data and binary_data_size; expected one of them")
        if size > left:
            raise InvalidInput(
                f"input '{item.name}' announces {size} binary bytes, but only {left} are left in the body"
            )
        return size

    def _json_array(self, item: JsonInput, shape: Shape, count: int) -> Array:
        if item.datatype in RAW_ONLY:
            raise InvalidInput(
                f"input '{item.name}' is {item.datatype}, which has no JSON form; send it as binary data"
            )
        if item.data is NO_DATA:
            raise InvalidInput(f"input '{item.name}' has no data")
        data = bytes(item.data)
        if self._cut is not None and (index := self._cut.place(data)) >= 0:
            start, stop = self._cut.lists[index]
            self._used += 1
            data = self._text[start:stop]
        self._count_text(item, len(data))
        return array_of(item.name, item.datatype, shape, count, data, self._work.pause)

    def _count_text(self, item: JsonInput, size: int) -> None:
        """Count the size of the data of an input, if it is text."""
        if item.datatype == "BYTES":
            self._work.text_bytes(item.name, size)
            self._text_bytes = size
