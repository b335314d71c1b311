"""Masks of values: tensors and columns by their names, and what matches a pattern in texts.

A mask is applied before a request or an answer is written or shown anywhere.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from penstock.core.tensors import Array, Tensor
from penstock.core.value_patterns import MASKED, mask_values
from penstock.monitor.columns import Columns

MAX_TEXT_CHARACTERS: Final = 16 << 10
"""Characters of a text that are searched for patterns; a longer text is masked as a whole."""

MAX_SEARCHED_CHARACTERS: Final = 64 << 10
"""Characters that are searched at a time, as the search must not delay a worker: they take 40 ms at worst. A tensor
with more is left out."""


class ValueMask:
    """Masks the values of inputs, or of outputs.

    ``masked`` names tensors or columns, by name or by index (``x[0]``); ``*`` stands for any characters. A mask by
    index still holds when the columns get names. ``patterns`` are names of ``core.value_patterns``.
    """

    def __init__(self, columns: Columns, masked: Sequence[str], patterns: Sequence[str] = ()) -> None:
        self._names = [re.compile(".*".join(map(re.escape, name.split("*"))), re.DOTALL) for name in masked]
        self._patterns = tuple(patterns)
        self._columns = {
            tensor: [
                index for index, name in enumerate(names) if self._hides(name) or self._hides(f"{tensor}[{index}]")
            ]
            for tensor, names in columns.tensors().items()
        }

    @property
    def is_empty(self) -> bool:
        """Whether nothing is masked."""
        return not self._names and not self._patterns

    def hides(self, tensor: str) -> bool:
        """Whether a tensor, or one of its columns, is masked by name."""
        return self._hides(tensor) or bool(self._columns.get(tensor))

    def changes(self, tensors: Sequence[Tensor]) -> bool:
        """Whether values of these tensors may be masked: by name, or by a pattern in texts."""
        return any(self.hides(item.name) or bool(self._patterns and item.data.dtype == object) for item in tensors)

    def __call__(self, tensor: Tensor) -> Array | None:
        """Return the data of a tensor without masked values, None if all of it is masked."""
        if self._hides(tensor.name):
            return None
        data = self._without_columns(tensor)
        return self._without_patterns(data) if self._patterns and data.dtype == object else data

    def apply(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors without masked values; those that are masked as a whole are left out."""
        if self.is_empty:
            return list(tensors)
        found = [(tensor, self(tensor)) for tensor in tensors]
        return [Tensor(tensor.name, tensor.datatype, data) for tensor, data in found if data is not None]

    def count_searched(self, tensors: Sequence[Tensor]) -> int:
        """Return how many characters of these tensors have to be searched for patterns."""
        if not self._patterns:
            return 0
        texts = (tensor.data.ravel().tolist() for tensor in tensors if tensor.data.dtype == object)
        return sum([min(len(value), MAX_TEXT_CHARACTERS) for values in texts for value in values])

    def _hides(self, name: str) -> bool:
        return any(pattern.fullmatch(name) for pattern in self._names)

    def _without_columns(self, tensor: Tensor) -> Array:
        hidden = self._columns.get(tensor.name)
        if not hidden:
            return tensor.data
        data = tensor.data.reshape(len(tensor.data), -1).copy() if tensor.data.ndim else tensor.data.copy()
        data[..., hidden] = np.nan if data.dtype.kind == "f" else "" if data.dtype == object else 0
        return data.reshape(tensor.data.shape)

    def _without_patterns(self, data: Array) -> Array | None:
        values = data.ravel().tolist()
        if sum([min(len(value), MAX_TEXT_CHARACTERS) for value in values]) > MAX_SEARCHED_CHARACTERS:
            return None
        masked = np.empty(len(values), object)
        masked[:] = [self._masked(value) for value in values]
        return masked.reshape(data.shape)

    def _masked(self, value: Any) -> str:
        text = value.decode(errors="replace") if isinstance(value, bytes) else str(value)
        return MASKED if len(text) > MAX_TEXT_CHARACTERS else mask_values(text, self._patterns)


@dataclass(frozen=True, slots=True)
class RequestMask:
    """The masks of a version's inputs and outputs."""

    inputs: ValueMask
    outputs: ValueMask

    def masked_sides(self, inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[str]:
        """Return which sides of a request are not as they were: ``inputs``, ``outputs``."""
        sides = (("inputs", self.inputs, inputs), ("outputs", self.outputs, outputs))
        return [side for side, mask, tensors in sides if not mask.is_empty and mask.changes(tensors)]


def request_mask(columns: tuple[Columns, Columns], masked: Sequence[str], patterns: Sequence[str]) -> RequestMask:
    """Return the masks for the columns of a version's inputs and outputs."""
    return RequestMask(*map(partial(ValueMask, masked=masked, patterns=patterns), columns))


NO_MASK: Final = request_mask((Columns((), False), Columns((), False)), (), ())
