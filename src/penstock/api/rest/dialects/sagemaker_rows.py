"""The bodies of SageMaker: rows as CSV, JSON, JSON lines and NumPy's .npy files, and outputs in the same types.

The forms are those of "Common Data Formats for Inference": CSV has no header unless the type says so
(``text/csv; header=present``, RFC 4180), and JSON rows may be lists, or objects with ``features``.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects.base import RowsAnswer, RowsBody, RowsRequest, UnsupportedMediaType
from penstock.api.rest.dialects.json_answer import count_work, encode_lines, encode_rows, json_numbers, row_count
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.media_types import MediaType
from penstock.api.rest.dialects.number_rows import read_float_lines, read_float_rows
from penstock.core.errors import InvalidInput
from penstock.core.frames.csv_text import from_csv, to_csv
from penstock.core.frames.json_lines import read_json_lines
from penstock.core.frames.numpy_file import read_array, write_array
from penstock.core.frames.outputs import outputs_to_frame
from penstock.core.slices import TEXT_SLICE
from penstock.core.tensors import Tensor
from penstock.serving.infer_call import InferCall

CSV: Final = "text/csv"
JSON: Final = "application/json"
JSON_LINES: Final = "application/jsonlines"
NPY: Final = "application/x-npy"

_EXPECTED: Final = 'expected a list of rows, or an object with a list "instances", one element for each row'


def read_csv(request: RowsRequest, media: MediaType) -> RowsBody:
    """Read rows of CSV; without a header, the values are in the order of the model's columns."""
    layout = request.layout
    has_names = media.parameters.get("header", "absent").lower() == "present"
    rows = None if has_names else read_float_lines(request.body, request.signature)
    if rows is not None:
        return RowsBody(rows)
    names = None if has_names else layout.columns
    return request.bind_frame(from_csv(request.body, layout.text_columns, names, pause=request.work.pause))


def read_json(request: RowsRequest, media: MediaType) -> RowsBody:
    """Read rows of JSON: a list, an object with ``instances``, or one row as an object with ``features``."""
    body = request.body
    if body[:16].lstrip()[:1] == b"[":
        body = b'{"instances":%b}' % body
    rows = read_float_rows(body, request.signature)
    if rows is not None:
        return RowsBody(rows)
    document = read_object(body, request.work, tokens=True)
    instances = document.get("instances")
    if instances is None and _read_features(document) is not document:
        instances = [document]
    if not isinstance(instances, list):
        raise InvalidInput(_EXPECTED)
    return request.bind_instances(plain_instances(instances, request.layout.columns))


def read_lines(request: RowsRequest, media: MediaType) -> RowsBody:
    """Read rows of JSON lines: on each a list, an object of values by column, or an object with ``features``."""
    instances = read_json_lines(request.body, pause=request.work.pause)
    return request.bind_instances(plain_instances(instances, request.layout.columns))


def read_npy(request: RowsRequest, media: MediaType) -> RowsBody:
    """Read the values of the only input from a .npy file; one with Python objects is refused."""
    return request.bind_array(read_array(request.body))


READERS: Final[Mapping[str, Callable[[RowsRequest, MediaType], RowsBody]]] = {
    CSV: read_csv,
    JSON: read_json,
    JSON_LINES: read_lines,
    "application/x-jsonlines": read_lines,
    NPY: read_npy,
}
"""What reads each media type of rows."""


def check_charset(media: MediaType) -> None:
    """Raise ``UnsupportedMediaType`` for text that is not UTF-8."""
    charset = media.parameters.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaType("the charset of the body must be utf-8")


def plain_instances(instances: Sequence[Any], columns: Sequence[str]) -> Sequence[Any]:
    """Return rows without what wraps their features, unless the model has such a column."""
    first = instances[0] if instances else None
    if _read_features(first) is first or {"features", "data"}.intersection(columns):
        return instances
    return [_read_features(instance) for instance in instances]


def _read_features(instance: Any) -> Any:
    """Return the values in ``{"features": [...]}`` or ``{"data": {"features": {"values": [...]}}}``; anything else as
    it is."""
    if not isinstance(instance, dict) or len(instance) != 1:
        return instance
    features = instance.get("features")
    data = instance.get("data")
    if features is None and isinstance(data, dict):
        features = data.get("features")
    if isinstance(features, dict):
        features = features.get("values")
    return features if isinstance(features, list) else instance


def write_json(call: InferCall, work: RequestWork) -> RowsAnswer:
    """Return the outputs as ``predictions``, one for each row."""
    return RowsAnswer.of_parts((b'{"predictions":', *encode_rows(call, work), b"}"))


def write_lines(call: InferCall, work: RequestWork) -> RowsAnswer:
    """Return an object of outputs by name on a line for each row."""
    return RowsAnswer.of_parts(encode_lines(call, work), JSON_LINES.encode())


def write_csv(call: InferCall, work: RequestWork) -> RowsAnswer:
    """Return a line for each row, without a header: the values of the outputs, one after the other."""
    outputs = call.outputs
    count_work(outputs, work)
    rows = row_count(outputs)
    width = sum(tensor.data.size for tensor in outputs) // max(1, rows)
    step = max(1, TEXT_SLICE // max(1, width))
    parts: list[bytes] = []
    for start in range(0, rows, step):
        some = [Tensor(item.name, item.datatype, item.data[start : start + step]) for item in outputs]
        parts.append(to_csv(outputs_to_frame(some, call.loaded.signature), header=False).encode())
        work.pause()
    return RowsAnswer.of_parts(parts, b"text/csv; charset=utf-8")


def write_npy(call: InferCall, work: RequestWork) -> RowsAnswer:
    """Return the only output as a .npy file."""
    (output,) = call.outputs
    if output.datatype == "BYTES":
        work.texts(output.name, output.data.size)
    work.add_copied(output.data.nbytes)
    values = json_numbers(output) if output.datatype == "BF16" else output.data
    return RowsAnswer(write_array(values), (), NPY.encode())


WRITERS: Final[Mapping[str, Callable[[InferCall, RequestWork], RowsAnswer]]] = {
    JSON: write_json,
    CSV: write_csv,
    JSON_LINES: write_lines,
    NPY: write_npy,
}
"""What writes each media type, in the order in which they are offered."""
