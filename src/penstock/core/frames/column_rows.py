"""Binds rows with a value for each column: to one tensor of features, or to one input for each column."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.cells import ABSENT, UnfitCells, describe_value, pack_rows
from penstock.core.frames.columns import ColumnRule, FilledRows, common_length
from penstock.core.frames.frame import Frame, FrameColumn, list_names
from penstock.core.frames.layout import BoundRows, LayoutKind, kind_of, rules_of
from penstock.core.frames.terms import DefaultedColumn, RowTerms
from penstock.core.signature import Signature
from penstock.core.slices import NUMBER_SLICE, TEXT_SLICE, PauseWork, no_pause
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor
from penstock.core.texts import shorten

_NO_ROWS: Final = "the request has no rows; expected at least one"


class ColumnRows:
    """The layout of the kinds ``features`` and ``columns``; see ``RowLayout``."""

    def __init__(self, signature: Signature, terms: RowTerms) -> None:
        self.kind = kind_of(signature, terms)
        self._rules = rules_of(signature, terms)
        self._specs = signature.inputs
        self._ignores_extra = terms.extra_columns == "ignore"
        self.columns = tuple(rule.name for rule in self._rules)
        self.text_columns = frozenset(rule.name for rule in self._rules if rule.datatype == "BYTES")
        self._known = frozenset(self.columns)
        self._has_names = self.kind is LayoutKind.COLUMNS or self.columns == terms.names
        self._pick = itemgetter(*self.columns)
        self._optional = frozenset(spec.name for spec in signature.inputs if spec.optional) & self._known
        self._is_numeric = self.kind is LayoutKind.FEATURES and not self.text_columns and len(self.columns) > 1
        cells = TEXT_SLICE if self.text_columns else NUMBER_SLICE
        self._slice = max(1, cells // len(self._rules))

    def counts_in_order(self, names: Collection[str]) -> bool:
        """See ``RowLayout``."""
        if len(names) != len(self.columns) or not self._known.isdisjoint(names):
            return False
        return not self._has_names or all(name == str(index) for index, name in enumerate(names))

    def bind_instances(self, instances: Sequence[Any], pause: PauseWork = no_pause) -> BoundRows:
        """See ``RowLayout``."""
        rows = self._unwrap(instances)
        if not rows:
            raise InvalidInput(_NO_ROWS)
        inputs = _Inputs(self, len(rows), self._left_out(rows))
        for first in range(0, len(rows), self._slice):
            if first:
                pause()
            self._bind_slice(rows[first : first + self._slice], first, inputs)
        return inputs.bound()

    def bind_values(self, values: Any, pause: PauseWork = no_pause) -> BoundRows:
        """See ``RowLayout``."""
        if not isinstance(values, Mapping):
            if not isinstance(values, list) or len(self._specs) != 1:
                raise InvalidInput(f"expected an object with a list of values for each of {list_names(self.columns)}")
            return self.bind_instances(values, pause)
        alone = self._alone(values)
        if alone is not None:
            return self.bind_values(alone, pause)
        self._check_names(values)
        for name, column in values.items():
            if not isinstance(column, list):
                raise InvalidInput(f"column '{shorten(name)}': expected a list of values, got {describe_value(column)}")
        rows = common_length([(name, values[name]) for name in self.columns if name in values])
        return self._bind_columns(values, rows, pause)

    def bind_frame(self, frame: Frame, pause: PauseWork = no_pause) -> BoundRows:
        """See ``RowLayout``."""
        columns = self._columns_of(frame)
        if not frame.rows:
            raise InvalidInput(_NO_ROWS)
        inputs = _Inputs(self, frame.rows, self._optional - columns.keys())
        for rule, target in inputs.targets():
            column = columns.get(rule.name)
            if column is None:
                target[:] = rule.fill_absent(frame.rows, inputs.filled)
            else:
                inputs.fill(rule, target, column)
            pause()
        return inputs.bound()

    def bind_array(self, values: Array) -> BoundRows:
        """See ``RowLayout``."""
        width = len(self._rules)
        rows = values.reshape(-1, 1) if values.ndim == 1 and width == 1 else values
        if rows.ndim != 2 or rows.shape[1] != width:
            raise InvalidInput(f"the array has the shape {list(values.shape)}; expected {width} columns in each row")
        return self.bind_frame(
            Frame({name: FrameColumn(rows[:, index]) for index, name in enumerate(self.columns)}, len(rows))
        )

    def _unwrap(self, instances: Sequence[Any]) -> Sequence[Any]:
        """Return rows without the objects that only name the single input."""
        first = instances[0] if len(instances) else None
        if type(first) is not dict or self._alone(first) is None:
            return instances
        name = self._specs[0].name
        for row, instance in enumerate(instances):
            if type(instance) is not dict or instance.keys() != {name}:
                raise InvalidInput(f"row {row}: expected an object with '{name}' only, as in the rows before")
        return [instance[name] for instance in instances]

    def _alone(self, values: Mapping[str, Any]) -> Any:
        """Return the value of the single input, if there is nothing else and no column has its name."""
        name = self._specs[0].name
        if len(self._specs) == 1 and name not in self._known and values.keys() == {name}:
            return values[name]
        return None

    def _left_out(self, rows: Sequence[Any]) -> frozenset[str]:
        """Return the optional inputs that no row has."""
        if not self._optional or type(rows[0]) is not dict:
            return frozenset()
        return frozenset(name for name in self._optional if not any(name in row for row in rows))

    def _bind_slice(self, rows: Sequence[Any], first: int, inputs: "_Inputs") -> None:
        """Bind some rows, of which the first has the index ``first``."""
        packed = self._pack(rows) if self._is_numeric else None
        if packed is not None:
            inputs.arrays[0][first : first + len(rows)] = packed
            return
        for (rule, target), values in zip(inputs.targets(), self._transpose(rows, first, inputs.left_out), strict=True):
            target[first : first + len(rows)] = inputs.take(rule, values, first)

    def _pack(self, rows: Sequence[Any]) -> Array | None:
        """Return rows of plain numbers [rows, columns], None if they need a closer look."""
        kinds, width = set(map(type, rows)), len(self.columns)
        if kinds not in _PLAIN or set(map(len, rows)) != {width}:
            return None
        try:
            lists = map(list, map(self._pick, rows)) if kinds == {dict} else rows
            return pack_rows(lists, self._specs[0].datatype).reshape(len(rows), width)
        except (KeyError, UnfitCells):
            return None

    def _transpose(self, rows: Sequence[Any], first: int, left_out: frozenset[str]) -> list[list[Any]]:
        """Return the values of each column that is bound."""
        kind, width = type(rows[0]), len(self.columns)
        for index, row in enumerate(rows):
            if type(row) is not kind:
                raise InvalidInput(f"row {first + index}: expected {_FORMS.get(kind, 'a value')} as in the rows before")
            if kind is dict and len(row) != width:
                self._check_names(row, first + index)
            if kind is list and len(row) != width:
                raise InvalidInput(f"row {first + index} has {len(row)} values; expected {width}: {self._listed()}")
        if kind is dict:
            return [[row.get(name, ABSENT) for row in rows] for name in self.columns if name not in left_out]
        if kind is list:
            return [list(values) for values in zip(*rows, strict=True)]
        if width != 1:
            raise InvalidInput(
                f"row {first}: expected a list or an object of {width} values, {self._listed()}; got "
                f"{describe_value(rows[0])}"
            )
        return [list(rows)]

    def _listed(self) -> str:
        return list_names(self.columns)

    def _check_names(self, names: Mapping[str, Any], row: int | None = None) -> None:
        """Raise ``InvalidInput`` for columns that the model does not take, unless they are ignored."""
        if self._ignores_extra or names.keys() <= self._known:
            return
        extra = next(name for name in names if name not in self._known)
        where = "" if row is None else f"row {row}: "
        raise InvalidInput(
            f"{where}unknown column '{shorten(str(extra))}'; the model takes {self._listed()} (to ignore others, set "
            "extra_columns)"
        )

    def _bind_columns(self, values: Mapping[str, Any], rows: int, pause: PauseWork) -> BoundRows:
        if not rows:
            raise InvalidInput(_NO_ROWS)
        inputs = _Inputs(self, rows, frozenset(name for name in self._optional if name not in values))
        for rule, target in inputs.targets():
            column = values.get(rule.name)
            size = TEXT_SLICE if rule.datatype == "BYTES" else NUMBER_SLICE
            for first in range(0, rows, size):
                last = min(rows, first + size)
                part = [ABSENT] * (last - first) if column is None else column[first:last]
                target[first:last] = inputs.take(rule, part, first)
                pause()
        return inputs.bound()

    def _columns_of(self, frame: Frame) -> dict[str, FrameColumn]:
        """Return a frame's columns by the names of the layout's."""
        if self.counts_in_order(frame.columns):
            return dict(zip(self.columns, frame.columns.values(), strict=True))
        self._check_names(frame.columns)
        return {name: column for name, column in frame.columns.items() if name in self._known}

    def place_of(self, name: str) -> tuple[str, int]:
        """Return where a column lies: its input, and the index in a row of it."""
        if self.kind is LayoutKind.FEATURES:
            return self._specs[0].name, self.columns.index(name)
        return name, 0

    @property
    def rules(self) -> list[ColumnRule]:
        """Return the rules of the columns, in order."""
        return self._rules

    def tensor_shapes(self, rows: int) -> list[tuple[str, str, tuple[int, ...]]]:
        """Return name, datatype and shape of each input for a number of rows."""
        if self.kind is LayoutKind.FEATURES:
            [spec] = self._specs
            return [(spec.name, spec.datatype, (rows, len(self._rules)))]
        return [(spec.name, spec.datatype, (rows, *spec.shape[1:])) for spec in self._specs]


_FORMS: Final[dict[type, str]] = {dict: "an object", list: "a list"}
_PLAIN: Final = ({list}, {dict})


class _Inputs:
    """The inputs of a request while they are filled; ``left_out`` are optional ones that it does not have."""

    def __init__(self, layout: ColumnRows, rows: int, left_out: frozenset[str]) -> None:
        self._layout = layout
        self.left_out = left_out
        self._heads = [head for head in layout.tensor_shapes(rows) if head[0] not in left_out]
        self.arrays = [np.empty(shape, NUMPY_TYPES[datatype]) for _, datatype, shape in self._heads]
        self.filled = FilledRows()
        self._sizes = Counter[str]()

    def targets(self) -> list[tuple[ColumnRule, Array]]:
        """Return the rule of each column with the part [rows] of an input that it fills."""
        rules = [rule for rule in self._layout.rules if rule.name not in self.left_out]
        if self._layout.kind is LayoutKind.FEATURES:
            return [(rule, self.arrays[0][:, index]) for index, rule in enumerate(rules)]
        return [(rule, array.reshape(-1)) for rule, array in zip(rules, self.arrays, strict=True)]

    def take(self, rule: ColumnRule, values: list[Any], first: int) -> Array:
        """Return values of one column in its type, and count what stands in for missing ones."""
        array, size = rule.convert(values, first, self.filled)
        self._sizes[rule.name] += size
        return array

    def fill(self, rule: ColumnRule, target: Array, column: FrameColumn) -> None:
        """Fill ``target`` with the column of a frame."""
        target[:] = rule.cast(column, self.filled)
        if rule.datatype == "BYTES":
            self._sizes[rule.name] += sum(map(len, target.tolist()))

    def bound(self) -> BoundRows:
        """Return the inputs."""
        is_one = self._layout.kind is LayoutKind.FEATURES
        inputs = [
            Tensor(name, datatype, array, self._sizes.total() if is_one else self._sizes[name])
            for (name, datatype, _), array in zip(self._heads, self.arrays, strict=True)
        ]
        return BoundRows(inputs, self._defaulted())

    def _defaulted(self) -> tuple[DefaultedColumn, ...]:
        return tuple(
            DefaultedColumn(name, *self._layout.place_of(name), np.frombuffer(rows, np.int64))
            for name, rows in self.filled.by_column.items()
        )
