"""The ceilings: the least a Python process can do to answer V2 infer, with nothing around it.

One model, one codec (V2 JSON, the binary tensor extension, or gRPC over as much of HTTP/2 as a client that keeps to the
rules needs), one process: no routing, no metrics, no error handling, no ids. ``inline`` runs the session once for each
request as it comes; ``batched`` joins the requests that became ready in one turn of the event loop into one run, so
nothing ever waits for a timer.
"""

import argparse
import asyncio
import gc
import struct
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import httptools
import msgspec
import numpy as np
import orjson
import uvloop
from numpy.typing import NDArray

from loadtests.models import MODELS, BenchModel, Floats
from loadtests.processes import write_ready
from penstock.proto import grpc_service_pb2 as pb

Outputs = Sequence[NDArray[Any]]
Decode = Callable[[bytes, int], Floats]
Encode = Callable[[Outputs], bytes]
Run = Callable[[Floats], Outputs]


class Writes(Protocol):
    """Where an answer goes."""

    def write(self, data: bytes, /) -> None:
        """Send it."""


Accept = Callable[[Writes, Floats], None]

_DATATYPES = {"i8": "INT64", "f4": "FP32"}


class _JsonTensor(msgspec.Struct, gc=False):
    shape: list[int]
    data: list[float]


class _JsonRequest(msgspec.Struct, gc=False):
    inputs: list[_JsonTensor]


class _BinaryTensor(msgspec.Struct, gc=False):
    shape: list[int]


class _BinaryRequest(msgspec.Struct, gc=False):
    inputs: list[_BinaryTensor]


def _json_decoder() -> Decode:
    decode = msgspec.json.Decoder(_JsonRequest).decode

    def rows(body: bytes, _: int) -> Floats:
        tensor = decode(body).inputs[0]
        return np.array(tensor.data, np.float32).reshape(tensor.shape)

    return rows


def _binary_decoder() -> Decode:
    decode = msgspec.json.Decoder(_BinaryRequest).decode

    def rows(body: bytes, header: int) -> Floats:
        shape = decode(memoryview(body)[:header]).inputs[0].shape
        return np.frombuffer(body, np.float32, offset=header).reshape(shape)

    return rows


def _json_encoder(model: BenchModel) -> Encode:
    """Answers of one row, the values written between ready pieces of text."""
    pieces: list[bytes] = []

    def encode(outputs: Outputs) -> bytes:
        if not pieces:
            pieces.extend(_json_pieces(model, outputs))
        values = [orjson.dumps(array.ravel(), option=orjson.OPT_SERIALIZE_NUMPY) for array in outputs]
        body = b"".join([part for pair in zip(pieces, values, strict=True) for part in pair]) + b"}]}"
        return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    return encode


def _json_pieces(model: BenchModel, outputs: Outputs) -> list[bytes]:
    """What stands before each output's values."""
    between = [b'{"model_name":"%b","model_version":"1","outputs":[' % model.name.encode(), *[b"},"] * len(outputs)]
    described = [orjson.dumps(_describe(name, values)) for name, values in zip(model.outputs, outputs, strict=True)]
    return [before + text[:-1] + b',"data":' for before, text in zip(between, described, strict=False)]


def _binary_encoder(model: BenchModel) -> Encode:
    """Answers of one row, the raw values behind a ready block of headers: every answer is equally long."""
    head = b""

    def encode(outputs: Outputs) -> bytes:
        nonlocal head
        head = head or _binary_head(model, outputs)
        return b"".join([head, *[values.tobytes() for values in outputs]])

    return encode


def _binary_head(model: BenchModel, outputs: Outputs) -> bytes:
    described = [
        {**_describe(name, values), "parameters": {"binary_data_size": values.nbytes}}
        for name, values in zip(model.outputs, outputs, strict=True)
    ]
    text = orjson.dumps({"model_name": model.name, "model_version": "1", "outputs": described})
    length = len(text) + sum(values.nbytes for values in outputs)
    return (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
        b"inference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n%b" % (len(text), length, text)
    )


def _describe(name: str, values: NDArray[Any]) -> dict[str, Any]:
    return {"name": name, "datatype": _DATATYPES[values.dtype.str[1:]], "shape": list(values.shape)}


def _runner(model: BenchModel, threads: int) -> Run:
    # The session without its Python wrapper, whose checks cost a fifth of a small run.
    run = model.session(threads)._sess.run  # noqa: SLF001
    names, key = list(model.outputs), model.input

    def rows(values: Floats) -> Outputs:
        outputs: Outputs = run(names, {key: values}, None)
        return outputs

    return rows


def without_run(run: Run, model: BenchModel) -> Run:
    """Return the outputs of one run again and again: what is left is the protocol, the network and the client."""
    outputs = run(model.rows(1))
    return lambda _: outputs


def inline(run: Run, encode: Encode) -> Accept:
    """Run the session for each request at once."""

    def accept(transport: Writes, rows: Floats) -> None:
        transport.write(encode(run(rows)))

    return accept


class LoopBatcher:
    """Runs the session once for all requests that became ready in one turn of the loop, up to ``most`` rows."""

    def __init__(self, run: Run, encode: Encode, most: int, loop: asyncio.AbstractEventLoop) -> None:
        self._run, self._encode, self._most, self._loop = run, encode, most, loop
        self._ready: list[tuple[Writes, Floats]] = []

    def accept(self, transport: Writes, rows: Floats) -> None:
        """Take one request of one row."""
        if not self._ready:
            self._loop.call_soon(self._flush)
        self._ready.append((transport, rows))

    def _flush(self) -> None:
        ready, self._ready = self._ready, []
        for start in range(0, len(ready), self._most):
            self._answer(ready[start : start + self._most])

    def _answer(self, calls: list[tuple[Writes, Floats]]) -> None:
        if len(calls) == 1:
            transport, rows = calls[0]
            transport.write(self._encode(self._run(rows)))
            return
        outputs = self._run(np.concatenate([rows for _, rows in calls]))
        for index, (transport, _) in enumerate(calls):
            transport.write(self._encode([values[index : index + 1] for values in outputs]))


class Ceiling(asyncio.Protocol):
    """One connection: parse, decode, hand over."""

    def __init__(self, decode: Decode, accept: Accept) -> None:
        self._decode, self._accept = decode, accept
        self._chunks: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start a parser."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but name
        self._parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Parse; complete requests come back through the callbacks."""
        self._parser.feed_data(data)

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece of the body."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Decode the request and hand it over."""
        self._accept(self._transport, self._decode(self._body(), 0))

    def _body(self) -> bytes:
        chunks, self._chunks = self._chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class BinaryCeiling(Ceiling):
    """One connection whose requests say in a header where their JSON ends."""

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note the length of the JSON part."""
        if name.lower() == b"inference-header-content-length":
            self._header = int(value)

    def on_message_complete(self) -> None:
        """Decode the request and hand it over."""
        self._accept(self._transport, self._decode(self._body(), self._header))


_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW = 0, 1, 4, 6, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREFACE = 24
_FRAME = struct.Struct(">IBI")
_OPEN_WINDOW = (1 << 31) - 1
_HEAD = b"\x88\x00\x0ccontent-type\x10application/grpc"
_TRAILERS = b"\x00\x0bgrpc-status\x010"


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return _FRAME.pack(len(payload) << 8 | kind, flags, stream) + payload


class Answer:
    """Where the answer to one call goes."""

    __slots__ = ("_number", "_transport")

    def __init__(self, transport: asyncio.Transport, number: int) -> None:
        self._transport, self._number = transport, number

    def write(self, data: bytes, /) -> None:
        """Send head, message and trailers."""
        number = self._number
        self._transport.write(
            b"".join((
                _frame(_HEADERS, _END_HEADERS, number, _HEAD),
                _frame(_DATA, 0, number, data),
                _frame(_HEADERS, _END_HEADERS | _END_STREAM, number, _TRAILERS),
            ))
        )  # fmt: skip


class GrpcCeiling(asyncio.Protocol):
    """One connection of HTTP/2 whose calls are all ModelInfer, so that no header block need be read."""

    def __init__(self, decode: Decode, accept: Accept) -> None:
        self._decode, self._accept = decode, accept
        self._in = b""
        self._greeted = False
        self._bodies: dict[int, list[bytes]] = {}
        self._taken = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Open every window."""
        self._transport = cast(asyncio.Transport, transport)
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HIHI", 4, _OPEN_WINDOW, 5, (1 << 24) - 1))
        self._transport.write(settings + _frame(_WINDOW, 0, 0, struct.pack(">I", _OPEN_WINDOW - 65535)))

    def data_received(self, data: bytes) -> None:
        """Take whole frames apart."""
        data, at = self._in + data if self._in else data, 0
        if not self._greeted:
            self._greeted, at = True, _PREFACE
        end = len(data)
        while at + 9 <= end:
            word, flags, number = _FRAME.unpack_from(data, at)
            stop = at + 9 + (word >> 8)
            if stop > end:
                break
            kind = word & 0xFF
            if kind == _DATA:
                self._body(flags, number, data[at + 9 : stop])
            elif kind in (_SETTINGS, _PING) and not flags & _ACK:
                self._transport.write(_frame(kind, _ACK, 0, data[at + 9 : stop] if kind == _PING else b""))
            at = stop
        self._in = data[at:]

    def _body(self, flags: int, number: int, data: bytes) -> None:
        self._taken += len(data)
        if self._taken > 1 << 30:
            self._transport.write(_frame(_WINDOW, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        parts = self._bodies.get(number)
        if parts is not None:
            parts.append(data)
        elif not flags & _END_STREAM:
            self._bodies[number] = [data]
        if flags & _END_STREAM:
            whole = data if parts is None else b"".join(self._bodies.pop(number))
            self._accept(Answer(self._transport, number), self._decode(whole, 5))


def _grpc_decoder() -> Decode:
    def rows(body: bytes, prefix: int) -> Floats:
        request = pb.ModelInferRequest.FromString(body[prefix:])
        return np.frombuffer(request.raw_input_contents[0], np.float32).reshape(request.inputs[0].shape)

    return rows


def _grpc_encoder(model: BenchModel) -> Encode:
    """Answers of one row, the raw values between ready pieces: every answer is equally long."""
    pieces: list[bytes] = []

    def encode(outputs: Outputs) -> bytes:
        if not pieces:
            pieces.extend(_grpc_pieces(model, outputs))
        return b"".join(
            [part for pair in zip(pieces, [output.tobytes() for output in outputs], strict=True) for part in pair]
        )

    return encode


def _grpc_pieces(model: BenchModel, outputs: Outputs) -> list[bytes]:
    """What stands before each output's values: the prefix, the description and the field's tag and length."""
    answer = pb.ModelInferResponse(model_name=model.name, model_version="1")
    for name, values in zip(model.outputs, outputs, strict=True):
        answer.outputs.add(name=name, datatype=_DATATYPES[values.dtype.str[1:]], shape=values.shape)
    described = answer.SerializeToString()
    only = [pb.ModelInferResponse(raw_output_contents=[values.tobytes()]).SerializeToString() for values in outputs]
    tags = [text[: len(text) - values.nbytes] for text, values in zip(only, outputs, strict=True)]
    size = len(described) + sum(map(len, only))
    return [struct.pack(">BI", 0, size) + described + tags[0], *tags[1:]]


Codec = tuple[Callable[[], Decode], Callable[[BenchModel], Encode], Callable[[Decode, Accept], asyncio.Protocol]]
_CODECS: dict[str, Codec] = {
    "json": (_json_decoder, _json_encoder, Ceiling),
    "binary": (_binary_decoder, _binary_encoder, BinaryCeiling),
    "grpc": (_grpc_decoder, _grpc_encoder, GrpcCeiling),
}


async def _serve(arguments: argparse.Namespace) -> None:
    model, loop = MODELS[arguments.model], asyncio.get_running_loop()
    decoder, encoder, protocol = _CODECS[arguments.codec]
    run = _runner(model, arguments.threads)
    if arguments.without_run:
        run = without_run(run, model)
    encode, decode = encoder(model), decoder()
    run(model.rows(1))
    accept = LoopBatcher(run, encode, model.max_join, loop).accept if arguments.batched else inline(run, encode)
    server = await loop.create_server(lambda: protocol(decode, accept), "127.0.0.1", 0, backlog=1024)
    gc.freeze()
    write_ready(arguments.ready_file, server.sockets[0].getsockname()[1])
    await server.serve_forever()


def main() -> None:
    """Serve one model until killed."""
    parser = argparse.ArgumentParser(prog="python -m loadtests.ceiling", description=__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--codec", choices=_CODECS, required=True)
    parser.add_argument("--batched", action="store_true", help="join what became ready in one turn of the loop")
    parser.add_argument("--without-run", action="store_true", help="give every request the answer to the first row")
    parser.add_argument("--threads", type=int, default=1, help="threads of the session")
    parser.add_argument("--ready-file", required=True, help="where to write the address once it listens")
    uvloop.run(_serve(parser.parse_args()))


if __name__ == "__main__":
    main()
