"""Bytes in JSON as TensorFlow Serving writes them: ``{"b64": "..."}`` for a text, in and out.

ONNX string tensors hold UTF-8, so other bytes are refused; an image travels as numbers, or in V2's binary form.
"""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from penstock.api.common.work import RequestWork
from penstock.core.errors import InvalidInput
from penstock.core.slices import BYTE_SLICE, TEXT_SLICE
from penstock.core.tensors import Tensor

KEY: Final = "b64"
SUFFIX: Final = "_bytes"
"""Outputs of texts whose names end so are written in this form."""


def decode_binary(value: Any, work: RequestWork) -> Any:
    """Return a JSON value with each ``{"b64": ...}`` replaced by its text; raises ``InvalidInput``."""
    return _Decoder(work).value(value)


class _Decoder:
    def __init__(self, work: RequestWork) -> None:
        self._work = work
        self._steps = 0

    def value(self, value: Any) -> Any:
        """Return one value of any kind; the reader of the JSON has bounded how deep it is nested."""
        if isinstance(value, list):
            return [self.value(item) for item in value] if _holds_more(value) else value
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and isinstance(value.get(KEY), str):
            return self._text(value[KEY])
        return {name: self.value(item) for name, item in value.items()}

    def _text(self, encoded: str) -> str:
        self._steps += min(len(encoded), BYTE_SLICE) + BYTE_SLICE // TEXT_SLICE
        if self._steps > BYTE_SLICE:
            self._steps = 0
            self._work.pause()
        try:
            raw = b64decode(_pad_base64(encoded), validate=True)
        except ValueError:
            raise InvalidInput('a value of "b64" is not base64') from None
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise InvalidInput('a value of "b64" is not UTF-8; ONNX string tensors hold UTF-8 text') from None


def _holds_more(items: list[Any]) -> bool:
    """Whether a list may hold objects; one of numbers is not gone through."""
    return any(isinstance(item, list | dict) for item in items)


def _pad_base64(encoded: str) -> str:
    """Return base64 with its padding, which TensorFlow Serving does not require."""
    return encoded + "=" * (-len(encoded) % 4)


def has_binary(outputs: Sequence[Tensor]) -> bool:
    """Whether an output is written in this form."""
    return any(_is_binary(tensor) for tensor in outputs)


def encode_binary(outputs: Sequence[Tensor], work: RequestWork) -> Sequence[Tensor]:
    """Return the outputs of an answer with their bytes in this form; raises ``LargeWork`` or ``TooLarge``."""
    if not has_binary(outputs):
        return outputs
    return [_encode_binary(tensor, work) if _is_binary(tensor) else tensor for tensor in outputs]


def _is_binary(tensor: Tensor) -> bool:
    return tensor.datatype == "BYTES" and tensor.name.endswith(SUFFIX)


def _encode_binary(tensor: Tensor, work: RequestWork) -> Tensor:
    work.texts(tensor.name, tensor.data.size)
    values = np.empty(tensor.data.size, object)
    for index, text in enumerate(tensor.data.ravel().tolist()):
        values[index] = {KEY: b64encode(text.encode()).decode()}
        if index % TEXT_SLICE == 0:
            work.pause()
    return Tensor(tensor.name, tensor.datatype, values.reshape(tensor.data.shape))
