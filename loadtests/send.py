"""Sends the requests of ``largest``, each on a connection of its own, and says how they ended."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path

import grpc

from loadtests.largest_data import REGION, STREAM_METHOD, TOO_LARGE, Largest, Request
from penstock.proto import grpc_service_pb2 as pb

Ended = int | grpc.StatusCode
"""An HTTP status, or a gRPC status."""

REFUSED: tuple[Ended, ...] = (429, 503, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""How requests end that are rejected for lack of capacity."""

SEGMENT = f"penstock-largest-{os.getpid()}"
SEGMENTS = Path("/dev/shm")
_OPTIONS = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.use_local_subchannel_pool", 1),
]


def send(request: Request, addresses: Mapping[str, str], timeout_s: float) -> Ended:
    """How a request ends; raises OSError where its connection does."""
    return (
        _send_grpc(request, addresses["grpc"], timeout_s) if request.grpc else _send_http(request, addresses, timeout_s)
    )


def is_expected(largest: Largest, ended: Ended) -> bool:
    """Whether a request that was sent alone ended as it has to."""
    if not largest.is_legal:
        return ended in TOO_LARGE
    return ended in (200, 202, grpc.StatusCode.OK)


def _send_http(request: Request, addresses: Mapping[str, str], timeout_s: float) -> int:
    connection = HTTPConnection(addresses["http"], timeout=timeout_s)
    try:
        connection.putrequest("POST", request.path)
        for name, value in {**request.fields, "content-length": str(len(request.bodies[0]))}.items():
            connection.putheader(name, value)
        connection.endheaders()
        with suppress(BrokenPipeError, ConnectionResetError):  # refused early; the answer says why
            connection.send(request.bodies[0])
        answer = connection.getresponse()
        while answer.read(1 << 20):
            pass
        return answer.status
    finally:
        connection.close()


def _send_grpc(request: Request, address: str, timeout_s: float) -> grpc.StatusCode:
    metadata: tuple[tuple[str, str | bytes], ...] = tuple(request.fields.items())
    with grpc.insecure_channel(address, options=_OPTIONS) as channel:
        try:
            if request.path == STREAM_METHOD:
                stream: grpc.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(request.path)
                answers = list(stream(iter(request.bodies), timeout=timeout_s, metadata=metadata))
                return _find_worst([pb.ModelStreamInferResponse.FromString(answer).error_message for answer in answers])
            infer: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(request.path)
            infer(request.bodies[0], timeout=timeout_s, metadata=metadata, compression=request.coding)
        except grpc.RpcError as failure:
            code: grpc.StatusCode = failure.code()
            return code
    return grpc.StatusCode.OK


def _find_worst(errors: list[str]) -> grpc.StatusCode:
    return grpc.StatusCode.RESOURCE_EXHAUSTED if any(errors) else grpc.StatusCode.OK


@contextmanager
def open_region(addresses: Mapping[str, str], size: int) -> Iterator[None]:
    """The region of shared memory that requests name; the server has to allow ``SEGMENT``."""
    place = SEGMENTS / SEGMENT
    with place.open("wb") as file:
        file.truncate(size)
    path = f"/v2/systemsharedmemory/region/{REGION}"
    try:
        _post(addresses["http"], f"{path}/register", b'{"key":"/%b","byte_size":%d}' % (SEGMENT.encode(), size))
        yield
        _post(addresses["http"], f"{path}/unregister", b"{}")
    finally:
        place.unlink()


def _post(address: str, path: str, body: bytes) -> None:
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("POST", path, body)
        answer = connection.getresponse()
        said = answer.read()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {said!r}")
    finally:
        connection.close()
