"""Makes the layout of a version's rows."""

from penstock.core.frames.column_rows import ColumnRows
from penstock.core.frames.layout import LayoutKind, RowLayout, kind_of
from penstock.core.frames.tensor_rows import TensorRows
from penstock.core.frames.terms import NO_TERMS, RowTerms
from penstock.core.signature import Signature


def row_layout(signature: Signature, terms: RowTerms = NO_TERMS) -> RowLayout:
    """Return how rows become the inputs of a version with this signature and these terms."""
    has_columns = kind_of(signature, terms) is not LayoutKind.TENSORS
    return ColumnRows(signature, terms) if has_columns else TensorRows(signature, terms)
