"""The JSON of the V2 REST protocol's infer requests, as far as it is read at once."""

from typing import Annotated, Any

import msgspec

from penstock.core.tensors import MAX_ELEMENTS, MAX_RANK

NO_DATA = msgspec.Raw(b"")
Parameters = dict[str, Any]


class JsonInput(msgspec.Struct, gc=False):
    """One input tensor: its data, if it is not elsewhere, as it was written."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters | None = None
    data: msgspec.Raw = NO_DATA


class JsonOutput(msgspec.Struct, gc=False):
    """An output that is asked for."""

    name: str
    parameters: Parameters | None = None


class RequestFields(msgspec.Struct, kw_only=True, gc=False):
    """What a request says beside its inputs."""

    outputs: list[JsonOutput] | None = None
    id: str | None = None
    parameters: Parameters | None = None


class JsonRequest(RequestFields, gc=False):
    """Any request."""

    inputs: list[JsonInput]


class FlatFloats(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The commonest input: a flat list of floats, and nothing else."""

    name: str
    shape: Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=MAX_ELEMENTS)]], msgspec.Meta(max_length=MAX_RANK)]
    datatype: str
    data: list[float]


class FlatRequest(RequestFields, gc=False):
    """A request with such inputs alone."""

    inputs: list[FlatFloats]
