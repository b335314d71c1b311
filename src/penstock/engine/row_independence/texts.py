"""Operators on texts: those that cut texts into pieces pad every row to the longest of the run, which the rules follow
until the pieces have been counted."""

from penstock.engine.row_independence.broadcasting import same_shape
from penstock.engine.row_independence.operation import Operation, rows_at
from penstock.engine.row_independence.sizes import ONE
from penstock.engine.row_independence.values import GraphValue, NotProven, laid_out


def string_normalizer(op: Operation) -> list[GraphValue]:
    """StringNormalizer: another case for each text. Stop words are taken out of the whole vector, and so would rows be;
    a matrix may only have one line."""
    value = op.tensor(0)
    if op.node.attributes.get("stopwords", ()) != ():
        raise NotProven("removes every row that is one of its stop words")
    if value.rank not in (1, 2) or (value.rank == 2 and value.shape[0] != ONE):
        raise NotProven("takes a vector of texts, or a matrix with a single line")
    return same_shape(op)


def tokens(op: Operation) -> list[GraphValue]:
    """Tokenizer of com.microsoft: the pieces of each text along a new last axis. Marks for the ends of a text are left
    out if no text of the run has a piece."""
    if op.flag("mark"):
        raise NotProven("marks the ends of a row's text only if some row of the run has a token")
    return [_pad(op, op.text("pad_value", ""))]


def split(op: Operation) -> list[GraphValue]:
    """StringSplit: the pieces of each text along a new last axis, and how many there are."""
    return [_pad(op, ""), *same_shape(op)]


def _pad(op: Operation, padding: str) -> GraphValue:
    value = op.tensor(0)
    dims = (*value.shape, op.fresh())
    return GraphValue(dims, value.rows, padding=None if value.rows is None else padding)


def tfidf_vectorizer(op: Operation) -> list[GraphValue]:
    """TfIdfVectorizer: how often terms occur in each line of a matrix. Padding follows the pieces of each line, so it
    changes nothing if it is part of no term."""
    value = op.padded_tensor(0)
    if value.rank != 2:
        raise NotProven("takes a value that is not a matrix as one row")
    if value.padding is not None and value.padding in _read_pool(op):
        raise NotProven("counts the text that pads the rows")
    return [laid_out([value.shape[0], op.fresh()], rows_at(value, 0))]


def _read_pool(op: Operation) -> tuple[int | float | str, ...]:
    """The texts that terms are made of."""
    pool = op.node.attributes.get("pool_strings")
    if not isinstance(pool, tuple):
        raise NotProven("does not list the texts that it counts")
    return pool
