"""Makes the layout of a version's rows."""

from penstock.core.frames.layout import LayoutKind, RowLayout, kind_of
from penstock.core.frames.named_rows import NamedRows
from penstock.core.frames.tensor_rows import TensorRows
from penstock.core.frames.terms import NO_TERMS, RowTerms
from penstock.core.signature import Signature


def row_layout(signature: Signature, terms: RowTerms = NO_TERMS) -> RowLayout:
    """Return how rows become the inputs of a version with this signature and these terms."""
    is_named = kind_of(signature, terms) is not LayoutKind.TENSORS
    return NamedRows(signature, terms) if is_named else TensorRows(signature, terms)
