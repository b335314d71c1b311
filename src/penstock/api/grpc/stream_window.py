"""Limits the open requests of a stream by number and bytes, with estimated sizes of answers."""

from math import prod
from typing import Final

from penstock.core.signature import TensorSpec
from penstock.core.tensors import NUMPY_TYPES
from penstock.serving.version_info import VersionInfo

UNKNOWN: Final = -1
"""The size of an answer that cannot be estimated."""


class StreamWindow:
    """The open requests of one stream, and the bytes they hold until their answers are sent.

    A request counts with the estimated size of its answer: at most the size by the model's shapes, and at most the
    largest answer so far. While neither is known, only one request is admitted.
    """

    __slots__ = ("_largest", "_max_bytes", "_max_requests", "_requests", "_used_bytes")

    def __init__(self, max_requests: int, max_bytes: int) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._requests = self._used_bytes = 0
        self._largest = UNKNOWN

    @property
    def has_capacity(self) -> bool:
        """Whether another request of unknown size could be admitted."""
        return not self._requests or (self._requests < self._max_requests and self._used_bytes < self._max_bytes)

    def admit(self, request_bytes: int, answer_bytes: int) -> int:
        """Admit a request and return its estimated bytes; -1 if there is no capacity. A single request always fits."""
        expected = self._expected(answer_bytes)
        size = request_bytes + max(expected, 0)
        if self._requests and (
            expected == UNKNOWN or not self.has_capacity or self._used_bytes + size > self._max_bytes
        ):
            return -1
        self._requests += 1
        self._used_bytes += size
        return size

    def _expected(self, answer_bytes: int) -> int:
        if UNKNOWN in (answer_bytes, self._largest):
            return max(answer_bytes, self._largest)
        return min(answer_bytes, self._largest)

    def set_answer_size(self, held: int, answer_bytes: int) -> int:
        """Replace the estimate of a request by the size of its answer, and return that."""
        self._used_bytes += answer_bytes - held
        self._largest = max(answer_bytes, self._largest - self._largest // 8)
        return answer_bytes

    def release(self, held: int) -> None:
        """Release a request whose answer is sent."""
        self._requests -= 1
        self._used_bytes -= held


class AnswerSizes:
    """Estimates the answers of one version by its shapes: bytes of an input row and of an output row."""

    __slots__ = ("_row_in", "_row_out")

    def __init__(self, loaded: VersionInfo) -> None:
        signature = loaded.signature
        self._row_in = _row_bytes(signature.inputs, signature.batching)
        self._row_out = _row_bytes(signature.outputs, signature.batching)

    def expected(self, request_bytes: int) -> int:
        """Return the maximum bytes of the answer to a request of ``request_bytes``; ``UNKNOWN`` if shapes are free."""
        if UNKNOWN in (self._row_out, self._row_in):
            return UNKNOWN
        return self._row_out * (1 + request_bytes // max(1, self._row_in))


def _row_bytes(specs: tuple[TensorSpec, ...], batching: bool) -> int:
    """Return the bytes of one row of all tensors, ``UNKNOWN`` for BYTES or a free dimension beside the batch."""
    total = 0
    for spec in specs:
        row = spec.shape[1:] if batching else spec.shape
        if spec.datatype == "BYTES" or any(dim < 0 for dim in row):
            return UNKNOWN
        total += prod(row) * NUMPY_TYPES[spec.datatype].itemsize
    return total
