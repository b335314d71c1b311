"""How far ahead of its reader a stream may work: a bound on requests and on bytes, with answers weighed beforehand."""

from math import prod
from typing import Final

from penstock.core.signature import TensorSpec
from penstock.core.tensors import NUMPY_TYPES
from penstock.serving.version_info import VersionInfo

UNKNOWN: Final = -1
"""The size of an answer that cannot be told beforehand."""


class StreamWindow:
    """The requests of one stream that are worked on or whose answers are not sent yet, and the bytes they hold.

    A request is admitted with the size its answer is thought to have: at most what the model's shapes tell, and not
    more than the largest answer so far. While neither is known, it has to be alone.
    """

    __slots__ = ("_largest", "_max_bytes", "_max_requests", "_requests", "_used_bytes")

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests = self._used_bytes = 0
        self._largest = UNKNOWN

    @property
    def has_room(self) -> bool:
        """Whether another request of unknown size could be admitted."""
        return not self._requests or (self._requests < self._max_requests and self._used_bytes < self._max_bytes)

    def admit(self, request_bytes: int, answer_bytes: int) -> int:
        """Take what a request may come to hold, in bytes; -1 if there is no room. One that is alone always fits."""
        expected = self._expected(answer_bytes)
        size = request_bytes + max(expected, 0)
        if self._requests and (expected == UNKNOWN or not self.has_room or self._used_bytes + size > self._max_bytes):
            return -1
        self._requests += 1
        self._used_bytes += size
        return size

    def _expected(self, answer_bytes: int) -> int:
        if UNKNOWN in (answer_bytes, self._largest):
            return max(answer_bytes, self._largest)
        return min(answer_bytes, self._largest)

    def answered(self, held: int, answer_bytes: int) -> int:
        """Replace what a request was thought to hold by its answer; what it holds now."""
        self._used_bytes += answer_bytes - held
        self._largest = max(answer_bytes, self._largest - self._largest // 8)
        return answer_bytes

    def release(self, held: int) -> None:
        """A request is over, and its answer on its way."""
        self._requests -= 1
        self._used_bytes -= held


class AnswerSizes:
    """What answers of one version take, as far as its shapes tell: bytes of a row in, and of a row out."""

    __slots__ = ("_row_in", "_row_out")

    def __init__(self, loaded: VersionInfo) -> None:
        signature = loaded.signature
        self._row_in = _row_bytes(signature.inputs, signature.batching)
        self._row_out = _row_bytes(signature.outputs, signature.batching)

    def expected(self, request_bytes: int) -> int:
        """Bytes of the answer to a request of so many bytes, at most; ``UNKNOWN`` where shapes do not tell."""
        if UNKNOWN in (self._row_out, self._row_in):
            return UNKNOWN
        return self._row_out * (1 + request_bytes // max(1, self._row_in))


def _row_bytes(specs: tuple[TensorSpec, ...], batching: bool) -> int:
    """Bytes of one row of all these tensors, ``UNKNOWN`` if a dimension beside the batch is free, or for texts."""
    total = 0
    for spec in specs:
        row = spec.shape[1:] if batching else spec.shape
        if spec.datatype == "BYTES" or any(dim < 0 for dim in row):
            return UNKNOWN
        total += prod(row) * NUMPY_TYPES[spec.datatype].itemsize
    return total
