"""Binds rows to inputs that have shapes of their own: a row has a nested list for each, or for the only one."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.cells import UnfitCells, cast_column, expected_of
from penstock.core.frames.columns import FilledRows, rule_of
from penstock.core.frames.frame import Frame, FrameColumn, list_names
from penstock.core.frames.layout import BoundRows, LayoutKind, row_width
from penstock.core.frames.nested import NestedArray
from penstock.core.frames.terms import RowTerms
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import PauseWork, no_pause
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.core.texts import shorten


class TensorRows:
    """The layout of the kind ``tensors``; see ``RowLayout``."""

    def __init__(self, signature: Signature, terms: RowTerms) -> None:
        self.kind = LayoutKind.TENSORS
        self._specs = signature.inputs
        self._ignores_extra = terms.extra_columns == "ignore"
        self.columns = tuple(spec.name for spec in signature.inputs)
        self.text_columns = frozenset(
            name for spec in signature.inputs if spec.datatype == "BYTES" for name in _names_of(spec)
        )

    def counts_in_order(self, names: Collection[str]) -> bool:
        """See ``RowLayout``; nobody names the values of an input."""
        width = len(_names_of(self._specs[0])) if len(self._specs) == 1 else 0
        return len(names) == width and not set(_names_of(self._specs[0])) & set(names)

    def bind_instances(self, instances: Sequence[Any], pause: PauseWork = no_pause) -> BoundRows:
        """See ``RowLayout``."""
        if not instances:
            raise InvalidInput("the request has no rows; expected at least one")
        if type(instances[0]) is not dict:
            return self.bind_values({self._only("each row").name: list(instances)}, pause)
        for row, instance in enumerate(instances):
            if type(instance) is not dict or instance.keys() != instances[0].keys():
                raise InvalidInput(f"row {row}: expected an object with {list_names(instances[0])}, as in the first")
        return self.bind_values({name: [row[name] for row in instances] for name in instances[0]}, pause)

    def bind_values(self, values: Any, pause: PauseWork = no_pause) -> BoundRows:
        """See ``RowLayout``."""
        if not isinstance(values, Mapping):
            return self.bind_values({self._only("the request").name: values}, pause)
        self._check_names(values)
        return BoundRows([self._read(spec, values[spec.name], pause) for spec in self._specs if spec.name in values])

    def bind_frame(self, frame: Frame, pause: PauseWork = no_pause) -> BoundRows:
        """See ``RowLayout``; a column has the name of its input, with the index of the value if there are several."""
        columns = dict(frame.columns)
        if len(self._specs) == 1 and not columns.keys() & set(_names_of(self._specs[0])):
            columns = self._by_position(columns)
        self._check_names({name.partition("[")[0]: None for name in columns})
        inputs = [_from_columns(spec, columns, frame.rows, pause) for spec in self._specs]
        return BoundRows([tensor for tensor in inputs if tensor is not None])

    def bind_array(self, values: Array) -> BoundRows:
        """See ``RowLayout``."""
        spec = self._only("the array")
        try:
            data = cast_column(values, spec.datatype)
        except (UnfitCells, KeyError):
            raise InvalidInput(f"input '{spec.name}': expected {expected_of(spec.datatype)} in each place") from None
        return BoundRows([Tensor(spec.name, spec.datatype, np.ascontiguousarray(data))])

    def _only(self, what: str) -> TensorSpec:
        """Return the only input; raises ``InvalidInput`` if there are several, and ``what`` does not name one."""
        if len(self._specs) != 1:
            raise InvalidInput(f"expected {what} to be an object with values for each of {list_names(self.columns)}")
        return self._specs[0]

    def _read(self, spec: TensorSpec, values: Any, pause: PauseWork) -> Tensor:
        reader = NestedArray(spec.name, spec.datatype, pause)
        array = reader.read(values)
        return Tensor(spec.name, spec.datatype, array, reader.text_bytes)

    def _check_names(self, names: Mapping[str, Any]) -> None:
        """Raise ``InvalidInput`` for inputs that the model does not take, unless they are ignored."""
        extra = [name for name in names if name not in self.columns]
        if extra and not self._ignores_extra:
            raise InvalidInput(f"unknown input '{shorten(str(extra[0]))}'; the model takes {list_names(self.columns)}")

    def _by_position(self, columns: Mapping[str, FrameColumn]) -> dict[str, FrameColumn]:
        """Return the columns of the only input by their place."""
        names = _names_of(self._specs[0])
        if len(names) != len(columns):
            raise InvalidInput(
                f"the data has {len(columns)} columns; expected {len(names)} for input '{self._specs[0].name}'"
            )
        return dict(zip(names, columns.values(), strict=True))


def _names_of(spec: TensorSpec) -> tuple[str, ...]:
    """Return the names of an input's columns, none if a row has no fixed number of values."""
    width = row_width(spec)
    return (spec.name,) if width == 1 else tuple(f"{spec.name}[{index}]" for index in range(width))


def _from_columns(spec: TensorSpec, columns: Mapping[str, FrameColumn], rows: int, pause: PauseWork) -> Tensor | None:
    """Return an input from its columns, None if it is optional and has none."""
    names, filled = _names_of(spec), FilledRows()
    if spec.optional and not columns.keys() & set(names):
        return None
    if not names:
        raise InvalidInput(f"input '{spec.name}' has no fixed number of values in a row; send it as nested lists")
    data = np.empty((rows, len(names)), NUMPY_TYPES[spec.datatype])
    for index, name in enumerate(names):
        rule = rule_of(name, spec.datatype)
        column = columns.get(name)
        data[:, index] = rule.fill_absent(rows, filled) if column is None else rule.cast(column, filled)
        pause()
    size = sum(map(len, data.ravel().tolist())) if spec.datatype == "BYTES" else 0
    return Tensor(spec.name, spec.datatype, data.reshape(rows, *spec.shape[1:]), size)
