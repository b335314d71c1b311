"""The JSON bodies of MLflow's scoring protocol: a frame in two forms, or tensors in two forms."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any, Final

import msgspec

from penstock.api.common.work import INLINE_JSON
from penstock.api.rest.dialects.base import RowsBody, RowsRequest
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.number_rows import pack_rows
from penstock.core.errors import InvalidInput, Unsupported
from penstock.core.frames.layout import LayoutKind, RowLayout
from penstock.core.frames.records import check_names
from penstock.core.slices import TEXT_SLICE

_FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_LANGUAGE: Final = ("messages", "prompt", "input")
"""Members of bodies for language models, which MLflow passes on as they are."""

_FLOATS: Final = ("FP32", "FP64")
_SPLIT: Final = frozenset({"columns", "data", "index"})


class _FloatSplit(msgspec.Struct, gc=False, forbid_unknown_fields=True):
    """A frame of numbers in split form."""

    data: list[list[float]]
    columns: list[str] | None = None
    index: msgspec.Raw = msgspec.Raw(b"")


class _FloatBody(msgspec.Struct, gc=False):
    """The most common bodies: rows of numbers."""

    dataframe_split: _FloatSplit | None = None
    inputs: list[list[float]] | None = None
    instances: list[list[float]] | None = None
    dataframe_records: msgspec.Raw | None = None


_decode = msgspec.json.Decoder(_FloatBody).decode


def read_json(request: RowsRequest) -> RowsBody:
    """Return the rows of a body; its form says whether it is a frame.

    Raises:
        InvalidInput: it does not have exactly one of the four forms, or does not fit the version.
        Unsupported: it is a body for a language model.
        LargeWork: it has to be read on a thread.
    """
    found = _read_numbers(request)
    if found is not None:
        return found
    document = read_object(request.body, request.work, tokens=True)
    stated = [name for name in _FORMS if name in document]
    if len(stated) != 1:
        raise _no_form(document)
    values = document[stated[0]]
    if stated[0] == "dataframe_split":
        return _bind_split(request, values).in_form(True)
    if stated[0] == "dataframe_records":
        return _bind_records(request, values).in_form(True)
    if stated[0] == "inputs":
        return request.bind_values(values).in_form(False)
    if not isinstance(values, list):
        raise InvalidInput("instances: expected a list with an element for each row")
    return request.bind_instances(values).in_form(False)


def _read_numbers(request: RowsRequest) -> RowsBody | None:
    """Return the rows of a short body of numbers; None for any other, including invalid ones."""
    row = request.signature.row
    if row is None or row.datatype not in _FLOATS or len(row.shape) != 2 or len(request.body) > INLINE_JSON:
        return None
    try:
        body = _decode(request.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    split, forms = body.dataframe_split, (body.inputs, body.instances, body.dataframe_split)
    if body.dataframe_records is not None or sum(form is not None for form in forms) != 1:
        return None
    if split is None:
        rows = body.instances if body.inputs is None else body.inputs
    else:
        rows = split.data if _in_order(split.columns, request.layout) else None
    packed = None if rows is None else pack_rows(rows, request.signature)
    return None if packed is None else RowsBody(packed, split is not None)


def _in_order(columns: list[str] | None, layout: RowLayout) -> bool:
    """Whether rows with these columns are rows of the version."""
    return (
        columns is None
        or tuple(columns) == layout.columns
        or (layout.counts_in_order(columns) and len(set(columns)) == len(columns))
    )


def _no_form(document: dict[str, Any]) -> Exception:
    if any(name in document for name in _LANGUAGE):
        return Unsupported("bodies for language models (messages, prompt, input) are not offered; send rows")
    return InvalidInput(
        f"The input must be a JSON dictionary with exactly one of the input fields {', '.join(_FORMS)}. Received "
        f"dictionary with {'several of them' if len(document) > 1 else 'none of them'}."
    )


def _bind_split(request: RowsRequest, frame: Any) -> RowsBody:
    if not isinstance(frame, dict) or "data" not in frame or not frame.keys() <= _SPLIT:
        raise InvalidInput("Dataframe split format must have 'data' field and optionally 'columns' and 'index' fields.")
    rows, columns = frame["data"], frame.get("columns")
    if not isinstance(rows, list) or not (columns is None or isinstance(columns, list)):
        raise InvalidInput("dataframe_split: expected lists in 'columns' and 'data'")
    if columns is None or columns == list(range(len(columns))):
        return request.bind_instances(rows)  # a frame without names numbers its columns
    return _bind_columns(request, check_names(columns), rows)


def _bind_columns(request: RowsRequest, names: list[str], rows: list[Any]) -> RowsBody:
    """Bind rows with a value for each name."""
    if request.layout.kind is not LayoutKind.TENSORS and _in_order(names, request.layout):
        return request.bind_instances(rows)
    records: list[Any] = []
    for row, values in enumerate(rows):
        if not isinstance(values, list) or len(values) != len(names):
            raise InvalidInput(f"row {row}: expected a list of {len(names)} values, one for each column")
        records.append(dict(zip(names, values, strict=True)))
        if len(records) % TEXT_SLICE == 0:
            request.work.pause()
    return request.bind_instances(records)


def _bind_records(request: RowsRequest, records: Any) -> RowsBody:
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise InvalidInput("Dataframe records format must be a list of records.")
    first: Sequence[str] = list(records[0]) if records else ()
    layout = request.layout
    if layout.kind is LayoutKind.TENSORS or len(layout.columns) == 1 or not layout.counts_in_order(first):
        return request.bind_instances(records)
    pick, rows = itemgetter(*first), list[Any]()
    for row, record in enumerate(records):
        if record.keys() != records[0].keys():
            raise InvalidInput(f"row {row}: expected the columns of row 0")
        rows.append(list(pick(record)))
        if len(rows) % TEXT_SLICE == 0:
            request.work.pause()
    return request.bind_instances(rows)
