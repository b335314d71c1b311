"""Requests the tests of this folder send."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from penstock.core.tensors import to_raw
from penstock.proto import grpc_service_pb2 as pb

Array = NDArray[np.generic]


def raw(model: str, name: str, datatype: str, values: object, **fields: object) -> pb.ModelInferRequest:
    """One raw input."""
    array = np.array(values, {"FP32": np.float32, "INT32": np.int32, "INT64": np.int64, "BYTES": object}[datatype])
    request = pb.ModelInferRequest(model_name=model, **fields)  # type: ignore[arg-type]
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(to_raw(datatype, array))
    return request


def pair(*values: float, version: str = "", call_id: str = "") -> pb.ModelInferRequest:
    """A request to the model ``pair``, whose versions answer ``version * x + version``."""
    return raw("pair", "x", "FP32", [values or (1, 2, 3)], model_version=version, id=call_id)


def slow(x: float = 2.0) -> pb.ModelInferRequest:
    """A request that takes a few tenths of a second."""
    return raw("slow", "x", "FP32", [x])


def long(steps: int) -> pb.ModelInferRequest:
    """A request that takes as many matrix products, of one to a few milliseconds each."""
    request = raw("steps", "x", "FP32", [2.0])
    other = raw("steps", "steps", "INT64", steps)
    request.inputs.extend(other.inputs)
    request.raw_input_contents.extend(other.raw_input_contents)
    return request


def endless() -> pb.ModelInferRequest:
    """A request that takes hours unless it is cancelled."""
    return long(10_000_000)


def gather(index: int) -> pb.ModelInferRequest:
    """A request that fails at run time for an index over 3."""
    return raw("gather", "index", "INT64", [index])


def divide(dividend: int, divisor: int) -> pb.ModelInferRequest:
    """A request that fails at run time where the divisor is 0."""
    request = raw("divide", "a", "INT32", [dividend])
    other = raw("divide", "b", "INT32", [divisor])
    request.inputs.extend(other.inputs)
    request.raw_input_contents.extend(other.raw_input_contents)
    return request


def integers(response: pb.ModelInferResponse) -> Sequence[int]:
    """The INT32 values of the first output, raw."""
    return list(np.frombuffer(response.raw_output_contents[0], np.int32).tolist())


def floats(response: pb.ModelInferResponse, output: int = 0) -> Sequence[float]:
    """The FP32 values of a raw output."""
    return list(np.frombuffer(response.raw_output_contents[output], np.float32).tolist())
