"""The largest legal request of every kind, under given limits, and the smallest that are over them.

A kind is named after the codec path that it takes; a test compares the names with the codecs' own tables.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import grpc
import numpy as np

from loadtests.echoes import copy_name
from loadtests.largest_data import (
    CONTENTS,
    GRPC_METHOD,
    MARGIN,
    REGION,
    STREAM_METHOD,
    Largest,
    Request,
    json_data,
    raw_data,
    texts_of,
    typed_data,
)
from penstock.api.common.request_rules import MAX_PARAMETERS
from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.wire import MAX_PARTS
from penstock.api.rest.feedback_body import LABEL_CHARACTERS, MOST_FEEDBACK, MOST_LABELS
from penstock.core.classification import MAX_RANKED
from penstock.core.limits import RequestLimits
from penstock.core.protobuf_wire import encode_field
from penstock.core.tensors import NUMPY_TYPES, RAW_ONLY
from penstock.proto import grpc_service_pb2 as pb

_LENGTH = "inference-header-content-length"
_HEAD_BYTES, _METADATA_BYTES = 60 << 10, 30 << 10
_STREAMED = 4


def list_largest(limits: RequestLimits) -> list[Largest]:
    """All kinds."""
    return [*_list_rest(limits), *_list_grpc(limits), *_list_answers(limits), *_list_over(limits)]


# REST.


def infer_path(model: str) -> str:
    """Where a model's REST requests go."""
    return f"/v2/models/{model}/infer"


def _json_request(model: str, datatype: str, shape: Sequence[int], data: str, more: str = "") -> Request:
    head = f'{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{list(shape)},"data":'
    return Request(infer_path(model), [f"{head}{data}}}]{more}}}".encode()], {"content-type": "application/json"})


def _request_json(datatype: str, limits: RequestLimits) -> Request:
    count, data = json_data(datatype, limits.max_json_bytes - MARGIN, limits)
    return _json_request(copy_name(datatype), datatype, [1, count], data)


def _json_rows(limits: RequestLimits) -> Request:
    count = (limits.max_json_bytes - MARGIN) // 4
    return _json_request(copy_name("FP32"), "FP32", [count, 1], f"[{'[1],' * (count - 1)}[1]]")


def _json_digits(limits: RequestLimits) -> Request:
    item = "0.12345678901234567,"
    count = (limits.max_json_bytes - MARGIN) // len(item)
    return _json_request(copy_name("FP64"), "FP64", [1, count], f"[{item * (count - 1)}{item[:-1]}]")


def _json_spaces(limits: RequestLimits) -> Request:
    item = "1" + " " * 62 + ","
    count = (limits.max_json_bytes - MARGIN) // len(item)
    return _json_request(copy_name("FP32"), "FP32", [1, count], f"[{item * (count - 1)}1]")


def _json_long_text(limits: RequestLimits) -> Request:
    escapes = "\\u00e9" * ((limits.max_json_bytes - MARGIN) // 6)
    return _json_request(copy_name("BYTES"), "BYTES", [1, 1], f'["{escapes}"]')


def _parameters(limits: RequestLimits) -> Request:
    del limits
    some = {f"p{number}": "a" * 100 for number in range(MAX_PARAMETERS)}
    return _json_request(copy_name("FP32"), "FP32", [1, 1], "[1]", f',"parameters":{json.dumps(some)}')


def _header_fields(limits: RequestLimits) -> Request:
    plain = _json_request(copy_name("FP32"), "FP32", [1, 1], "[1]")
    del limits
    return Request(plain.path, plain.bodies, {f"x{number:05}": "1" for number in range(_HEAD_BYTES // 11)})


def _binary_request(datatype: str, shape: Sequence[int], data: bytes, **outputs: object) -> Request:
    size = {"binary_data_size": len(data)}
    item = {"name": "x", "datatype": datatype, "shape": list(shape), "parameters": size}
    text = json.dumps({"inputs": [item], **(outputs or {"parameters": {"binary_data_output": True}})}).encode()
    return Request(infer_path(copy_name(datatype)), [text + data], {_LENGTH: str(len(text))})


def _binary(datatype: str, limits: RequestLimits) -> Request:
    count, data = raw_data(datatype, limits.max_body_bytes - MARGIN, limits)
    return _binary_request(datatype, [1, count], data)


def _binary_rows(limits: RequestLimits) -> Request:
    count, data = raw_data("FP32", limits.max_body_bytes - MARGIN, limits)
    return _binary_request("FP32", [count, 1], data)


def _long_texts(limits: RequestLimits) -> tuple[int, bytes]:
    size = min(limits.max_text_bytes, limits.max_body_bytes - MARGIN) - 4
    return 1, size.to_bytes(4, "little") + b"a" * size


def _binary_long_texts(limits: RequestLimits) -> Request:
    count, data = _long_texts(limits)
    return _binary_request("BYTES", [1, count], data)


def _classes(limits: RequestLimits) -> tuple[int, bytes]:
    count = min(MAX_RANKED, (limits.max_body_bytes - MARGIN) // 4)
    return count, np.random.default_rng(1).normal(size=count).astype(np.float32).tobytes()


def _classification(limits: RequestLimits) -> Request:
    count, data = _classes(limits)
    wanted = {"name": "y", "parameters": {"classification": limits.max_text_elements}}
    return _binary_request("FP32", [1, count], data, outputs=[wanted])


def _shared(limits: RequestLimits) -> Request:
    place = {"shared_memory_region": REGION, "shared_memory_byte_size": limits.max_body_bytes}
    item = {"name": "x", "datatype": "FP32", "shape": [1, limits.max_body_bytes // 4], "parameters": place}
    text = json.dumps({"inputs": [item], "outputs": [{"name": "y", "parameters": place}]})
    return Request(infer_path(copy_name("FP32")), [text.encode()])


def _feedback(limits: RequestLimits) -> Request:
    texts = ["a" * LABEL_CHARACTERS] * (limits.max_json_bytes // 4 // LABEL_CHARACTERS)
    labels = (MOST_LABELS - len(texts)) // (MOST_FEEDBACK - 1)
    some: list[dict[str, object]] = [
        {"id": f"{number:064}", "label": [number] * labels} for number in range(MOST_FEEDBACK - 1)
    ]
    size = len(json.dumps(some[-1])) + 2
    some = [{"id": "texts", "label": texts}, *some[: limits.max_json_bytes // 2 // size]]
    body = json.dumps({"feedback": some}).encode()
    return Request(f"/v2/models/{copy_name('FP32')}/feedback", [body])


_DEFLATED: Mapping[str, Callable[[bytes], bytes]] = {
    "gzip": partial(gzip.compress, compresslevel=1),
    "x-gzip": partial(gzip.compress, compresslevel=1),
    "deflate": partial(zlib.compress, level=1),
}


def _compressed(coding: str, plain: Callable[[], Request]) -> Request:
    request = plain()
    fields = {**request.fields, "content-encoding": coding}
    return Request(request.path, [_DEFLATED[coding](request.bodies[0])], fields)


def _list_rest(limits: RequestLimits) -> Iterator[Largest]:
    for datatype in NUMPY_TYPES:
        if datatype not in RAW_ONLY:
            yield Largest(f"rest json {datatype}", partial(_request_json, datatype, limits))
        yield Largest(f"rest binary {datatype}", partial(_binary, datatype, limits))
    others = {
        "rest json rows": _json_rows,
        "rest json digits": _json_digits,
        "rest json spaces": _json_spaces,
        "rest json long text": _json_long_text,
        "rest binary rows": _binary_rows,
        "rest binary long texts": _binary_long_texts,
        "rest parameters": _parameters,
        "rest header fields": _header_fields,
        "rest classification": _classification,
        "rest shared memory": _shared,
        "rest feedback": _feedback,
    }
    for kind, build in others.items():
        yield Largest(kind, partial(build, limits))
    for coding in _DEFLATED:
        yield Largest(f"rest json {coding}", partial(_compressed, coding, partial(_request_json, "FP32", limits)))
        yield Largest(f"rest binary {coding}", partial(_compressed, coding, partial(_binary, "FP32", limits)))


# gRPC.


def _message(datatype: str, shape: Sequence[int], raw: bytes | None = None, contents: bytes = b"") -> bytes:
    item = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape).SerializeToString()
    if contents:
        item += encode_field(5, contents)
    head = pb.ModelInferRequest(model_name=copy_name(datatype)).SerializeToString() + encode_field(5, item)
    return head if raw is None else head + encode_field(7, raw)


def _raw(datatype: str, limits: RequestLimits) -> Request:
    count, data = raw_data(datatype, limits.max_body_bytes - MARGIN, limits)
    return Request(GRPC_METHOD, [_message(datatype, [1, count], data)])


def _raw_rows(limits: RequestLimits) -> Request:
    count, data = raw_data("FP32", limits.max_body_bytes - MARGIN, limits)
    return Request(GRPC_METHOD, [_message("FP32", [count, 1], data)])


def _raw_long_texts(limits: RequestLimits) -> Request:
    count, data = _long_texts(limits)
    return Request(GRPC_METHOD, [_message("BYTES", [1, count], data)])


def _typed(datatype: str, limits: RequestLimits) -> Request:
    count, data = typed_data(datatype, limits.max_body_bytes - MARGIN, limits)
    return Request(GRPC_METHOD, [_message(datatype, [1, count], contents=data)])


def _in_parts(number: int, limits: RequestLimits) -> Request:
    """Typed contents in so many parts of the same size, each of packed numbers."""
    count = limits.max_elements // number
    part = encode_field(CONTENTS["fp32_contents"], np.ones(count, np.float32).tobytes())
    item = pb.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[1, number * count])
    whole = item.SerializeToString() + encode_field(5, part) * number
    head = pb.ModelInferRequest(model_name=copy_name("FP32")).SerializeToString()
    return Request(GRPC_METHOD, [head + encode_field(5, whole)])


def _typed_parts(limits: RequestLimits) -> Request:
    return _in_parts(MAX_PARTS, limits)


def _empty_parts(limits: RequestLimits) -> Request:
    return Request(
        GRPC_METHOD, [_message("FP32", [1, 1], contents=b"\x32\x00" * (limits.max_body_bytes // 2 - MARGIN))]
    )


def _grpc_classification(limits: RequestLimits) -> Request:
    count, data = _classes(limits)
    wanted = pb.ModelInferRequest(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="y")])
    wanted.outputs[0].parameters["classification"].int64_param = limits.max_text_elements
    return Request(GRPC_METHOD, [_message("FP32", [1, count], data) + wanted.SerializeToString()])


def _grpc_shared(limits: RequestLimits) -> Request:
    request = pb.ModelInferRequest(model_name=copy_name("FP32"))
    request.inputs.add(name="x", datatype="FP32", shape=[1, limits.max_body_bytes // 4])
    request.outputs.add(name="y")
    for tensor in (request.inputs[0], request.outputs[0]):
        tensor.parameters["shared_memory_region"].string_param = REGION
        tensor.parameters["shared_memory_byte_size"].int64_param = limits.max_body_bytes
    return Request(GRPC_METHOD, [request.SerializeToString()])


def _grpc_parameters(limits: RequestLimits) -> Request:
    del limits
    request = pb.ModelInferRequest()
    for number in range(MAX_PARAMETERS):
        request.parameters[f"p{number}"].string_param = "a" * 100
    return Request(GRPC_METHOD, [_message("FP32", [1, 1], b"\0\0\0\0") + request.SerializeToString()])


def _metadata(limits: RequestLimits) -> Request:
    del limits
    some = {f"x{number:05}": "1" for number in range(_METADATA_BYTES // (32 + 7))}
    return Request(GRPC_METHOD, [_message("FP32", [1, 1], b"\0\0\0\0")], some)


def _streamed(plain: Callable[[], Request], times: int) -> Request:
    return Request(STREAM_METHOD, list(plain().bodies) * times)


def _grpc_compressed(coding: grpc.Compression, limits: RequestLimits) -> Request:
    count, data = raw_data("FP32", limits.max_body_bytes - MARGIN, limits)
    return Request(GRPC_METHOD, [_message("FP32", [1, count], data)], coding=coding)


def _list_grpc(limits: RequestLimits) -> Iterator[Largest]:
    for datatype in NUMPY_TYPES:
        if datatype in FIELDS:
            yield Largest(f"grpc typed {datatype}", partial(_typed, datatype, limits))
        yield Largest(f"grpc raw {datatype}", partial(_raw, datatype, limits))
    others = {
        "grpc raw rows": _raw_rows,
        "grpc raw long texts": _raw_long_texts,
        "grpc typed parts": _typed_parts,
        "grpc parameters": _grpc_parameters,
        "grpc header fields": _metadata,
        "grpc classification": _grpc_classification,
        "grpc shared memory": _grpc_shared,
    }
    for kind, build in others.items():
        yield Largest(kind, partial(build, limits))
    for coding in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        yield Largest(f"grpc message {coding.name.lower()}", partial(_grpc_compressed, coding, limits))
    yield Largest("stream raw", partial(_streamed, partial(_raw, "FP32", limits), _STREAMED))
    yield Largest("stream typed", partial(_streamed, partial(_typed, "INT32", limits), _STREAMED))


# Answers that are larger than any request.


def _grow_request(model: str, value: object, datatype: str, count: int, more: dict[str, object]) -> Request:
    items = [
        {"name": "value", "datatype": datatype, "shape": [1], "data": [value]},
        {"name": "count", "datatype": "INT64", "shape": [1], "data": [count]},
    ]
    return Request(infer_path(model), [json.dumps({"inputs": items, **more}).encode()])


_BINARY_OUTPUT: dict[str, object] = {"parameters": {"binary_data_output": True}}


def _grow_numbers(limits: RequestLimits, more: dict[str, object], coding: str = "") -> Request:
    count = (limits.max_output_bytes - MARGIN) // 4  # "1.0," and an FP32 have four bytes
    request = _grow_request("grow_numbers", 1, "FP32", count, more)
    return Request(request.path, request.bodies, {"accept-encoding": coding} if coding else {})


def _grow_texts(limits: RequestLimits, more: dict[str, object]) -> Request:
    count, long = texts_of(limits, limits.max_output_bytes - MARGIN, 4)
    return _grow_request("grow_texts", "a" * long, "BYTES", count, more)


def _grow_message(limits: RequestLimits) -> Request:
    request = pb.ModelInferRequest(model_name="grow_numbers")
    request.inputs.add(name="value", datatype="FP32", shape=[1])
    request.inputs.add(name="count", datatype="INT64", shape=[1])
    count = (limits.max_output_bytes - MARGIN) // 4
    request.raw_input_contents.extend([np.ones(1, np.float32).tobytes(), np.array([count]).tobytes()])
    return Request(GRPC_METHOD, [request.SerializeToString()])


def _grow_typed(limits: RequestLimits) -> Request:
    """Typed contents, which a server with ``grpc_outputs: mirror`` answers in the same form."""
    request = pb.ModelInferRequest(model_name="grow_numbers")
    request.inputs.add(name="value", datatype="FP32", shape=[1]).contents.fp32_contents.append(1)
    request.inputs.add(name="count", datatype="INT64", shape=[1]).contents.int64_contents.append(limits.max_elements)
    return Request(GRPC_METHOD, [request.SerializeToString()])


def _list_answers(limits: RequestLimits) -> Iterator[Largest]:
    yield Largest("rest answer json numbers", partial(_grow_numbers, limits, {}))
    yield Largest("rest answer binary numbers", partial(_grow_numbers, limits, _BINARY_OUTPUT))
    yield Largest("rest answer json texts", partial(_grow_texts, limits, {}))
    yield Largest("rest answer binary texts", partial(_grow_texts, limits, _BINARY_OUTPUT))
    for coding in ("gzip", "deflate"):
        yield Largest(f"rest answer {coding}", partial(_grow_numbers, limits, {}, coding))
    yield Largest("grpc answer raw numbers", partial(_grow_message, limits))
    yield Largest("grpc answer typed numbers", partial(_grow_typed, limits))


# What is over a limit.


def _raise_limits(limits: RequestLimits, **factors: int) -> RequestLimits:
    """Limits of which some are larger."""
    values = {name: getattr(limits, name) for name in limits.__slots__}
    return RequestLimits(**{**values, **{name: values[name] * factor for name, factor in factors.items()}})


def _list_over(limits: RequestLimits) -> Iterator[Largest]:
    wide, long = _raise_limits(limits, max_json_bytes=2), _raise_limits(limits, max_body_bytes=2)
    texts, numbers = _raise_limits(limits, max_text_elements=2), _raise_limits(limits, max_elements=2)
    output = _raise_limits(limits, max_output_bytes=2)
    over: dict[str, Callable[[], Request]] = {
        "over rest json": partial(_request_json, "FP32", wide),
        "over rest binary": partial(_binary, "FP32", long),
        "over rest inflated json": partial(_compressed, "gzip", partial(_request_json, "FP32", wide)),
        "over rest inflated binary": partial(_compressed, "gzip", partial(_binary, "FP32", long)),
        "over rest binary texts": partial(_binary, "BYTES", texts),
        "over rest classes": partial(_classification, texts),
        "over rest answer json": partial(_grow_numbers, output, {}),
        "over rest answer binary": partial(_grow_numbers, output, _BINARY_OUTPUT),
        "over grpc raw": partial(_raw, "FP32", long),
        "over grpc inflated": partial(_grpc_compressed, grpc.Compression.Gzip, long),
        "over grpc typed numbers": partial(_typed, "UINT8", numbers),
        "over grpc typed texts": partial(_typed, "BYTES", texts),
        "over grpc typed parts": partial(_in_parts, limits.max_elements // 2, limits),
        "over grpc empty parts": partial(_empty_parts, limits),
        "over grpc answer": partial(_grow_message, output),
    }
    for kind, build in over.items():
        yield Largest(kind, build, is_legal=False)
