"""TensorFlow Serving's REST API: predict in row and column form, classify, regress, status and metadata.

Facts: tensorflow/serving ``g3doc/api_rest.md``, ``model_servers/http_rest_api_util.cc``, ``util/json_tensor.cc``.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final

import numpy as np

from penstock.api.common.tensorflow_rules import (
    CLASSIFY,
    EXAMPLE_SLICE,
    PREDICT,
    REGRESS,
    Example,
    bind_features,
    check_signature,
    class_labels,
    class_scores,
    find_class_outputs,
    find_value_output,
    merge_context,
    value_rows,
)
from penstock.api.common.work import RequestWork
from penstock.api.rest.dialects.base import (
    Dialect,
    DialectSetup,
    Endpoint,
    InferPath,
    RowsAnswer,
    RowsBody,
    RowsRequest,
)
from penstock.api.rest.dialects.json_answer import encode_columns, encode_output_rows, encode_rows, encode_tensor
from penstock.api.rest.dialects.json_body import read_object
from penstock.api.rest.dialects.model_reads import ModelReads
from penstock.api.rest.dialects.number_rows import read_float_rows
from penstock.api.rest.dialects.tensorflow_binary import decode_binary, encode_binary, has_binary
from penstock.api.rest.encode import json_string
from penstock.core.errors import InvalidInput
from penstock.core.tensors import Tensor
from penstock.serving.infer_call import InferCall

_VERBS: Final = {"predict": PREDICT, "classify": CLASSIFY, "regress": REGRESS}
_PATHS: Final = (
    "/v1/models/{model}",
    "/v1/models/{model}/versions/{version}",
    "/v1/models/{model}/labels/{version}",
)
ROWS, COLUMNS = "predictions", "outputs"
"""The two forms of an answer, by the member that holds it."""


class TensorFlowServing(Dialect):
    """Predictions, status and metadata below ``/v1/models``; labels are aliases."""

    name: ClassVar[str] = "tfs"
    infer_paths: ClassVar[tuple[InferPath, ...]] = tuple(
        InferPath(f"POST {path}:{verb}", verb) for verb in _VERBS for path in _PATHS
    )

    def __init__(self, setup: DialectSetup) -> None:
        super().__init__(setup)
        self._reads = ModelReads(setup)

    def read(self, request: RowsRequest) -> RowsBody:
        """See ``Dialect``."""
        if request.verb != "predict":
            return _read_examples(request)
        fast = _read_numbers(request)
        if fast is not None:
            return fast
        return _read_predict(request)

    def encode(self, call: InferCall, verb: str, form: object, work: RequestWork) -> RowsAnswer:
        """See ``Dialect``."""
        if verb == "classify":
            return _encode_classes(call, work)
        if verb == "regress":
            return _encode_values(call, work)
        if form == COLUMNS:
            columns = encode_columns(encode_binary(call.outputs, work), work, tokens=True)
            return RowsAnswer.of_parts((b'{"outputs":', *columns, b"}"))
        if has_binary(call.outputs):
            rows = encode_output_rows(encode_binary(call.outputs, work), work, tokens=True)
        else:
            rows = encode_rows(call, work, tokens=True)
        return RowsAnswer.of_parts((b'{"predictions":', *rows, b"}"))

    def endpoints(self) -> Mapping[str, Endpoint]:
        """See ``Dialect``."""
        return self._reads.serving_endpoints()


# Predict.


def _read_numbers(request: RowsRequest) -> RowsBody | None:
    """Read the most common bodies, rows of numbers and nothing else that says something, in one pass; None for any
    other."""
    body = request.body
    if b'"signature_name"' in body:
        return None
    has_inputs = b'"inputs"' in body
    if has_inputs and b'"instances"' in body:
        return None
    rows = read_float_rows(body, request.signature, from_inputs=has_inputs)
    return None if rows is None else RowsBody(rows, COLUMNS if has_inputs else ROWS)


def _read_predict(request: RowsRequest) -> RowsBody:
    document = read_object(request.body, request.work, tokens=True)
    _check_name(document, PREDICT)
    if ("instances" in document) == ("inputs" in document):
        raise InvalidInput('expected one of "instances" (one element for each row) and "inputs" (one for each input)')
    form = ROWS if "instances" in document else COLUMNS
    values = document["instances" if form == ROWS else "inputs"]
    if b'"b64"' in request.body:
        values = decode_binary(values, request.work)
    if form == COLUMNS:
        return replace(request.bind_values(values), form=form)
    if not isinstance(values, list):
        raise InvalidInput('"instances" is not a list; expected one element for each row')
    return replace(request.bind_instances(values), form=form)


def _check_name(document: Mapping[str, Any], method: str) -> None:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise InvalidInput('"signature_name" is not a text')
    check_signature(name, method)


# Classify and regress.


def _read_examples(request: RowsRequest) -> RowsBody:
    if request.verb == "classify":
        find_class_outputs(request.signature)  # before the run, not after it
    else:
        find_value_output(request.signature)
    document = read_object(request.body, request.work, tokens=True)
    _check_name(document, _VERBS[request.verb])
    listed, context = document.get("examples"), document.get("context", {})
    if not isinstance(listed, list):
        raise InvalidInput('expected "examples", a list with an object of features for each row')
    if b'"b64"' in request.body:
        listed, context = decode_binary(listed, request.work), decode_binary(context, request.work)
    shared = _read_example(context, "the context")
    examples = []
    for index, example in enumerate(listed):
        examples.append(merge_context(shared, _read_example(example, f"example {index}"), index))
        if index % EXAMPLE_SLICE == 0:
            request.work.pause()
    rows = bind_features(request.signature, request.layout, examples, request.work)
    return RowsBody(rows.inputs, defaulted=rows.defaulted)


def _read_example(example: Any, what: str) -> Example:
    if not isinstance(example, dict):
        raise InvalidInput(f"{what} is not an object; expected features by name")
    return {name: value if isinstance(value, list) else [value] for name, value in example.items()}


def _encode_classes(call: InferCall, work: RequestWork) -> RowsAnswer:
    """Return label and score of each class of each row."""
    found = find_class_outputs(call.loaded.signature)
    scores = class_scores(call.outputs, found, work)
    parts: list[bytes] = []
    for index, labels in enumerate(class_labels(call.outputs, found)):
        texts = b"".join(encode_tensor(Tensor("scores", "FP32", scores[index]), work, tokens=True))[1:-1].split(b",")
        pairs = [b"[%b,%b]" % (json_string(label), text) for label, text in zip(labels, texts, strict=True)]
        parts += (b",[" if parts else b'{"results":[[', b",".join(pairs), b"]")
        if index % EXAMPLE_SLICE == 0:
            work.pause()
    return RowsAnswer.of_parts([*parts, b"]}"])


def _encode_values(call: InferCall, work: RequestWork) -> RowsAnswer:
    values = value_rows(call.outputs, find_value_output(call.loaded.signature), work)
    tensor = Tensor("results", "FP32", np.ascontiguousarray(values))
    return RowsAnswer.of_parts((b'{"results":', *encode_tensor(tensor, work, tokens=True), b"}"))
