"""What the largest requests are made of. Data are the same element again and again, as the client's time is not what is
measured."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
import numpy as np

from penstock.api.grpc.contents import FIELDS
from penstock.api.grpc.typed_contents import NAMES
from penstock.core.limits import RequestLimits
from penstock.core.protobuf_wire import encode_field, encode_varint
from penstock.core.tensors import NUMPY_TYPES

REGION = "largest"
"""The region of shared memory that requests name; it has ``max_body_bytes``."""

GRPC_METHOD = "/inference.GRPCInferenceService/ModelInfer"
STREAM_METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
MARGIN = 4096
"""Bytes left for everything but data."""

TOO_LARGE = (413, grpc.StatusCode.RESOURCE_EXHAUSTED)

CONTENTS = {name: number for number, name in NAMES.items()}
"""The fields of InferTensorContents by name."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: a body to a path of REST, or messages to a method of gRPC. ``coding`` has grpcio compress them."""

    path: str
    bodies: Sequence[bytes]
    fields: Mapping[str, str] = field(default_factory=dict)
    coding: grpc.Compression = grpc.Compression.NoCompression

    @property
    def grpc(self) -> bool:
        """Whether it goes to the gRPC port."""
        return self.path in (GRPC_METHOD, STREAM_METHOD)


@dataclass(frozen=True, slots=True)
class Largest:
    """One kind: how its request is made, and whether it is answered or over a limit."""

    kind: str
    build: Callable[[], Request]
    is_legal: bool = True


def texts_of(limits: RequestLimits, size: int, overhead: int) -> tuple[int, int]:
    """As many texts as are taken, and the bytes of each for ``size`` bytes in all."""
    size = min(size, limits.max_text_bytes)
    count = min(limits.max_text_elements, size // (overhead + 1))
    return count, size // count - overhead


def raw_data(datatype: str, size: int, limits: RequestLimits) -> tuple[int, bytes]:
    """Elements and raw form of so many bytes."""
    if datatype != "BYTES":
        count = size // NUMPY_TYPES[datatype].itemsize
        return count, np.ones(count, NUMPY_TYPES[datatype]).tobytes()
    count, long = texts_of(limits, size, 4)
    return count, (long.to_bytes(4, "little") + b"a" * long) * count


def json_data(datatype: str, size: int, limits: RequestLimits) -> tuple[int, str]:
    """Elements and JSON list of so many bytes."""
    if datatype == "BYTES":
        count, long = texts_of(limits, size, 3)
        item = f'"{"a" * long}"'
    else:
        item = "true" if datatype == "BOOL" else "1"
        count = size // (len(item) + 1)
    return count, f"[{(item + ',') * (count - 1)}{item}]"


def typed_data(datatype: str, size: int, limits: RequestLimits) -> tuple[int, bytes]:
    """Elements and InferTensorContents of at most so many bytes, with the longest varints there are."""
    number = CONTENTS[FIELDS[datatype]]
    if datatype == "BYTES":
        count, long = texts_of(limits, size, 6)
        return count, encode_field(number, b"a" * long) * count
    if datatype in ("FP32", "FP64"):
        item = np.ones(1, NUMPY_TYPES[datatype]).tobytes()
    elif datatype.startswith("UINT") or datatype == "BOOL":
        item = encode_varint(1 if datatype == "BOOL" else (1 << int(datatype[4:])) - 1)
    else:
        item = encode_varint((1 << 64) - 1)  # -1
    count = min(limits.max_elements, size // len(item))
    return count, encode_field(number, item * count)
