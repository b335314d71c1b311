"""Requests in both forms, for the tests of the codec."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from penstock.api.common.work import RequestWork
from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.decode import InferMessage, decode_message
from penstock.api.grpc.wire import SMALL_MESSAGE, ParsedRequest, parse_request
from penstock.core.limits import RequestLimits
from penstock.core.signature import Signature, TensorSpec
from penstock.core.slices import no_pause
from penstock.core.tensors import NUMPY_TYPES, Array, Tensor, to_raw
from penstock.proto import grpc_service_pb2 as pb
from penstock.serving.shared_memory import SharedRegions

SHAPES = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)
DATATYPES = st.sampled_from(list(NUMPY_TYPES))
TYPED = st.sampled_from(list(FIELDS))

Parameters = Mapping[str, Mapping[str, Any]]


def arrays(datatype: str, shape: tuple[int, ...]) -> st.SearchStrategy[Array]:
    """Arrays of a datatype, every bit pattern included."""
    if datatype == "BYTES":
        return npst.arrays(object, shape, elements=st.text(), fill=st.nothing())
    return npst.arrays(NUMPY_TYPES[datatype], shape)


def tensors(datatypes: st.SearchStrategy[str] = DATATYPES) -> st.SearchStrategy[Tensor]:
    """Named tensors."""
    return st.tuples(datatypes, SHAPES).flatmap(
        lambda form: st.builds(Tensor, st.text(max_size=5), st.just(form[0]), arrays(*form))
    )


def some_tensors(datatypes: st.SearchStrategy[str] = DATATYPES, least: int = 0) -> st.SearchStrategy[list[Tensor]]:
    """Tensors of different names."""
    return st.lists(tensors(datatypes), min_size=least, max_size=3, unique_by=lambda item: item.name)


def taking(request: pb.ModelInferRequest) -> Signature:
    """A model that takes the inputs of a request, in any size, and gives the outputs that it asks for."""
    inputs = [
        TensorSpec(item.name, item.datatype if item.datatype in NUMPY_TYPES else "FP32", (-1,) * len(item.shape))
        for item in request.inputs
    ]
    return Signature(inputs, [TensorSpec(output.name, "FP32", (-1,)) for output in request.outputs])


def read(
    raw: bytes, signature: Signature | None = None, small_bytes: int = SMALL_MESSAGE
) -> tuple[ParsedRequest, InferMessage]:
    """A message, parsed and decoded."""
    message = parse_request(raw, no_pause, small_bytes)
    work = RequestWork(RequestLimits(), no_pause)
    return message, decode_message(message, signature or taking(message.request), SharedRegions(), work)


def raw_request(items: Sequence[Tensor], **fields: Any) -> pb.ModelInferRequest:
    """A request in the raw form."""
    request = pb.ModelInferRequest(model_name="m", **fields)
    for item in items:
        request.inputs.add(name=item.name, datatype=item.datatype, shape=item.data.shape)
        request.raw_input_contents.append(to_raw(item.datatype, item.data))
    return request


def typed_request(items: Sequence[Tensor]) -> pb.ModelInferRequest:
    """A request in the typed form."""
    request = pb.ModelInferRequest(model_name="m")
    for item in items:
        values: list[Any] = item.data.ravel().tolist()
        if item.datatype == "BYTES":
            values = [text.encode() for text in values]
        added = request.inputs.add(name=item.name, datatype=item.datatype, shape=item.data.shape)
        added.contents.SetInParent()
        getattr(added.contents, FIELDS[item.datatype]).extend(values)
    return request


def same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree bit for bit; NaN equals itself in this."""
    if (one.name, one.datatype, one.data.shape) != (other.name, other.datatype, other.data.shape):
        return False
    return to_raw(one.datatype, one.data) == to_raw(other.datatype, other.data)


def numbers(datatype: str, *values: float) -> Tensor:
    """A one-dimensional tensor named ``x``."""
    return Tensor("x", datatype, np.array(values, NUMPY_TYPES[datatype]))
