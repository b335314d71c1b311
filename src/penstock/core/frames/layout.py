"""How rows become the inputs of a version, in three kinds: one tensor of features, one input for each column, or
tensors as they are."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import prod
from typing import Any, Protocol

from penstock.core.frames.columns import REQUIRED, ColumnRule, rule_of
from penstock.core.frames.frame import DEFAULT_LIMITS, Frame
from penstock.core.frames.terms import NO_TERMS, DefaultedColumn, RowTerms
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import PauseWork, no_pause
from penstock.core.tensors import Array, Tensor


class LayoutKind(StrEnum):
    """How the rows of a version become its inputs."""

    FEATURES = "features"
    """Its only input has one value for each column."""

    COLUMNS = "columns"
    """Each input has the values of one column."""

    TENSORS = "tensors"
    """Inputs have shapes of their own; a row has a nested list for each."""


@dataclass(frozen=True, slots=True)
class BoundRows:
    """The ``inputs`` of a request, and the columns of which values were missing."""

    inputs: list[Tensor]
    defaulted: tuple[DefaultedColumn, ...] = ()


class RowLayout(Protocol):
    """How the rows of one version become its inputs. Immutable, of any thread.

    All raise ``InvalidInput`` with the row, counted from 0, and the column of what does not fit. What the signature
    checks of every request, such as the size of a batch, is left to it. There is a pause after each slice of values.
    """

    kind: LayoutKind
    columns: tuple[str, ...]
    """The names of the columns, in order; those of the inputs where they are tensors as they are."""

    text_columns: frozenset[str]
    """The columns that are texts: readers of CSV need to know."""

    def counts_in_order(self, names: Collection[str]) -> bool:
        """Whether the columns of a table with these names are the layout's in their order: there are as many, and
        either the table numbers them, or nobody gave the model's columns names, so that none can be confused."""

    def bind_instances(self, instances: Sequence[Any], pause: PauseWork = no_pause) -> BoundRows:
        """Return the inputs for rows: each is a list of values in the order of the columns, an object of values by
        column or input, or, where rows have one value, that value."""

    def bind_values(self, values: Any, pause: PauseWork = no_pause) -> BoundRows:
        """Return the inputs for values of all rows by column or input, or those of the only input alone."""

    def bind_frame(self, frame: Frame, pause: PauseWork = no_pause) -> BoundRows:
        """Return the inputs for a frame: by the names of its columns, or in their order (``counts_in_order``)."""

    def bind_array(self, values: Array) -> BoundRows:
        """Return the only input for an array of its values, with or without the axis of a single value."""


def kind_of(signature: Signature, terms: RowTerms = NO_TERMS) -> LayoutKind:
    """Return how the rows of a version become its inputs."""
    specs = signature.inputs
    if len(specs) == 1 and _feature_count(specs[0], terms):
        return LayoutKind.FEATURES
    are_columns = bool(specs) and all(len(spec.shape) == 1 or _is_single(spec) for spec in specs)
    are_plain = all(spec.datatype != "BF16" for spec in specs)
    return LayoutKind.COLUMNS if are_columns and are_plain else LayoutKind.TENSORS


def rules_of(signature: Signature, terms: RowTerms) -> list[ColumnRule]:
    """Return the rule of each column of a layout that is not of tensors."""
    if kind_of(signature, terms) is LayoutKind.COLUMNS:
        return [
            rule_of(spec.name, spec.datatype, terms.defaults.get(spec.name, REQUIRED), len(spec.shape) > 1)
            for spec in signature.inputs
        ]
    [spec] = signature.inputs
    names = column_names(spec, _feature_count(spec, terms), terms)
    return [rule_of(name, spec.datatype, terms.defaults.get(name, REQUIRED), len(names) == 1) for name in names]


def column_names(spec: TensorSpec, width: int, terms: RowTerms) -> tuple[str, ...]:
    """Return the names of the columns of the only input: those of the features, else the input's with an index, as
    in the monitor."""
    if len(terms.names) == width and len(set(terms.names)) == width:
        return terms.names
    return (spec.name,) if width == 1 else tuple(f"{spec.name}[{index}]" for index in range(width))


def _feature_count(spec: TensorSpec, terms: RowTerms) -> int:
    """Return the number of columns of an input of features, 0 if it is none."""
    if len(spec.shape) != 2 or spec.datatype == "BF16":
        return 0
    width = len(terms.names) if spec.shape[1] < 0 else spec.shape[1]
    return width if 0 < width <= DEFAULT_LIMITS.columns else 0


def _is_single(spec: TensorSpec) -> bool:
    return len(spec.shape) == 2 and spec.shape[1] == 1


def row_width(spec: TensorSpec) -> int:
    """Return the number of values that a row has of an input, -1 if it is not fixed."""
    dims = spec.shape[1:]
    return -1 if any(dim < 0 for dim in dims) else prod(dims)
