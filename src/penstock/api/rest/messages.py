"""The JSON messages of the V2 REST protocol's infer requests, for msgspec."""

from typing import Annotated, Any

import msgspec

from penstock.core.tensors import MAX_ELEMENTS, MAX_RANK

NO_DATA = msgspec.Raw(b"")
Parameters = dict[str, Any]


class JsonInput(msgspec.Struct, gc=False):
    """One input tensor, and its data in the original JSON unless it is binary or in shared memory."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = NO_DATA


class JsonOutput(msgspec.Struct, gc=False):
    """A requested output."""

    name: str
    parameters: Parameters | None = None


class RequestFields(msgspec.Struct, kw_only=True, gc=False):
    """The fields of a request without its inputs."""

    outputs: list[JsonOutput] | None = None
    id: str | None = None
    parameters: Parameters | None = None


class JsonRequest(RequestFields, gc=False):
    """Any request."""

    inputs: list[JsonInput]


class FlatFloats(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The most common input: a flat list of floats without parameters."""

    name: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=MAX_ELEMENTS)]], msgspec.Meta(max_length=MAX_RANK)]
    datatype: str
    data: list[float]


class FlatRequest(RequestFields, gc=False):
    """A request with only such inputs."""

    inputs: list[FlatFloats]
