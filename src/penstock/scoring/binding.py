"""Binds the columns of record batches to the inputs of a version."""

from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np

from penstock.core.errors import InvalidInput
from penstock.core.frames.binding import row_layout
from penstock.core.frames.frame import list_names
from penstock.core.frames.layout import BoundRows
from penstock.core.frames.terms import RowTerms
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import NUMPY_TYPES, Tensor
from penstock.core.texts import shorten
from penstock.monitor.pyarrow_extra import Batch
from penstock.monitor.record_batches import frame_of, nested_values, parse_numbers

OPTION_HINT: Final = "name the columns of the features, in order, with --features"
"""What users of the command line can do where columns have other names than the version's."""


class BatchBinder:
    """Turns record batches into a version's inputs. Any thread may call it.

    ``are_texts`` says that every column comes as text, as from CSV. An input that is a column of lists, as of
    embeddings, is taken as it is; all others come from columns by name, see ``core.frames``. ``hint`` says what to do
    if a column is missing.
    """

    def __init__(self, signature: Signature, terms: RowTerms, are_texts: bool = False, hint: str = OPTION_HINT) -> None:
        self._hint = hint
        self._specs = signature.inputs
        self._defaults = terms.defaults
        self._layout = row_layout(signature, RowTerms(terms.names, terms.defaults, "ignore"))
        self._are_texts = are_texts

    @property
    def columns(self) -> tuple[str, ...]:
        """Return the names of the columns that the version takes."""
        return self._layout.columns

    def check(self, present: Sequence[str]) -> None:
        """Check the names of the columns of an input.

        Raises:
            InvalidInput: one is missing that has no default.
        """
        if set(present) & {spec.name for spec in self._specs}:
            return
        known = self._known(present)
        missing = [name for name in self._layout.columns if name not in known and name not in self._defaults]
        if missing and not self._is_positional(present):
            raise InvalidInput(
                f"the input has no column {list_names(missing)}; it has {list_names(present)}, and the model takes "
                f"{list_names(self._layout.columns)}; {self._hint}"
            )

    def __call__(self, batch: Batch) -> BoundRows:
        """Return the inputs; raises ``InvalidInput`` with the row, from 0, and the column of what does not fit."""
        names = batch.schema.names
        if any(spec.name in names for spec in self._specs) and (nested := self._nested(batch)):
            return BoundRows(nested)
        known = self._known(names)
        chosen = batch.select(list(names) if self._is_positional(names) else known)
        if self._are_texts:
            chosen = parse_numbers(chosen, self._layout.text_columns)
        return self._layout.bind_frame(frame_of(chosen))

    def _known(self, present: Sequence[str]) -> list[str]:
        return [name for name in self._layout.columns if name in present]

    def _is_positional(self, present: Sequence[str]) -> bool:
        """Whether columns are meant by their order: none has a name that the version takes, and there are as many."""
        return not self._known(present) and len(present) == len(self._layout.columns)

    def _nested(self, batch: Batch) -> list[Tensor] | None:
        """Return the inputs from columns of lists, None if there are none."""
        found = [_nested_tensor(batch, spec) if spec.name in batch.schema.names else None for spec in self._specs]
        tensors = [tensor for tensor in found if tensor is not None]
        if tensors and len(tensors) < len(self._specs):
            raise InvalidInput(f"expected a column of lists for each of {list_names(s.name for s in self._specs)}")
        return tensors or None


def _nested_tensor(batch: Batch, spec: TensorSpec) -> Tensor | None:
    values = nested_values(batch, spec.name)
    if values is None:
        return None
    rows, dims = batch.num_rows, spec.shape[1:]
    free = [index for index, dim in enumerate(dims) if dim < 0]
    if len(free) > 1 or spec.datatype == "BYTES":
        raise InvalidInput(f"input '{shorten(spec.name)}' cannot be read from a column of lists")
    try:
        shaped = values.reshape(rows, *dims)
    except ValueError:
        size = prod(dim for dim in dims if dim > 0)
        raise InvalidInput(f"column '{shorten(spec.name)}': expected lists of {size} numbers in each row") from None
    return Tensor(spec.name, spec.datatype, np.ascontiguousarray(shaped.astype(NUMPY_TYPES[spec.datatype], copy=False)))
