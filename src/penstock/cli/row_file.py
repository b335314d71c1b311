"""Reads a file of rows by column name as the inputs of a model: CSV, JSON, JSON lines, NumPy, Parquet or Arrow."""

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.cli.client import Document
from penstock.cli.requests import BadData

if TYPE_CHECKING:
    from penstock.core.frames.frame import Frame
    from penstock.core.frames.layout import BoundRows, RowLayout
    from penstock.core.tensors import Array, Tensor

FORMS = (".csv", ".json", ".jsonl", ".ndjson", ".npy", ".parquet", ".arrow")
"""Endings of the files that can be read."""


def read_rows(file: Path, metadata: Document) -> "BoundRows":
    """Return the rows of a file as the inputs of a model, given its V2 metadata.

    Raises:
        BadData: the file cannot be read, or a row does not fit; the text names row and column.
    """
    from penstock.core.errors import Fault

    try:
        return _bind(file, layout_of(metadata))
    except OSError as error:
        raise BadData(f"--rows: {file} cannot be read: {(error.strerror or 'error').lower()}") from None
    except Fault as fault:
        raise BadData(f"--rows: {file.name}: {fault}") from None


def layout_of(metadata: Document) -> "RowLayout":
    """Return how rows become the inputs of a model with this metadata."""
    from penstock.core.frames.binding import row_layout
    from penstock.core.frames.terms import ROWS, decode_terms
    from penstock.core.signature import Signature, TensorSpec

    specs = [TensorSpec(item["name"], item["datatype"], tuple(item["shape"])) for item in metadata["inputs"]]
    terms = decode_terms((metadata.get("properties") or {}).get(ROWS, ""))
    return row_layout(Signature(specs, [], batching=all(spec.shape[:1] == (-1,) for spec in specs)), terms)


def _bind(file: Path, layout: "RowLayout") -> "BoundRows":
    match file.suffix:
        case ".csv":
            from penstock.core.frames.csv_text import from_csv

            return layout.bind_frame(from_csv(file.read_bytes(), layout.text_columns))
        case ".jsonl" | ".ndjson":
            from penstock.core.frames.json_lines import read_json_lines

            return layout.bind_instances(read_json_lines(file.read_bytes()))
        case ".json":
            return _bind_json(file, layout)
        case ".npy":
            from penstock.core.frames.numpy_file import read_array

            return layout.bind_array(read_array(file.read_bytes()))
        case ".parquet" | ".arrow":
            from penstock.monitor.frame_tables import read_frame

            return layout.bind_frame(read_frame(file))
    raise BadData(f"--rows: {file.name} has an unknown ending; expected one of {', '.join(FORMS)}")


def _bind_json(file: Path, layout: "RowLayout") -> "BoundRows":
    """Bind records, lists or bare values in a list, ``{"columns", "data"}``, or columns by name."""
    from penstock.core.frames.frame import DEFAULT_LIMITS
    from penstock.core.frames.json_numbers import load_json
    from penstock.core.frames.records import from_split

    text = file.read_text(encoding="utf-8-sig")
    DEFAULT_LIMITS.check_text(text)
    try:
        data = load_json(text)
    except (ValueError, RecursionError) as error:
        raise BadData(f"--rows: {file.name} is not JSON: {error}") from None
    if isinstance(data, list):
        return layout.bind_instances(data)
    if isinstance(data, dict) and {"columns", "data"} <= data.keys() <= {"columns", "data", "index"}:
        return layout.bind_frame(from_split(data["columns"], data["data"]))
    return layout.bind_values(data)


def split_requests(inputs: Sequence["Tensor"], rows_per_request: int) -> Iterator[Document]:
    """Yield the V2 requests of rows, so many in each; NaN is null, as JSON has no NaN."""
    rows = min([len(tensor.data) for tensor in inputs], default=0)
    for first in range(0, rows, rows_per_request):
        last = first + rows_per_request
        yield {"inputs": [_tensor_document(tensor, tensor.data[first:last]) for tensor in inputs]}


def make_request(inputs: Sequence["Tensor"]) -> Document:
    """Return the V2 request of all rows; NaN is null."""
    return {"inputs": [_tensor_document(tensor, tensor.data) for tensor in inputs]}


def _tensor_document(tensor: "Tensor", part: "Array") -> Document:
    head = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(part.shape)}
    return {**head, "data": _json_values(part)}


def _json_values(values: "Array") -> list[Any]:
    flat: list[Any] = values.ravel().tolist()
    if values.dtype.kind != "f":
        return flat
    return [None if isnan(value) else value for value in flat]


def frame_of_answer(document: Document) -> "Frame":
    """Return the outputs of a V2 answer as columns; raises ``BadData`` if they are not rows."""
    import numpy as np

    from penstock.core.errors import InvalidInput
    from penstock.core.frames.outputs import outputs_to_frame
    from penstock.core.signature import Signature
    from penstock.core.tensors import NUMPY_TYPES, Tensor

    outputs = []
    for output in document["outputs"]:
        datatype = "FP32" if output["datatype"] == "BF16" else output["datatype"]  # its values are numbers here
        data = np.array(output["data"], NUMPY_TYPES[datatype]).reshape(output["shape"])
        outputs.append(Tensor(output["name"], datatype, data))
    try:
        return outputs_to_frame(outputs, Signature([], []))
    except InvalidInput as fault:
        raise BadData(str(fault)) from None
