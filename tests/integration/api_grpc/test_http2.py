"""Our own HTTP/2: what the rules allow works in every form, and whoever breaks or bends them ends alone."""

import asyncio
import gzip
import random
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import grpc
import hpack
import pytest

from penstock.api.grpc.http2 import connection, frames, stream
from penstock.api.grpc.http2.connection_output import DROPPED_PER_TURN
from penstock.api.grpc.http2.frames import ErrorCode, encode_frame
from penstock.api.grpc.http2.request_input import MAX_UNREAD, SMALL_WINDOW
from penstock.api.grpc.services import GrpcOptions
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import wait_until
from tests.integration.api_grpc import requests
from tests.integration.api_grpc import worker as workers
from tests.integration.api_grpc.raw import HEALTH, INFER, STREAM, Raw
from tests.integration.api_grpc.requests import endless, floats, pair, slow
from tests.integration.api_grpc.worker import CALL_SECONDS, Worker

PAIR = pair(1, 1, 1).SerializeToString()


@pytest.fixture(scope="module")
def own(models: Path) -> Iterator[Worker]:
    """A worker on our own HTTP/2."""
    with workers.running(models) as running:
        yield running


@pytest.fixture
def raw(own: Worker) -> Iterator[Raw]:
    with closing(Raw(own.address)) as opened:
        yield opened


def whole(number: int, block: bytes, body: bytes) -> bytes:
    return encode_frame(frames.HEADERS, frames.END_HEADERS, number, block) + encode_frame(
        frames.DATA, frames.END_STREAM, number, body
    )


BODY = b"\0" + len(PAIR).to_bytes(4) + PAIR


# What the rules allow.


def test_a_call_and_what_it_says(raw: Raw) -> None:
    answer = raw.answer(raw.call(PAIR, x_request_id="mine"))
    assert (answer.fields[":status"], answer.status, answer.reset) == ("200", 0, None)
    assert answer.fields["content-type"] == "application/grpc"
    assert answer.fields["x-request-id"] == "mine"
    assert answer.fields["penstock-model-version"] == "2"
    assert answer.fields["penstock-route"] == "stable"
    assert floats(answer.message()) == [4, 4, 4]


def test_a_call_in_many_small_pieces(raw: Raw) -> None:
    block = raw.head()
    parts = [encode_frame(frames.HEADERS, 0, 1, block[:3])]
    parts += [encode_frame(frames.CONTINUATION, 0, 1, block[at : at + 9]) for at in range(3, len(block), 9)]
    parts.append(encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1))
    parts += [encode_frame(frames.DATA, 0, 1, BODY[at : at + 7]) for at in range(0, len(BODY), 7)]
    parts.append(encode_frame(frames.DATA, frames.END_STREAM, 1))
    stream = b"".join(parts)
    for at in range(0, len(stream), 11):
        raw.write(stream[at : at + 11])
        time.sleep(0)
    assert floats(raw.answer(1).message()) == [4, 4, 4]


def test_padding_priority_and_trailers(raw: Raw) -> None:
    block = bytes((3,)) + b"\0\0\0\0\x10" + raw.head() + b"\0\0\0"
    raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED | frames.HAS_PRIORITY, 1, block))
    raw.write(encode_frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x20"))
    raw.write(encode_frame(frames.DATA, frames.PADDED, 1, bytes((5,)) + BODY + b"\0" * 5))
    raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, raw.encoder.encode([("a", "b")])))
    assert floats(raw.answer(1).message()) == [4, 4, 4]


def test_many_calls_at_once_and_blocks_that_repeat(raw: Raw) -> None:
    numbers = [raw.call(PAIR, x_request_id="same") for _ in range(300)]
    assert all(floats(raw.answer(number).message()) == [4, 4, 4] for number in numbers)
    numbers = [raw.call(PAIR, x_request_id=f"r{index % 7}", grpc_timeout=f"{1000 + index}m") for index in range(60)]
    for index, number in enumerate(numbers):
        assert raw.answer(number).fields["x-request-id"] == f"r{index % 7}"


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_as_it_was_asked(raw: Raw, encoding: str) -> None:
    small = gzip.compress(PAIR) if encoding == "gzip" else zlib.compress(PAIR)
    head = raw.head(grpc_encoding=encoding, grpc_accept_encoding="identity,gzip,deflate")
    raw.write(whole(1, head, b"\x01" + len(small).to_bytes(4) + small))
    answer = raw.answer(1)
    assert (answer.fields["grpc-encoding"], answer.data[0]) == (encoding, 1)
    plain = gzip.decompress(answer.data[5:]) if encoding == "gzip" else zlib.decompress(answer.data[5:])
    assert floats(pb.ModelInferResponse.FromString(plain)) == [4, 4, 4]


@pytest.mark.parametrize(
    ("head", "body", "status"),
    [
        ({"grpc_encoding": "br"}, BODY, grpc.StatusCode.UNIMPLEMENTED),
        ({"grpc_encoding": "gzip"}, b"\x01\0\0\0\x03abc", grpc.StatusCode.INTERNAL),
        ({}, b"\x01\0\0\0\x03abc", grpc.StatusCode.INTERNAL),
        ({}, b"", grpc.StatusCode.INTERNAL),
        ({}, BODY + BODY, grpc.StatusCode.INTERNAL),
        ({}, BODY[:-1], grpc.StatusCode.INTERNAL),
        ({"grpc_timeout": "1"}, BODY, grpc.StatusCode.INTERNAL),
        ({"grpc_timeout": "123456789S"}, BODY, grpc.StatusCode.INTERNAL),
        ({"grpc_timeout": "0n"}, BODY, grpc.StatusCode.DEADLINE_EXCEEDED),
        ({"penstock_timeout_ms": "soon"}, BODY, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_calls_that_cannot_be(raw: Raw, head: dict[str, str], body: bytes, status: grpc.StatusCode) -> None:
    raw.write(whole(1, raw.head(**head), body))
    assert raw.answer(1).status == status.value[0]
    raw.next = 3
    assert raw.answer(raw.call(PAIR)).status == 0  # the connection lives on


@pytest.mark.parametrize("path", [INFER, STREAM, HEALTH])
def test_an_unknown_compression_is_answered_with_the_known_ones(raw: Raw, path: str) -> None:
    answer = raw.answer(raw.call(PAIR, path, grpc_encoding="br"))
    assert answer.status == grpc.StatusCode.UNIMPLEMENTED.value[0]
    assert answer.fields["grpc-accept-encoding"] == "identity,gzip,deflate"


def test_only_inference_takes_large_messages(raw: Raw) -> None:
    large = pb.ModelMetadataRequest(name="x" * (1 << 20)).SerializeToString()
    answer = raw.answer(raw.call(large, "/inference.GRPCInferenceService/ModelMetadata"))
    assert answer.status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
    assert "over the limit of 1048576 bytes" in answer.fields["grpc-message"]


@pytest.mark.parametrize(
    ("path", "method", "kind", "status", "code"),
    [
        ("/nothing", "POST", "application/grpc", "200", 12),
        (INFER, "GET", "application/grpc", "405", None),
        (INFER, "POST", "text/html", "415", None),
        (HEALTH, "POST", "application/grpc+proto", "200", 0),
    ],
)
def test_malformed_calls_are_refused(
    raw: Raw, path: str, method: str, kind: str, status: str, code: int | None
) -> None:
    fields = [(":method", method), (":scheme", "http"), (":path", path), ("content-type", kind)]
    raw.write(whole(1, raw.encoder.encode(fields), b"\0\0\0\0\0"))
    answer = raw.answer(1)
    assert answer.fields[":status"] == status
    assert answer.fields.get("grpc-status") == (None if code is None else str(code))


@pytest.mark.parametrize(
    "fields",
    [
        [(":method", "POST"), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("Content-Type", "application/grpc")],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), ("connection", "close")],
        [("a", "b"), (":method", "POST"), (":scheme", "http"), (":path", INFER)],
        [(":method", "POST"), (":method", "POST"), (":scheme", "http"), (":path", INFER)],
        [(":method", "POST"), (":scheme", "http"), (":path", INFER), (":moon", "1")],
    ],
)
def test_malformed_requests_end_their_own_call(raw: Raw, fields: list[tuple[str, str]]) -> None:
    raw.write(whole(1, raw.encoder.encode(fields), BODY))
    assert raw.answer(1).reset == ErrorCode.PROTOCOL_ERROR
    raw.next = 3
    assert raw.answer(raw.call(PAIR)).status == 0


# Windows.


def test_an_answer_waits_for_windows(own: Worker) -> None:
    """A stream window of ten bytes, and no more than ten at a time."""
    with closing(Raw(own.address, {frames.INITIAL_WINDOW_SIZE: 10})) as raw:
        number = raw.call(PAIR)
        raw.frames_until(frames.SETTINGS)
        time.sleep(0.2)
        raw.write(encode_frame(frames.PING, 0, 0, b"12345678"))
        raw.frames_until(frames.PING)
        assert len(raw.answers[number].data) == 10
        while not raw.answers[number].over:
            raw.write(frames.window_update(number, 10))
            raw.read()
        assert floats(raw.answers[number].message()) == [4, 4, 4]


def test_a_changed_first_window_holds_for_calls_under_way(own: Worker) -> None:
    with closing(Raw(own.address, {frames.INITIAL_WINDOW_SIZE: 0})) as raw:
        number = raw.call(PAIR)
        raw.write(encode_frame(frames.PING, 0, 0, b"12345678"))
        raw.frames_until(frames.PING)
        while number not in raw.answers:
            raw.read()
        assert raw.answers[number].data == b""
        raw.write(frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 1000}))
        assert floats(raw.answer(number).message()) == [4, 4, 4]


def test_large_messages_both_ways(own: Worker) -> None:
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    numbers = [float(index % 251) for index in range(2_000_000)]
    with grpc.insecure_channel(own.address, options=options) as channel:
        request = pair(*numbers)
        request.model_name, request.model_version = "identity_fp32", ""
        request.inputs[0].name = "x"
        request.inputs[0].shape[:] = [1000, 2000]
        answer = GRPCInferenceServiceStub(channel).ModelInfer(request, timeout=CALL_SECONDS)
        assert floats(answer) == numbers


def test_a_message_over_the_limit(models: Path) -> None:
    with workers.running(models, GrpcOptions(max_message_bytes=1000)) as small, closing(Raw(small.address)) as raw:
        raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head()))
        raw.write(encode_frame(frames.DATA, 0, 1, b"\0\0\0\x10\0" + bytes(2000)))
        answer = raw.answer(1)
        assert answer.status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        bomb = gzip.compress(bytes(100_000))
        raw.write(whole(3, raw.head(grpc_encoding="gzip"), b"\x01" + len(bomb).to_bytes(4) + bomb))
        assert raw.answer(3).status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
        for number in (5, 7, 9):  # the last of them comes with a field block that is known
            raw.write(whole(number, raw.head(), b"\0" + (2000).to_bytes(4) + bytes(2000)))
            assert raw.answer(number).status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]


# A call's and a connection's end.


def test_a_reset_gives_a_run_up(own: Worker) -> None:
    before = own.outcomes("steps")
    with closing(Raw(own.address)) as raw:
        number = raw.call(endless().SerializeToString())
        wait_until(lambda: own.totals("steps").inflight == 1, CALL_SECONDS, "the run")
        raw.write(frames.reset(number, ErrorCode.CANCEL))
        own.awaits({"cancelled": 1}, model="steps", since=before)
        own.settles("steps")
        assert raw.answer(raw.call(PAIR)).status == 0


def test_a_connection_that_breaks_gives_all_its_runs_up(own: Worker) -> None:
    before = own.outcomes("steps")
    with closing(Raw(own.address)) as raw:
        for _ in range(DROPPED_PER_TURN + 5):
            raw.call(endless().SerializeToString())
        wait_until(lambda: own.totals("steps").inflight == DROPPED_PER_TURN + 5, CALL_SECONDS, "the runs")
    own.awaits({"cancelled": DROPPED_PER_TURN + 5}, model="steps", since=before)
    own.settles("steps")


def test_a_deadline_ends_a_run(own: Worker) -> None:
    with closing(Raw(own.address)) as raw:
        answer = raw.answer(raw.call(slow().SerializeToString(), grpc_timeout="50m"))
        assert answer.status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        own.settles("slow")


def test_a_drain_loses_no_call(models: Path) -> None:
    """Clients that call without pause while servers drain one after the other: each call is answered."""
    with workers.running(models) as first:
        port = int(first.address.rpartition(":")[2])
        stop, problems, answered = threading.Event(), [], [0]

        def call() -> None:
            with grpc.insecure_channel(first.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
                stub = GRPCInferenceServiceStub(channel)
                while not stop.is_set():
                    try:
                        assert floats(stub.ModelInfer(pair(1, 1, 1), timeout=CALL_SECONDS, wait_for_ready=True)) == [
                            4,
                            4,
                            4,
                        ]
                        answered[0] += 1
                    except grpc.RpcError as error:
                        problems.append(str(error))

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        server = first.server
        for _ in range(5):
            time.sleep(0.3)
            twin = first.kind(first.plane, GrpcOptions())
            first.run(twin.start("127.0.0.1", port))
            first.run(server.stop(5))
            server = twin
        stop.set()
        for thread in threads:
            thread.join(CALL_SECONDS)
        first.server = server
        assert problems == []
        assert answered[0] > 100


def test_no_more_calls_after_the_last_goaway(models: Path) -> None:
    with workers.running(models) as mortal, closing(Raw(mortal.address)) as raw:
        assert raw.answer(raw.call(PAIR)).status == 0
        waiting = raw.call(slow().SerializeToString())
        wait_until(lambda: mortal.begun("slow") == 1, CALL_SECONDS, "the run")
        mortal.call(mortal.server.drain)
        assert int.from_bytes(raw.frames_until(frames.GOAWAY).payload[:4]) == frames.STREAM_MASK
        delayed = raw.call(PAIR)  # it was on its way
        assert raw.answer(delayed).status == 0
        ping = raw.frames_until(frames.PING)
        raw.write(encode_frame(frames.PING, frames.ACK, 0, ping.payload))
        assert int.from_bytes(raw.frames_until(frames.GOAWAY).payload[:4]) == delayed
        assert raw.answer(raw.call(PAIR)).reset == ErrorCode.REFUSED_STREAM
        assert raw.answer(waiting).status == 0
        assert raw.until_closed() is None


# Rules broken: the connection ends with the right code.


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (lambda raw: encode_frame(frames.DATA, 0, 1, b"x"), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: encode_frame(frames.HEADERS, frames.END_HEADERS, 2, raw.head()), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: encode_frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xff\xff\xff"), ErrorCode.COMPRESSION_ERROR),
        (lambda raw: encode_frame(frames.HEADERS, frames.END_HEADERS, 1, b"\xbf\x00"), ErrorCode.COMPRESSION_ERROR),
        (
            lambda raw: encode_frame(frames.HEADERS, 0, 1, raw.head()) + encode_frame(frames.PING, 0, 0, bytes(8)),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (lambda raw: encode_frame(frames.CONTINUATION, frames.END_HEADERS, 1, b""), ErrorCode.PROTOCOL_ERROR),
        (
            lambda raw: encode_frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED, 1, b"\xff" + raw.head()),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (lambda raw: encode_frame(frames.SETTINGS, 0, 0, b"12345"), ErrorCode.FRAME_SIZE_ERROR),
        (lambda raw: encode_frame(frames.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 1 << 31}), ErrorCode.FLOW_CONTROL_ERROR),
        (lambda raw: frames.encode_settings({frames.MAX_FRAME_SIZE: 5}), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: frames.encode_settings({frames.ENABLE_PUSH: 2}), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: encode_frame(frames.PING, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (lambda raw: encode_frame(frames.PING, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: frames.window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: frames.window_update(0, 0x7FFFFFFF), ErrorCode.FLOW_CONTROL_ERROR),
        (lambda raw: frames.window_update(9, 1), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: frames.reset(9, ErrorCode.CANCEL), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: encode_frame(frames.RST_STREAM, 0, 1, b"1"), ErrorCode.FRAME_SIZE_ERROR),
        (lambda raw: encode_frame(frames.PRIORITY, 0, 1, b"1"), ErrorCode.FRAME_SIZE_ERROR),
        (lambda raw: encode_frame(frames.PUSH_PROMISE, 0, 1, b"1234"), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: frames.FRAME_HEADER.pack((1 << 21) << 8 | frames.DATA, 0, 1), ErrorCode.FRAME_SIZE_ERROR),
        (
            lambda raw: (
                encode_frame(frames.HEADERS, 0, 1, b"\x82" * (1 << 16))
                + encode_frame(frames.CONTINUATION, 0, 1, b"\x82" * 65536) * 5
            ),
            ErrorCode.ENHANCE_YOUR_CALM,
        ),
        (lambda raw: encode_frame(frames.SETTINGS, frames.ACK, 0, b"123456"), ErrorCode.FRAME_SIZE_ERROR),
        (lambda raw: encode_frame(frames.GOAWAY, 0, 1, bytes(8)), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: encode_frame(frames.HEADERS, frames.END_HEADERS, 0, raw.head()), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(3, raw.head(), BODY) + whole(1, raw.head(), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(2, raw.head(), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: encode_frame(frames.WINDOW_UPDATE, 0, 0, b"123"), ErrorCode.FRAME_SIZE_ERROR),
        (lambda raw: encode_frame(frames.PRIORITY, 0, 0, bytes(5)), ErrorCode.PROTOCOL_ERROR),
    ],
)
def test_each_broken_rule_ends_the_connection_with_its_code(
    raw: Raw, own: Worker, build: Callable[[Raw], bytes], code: ErrorCode
) -> None:
    raw.write(build(raw))
    assert raw.until_closed() == code
    with closing(Raw(own.address)) as other:
        assert other.answer(other.call(PAIR)).status == 0


@pytest.mark.parametrize(
    ("build", "code"),
    [
        (
            lambda raw: encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head()) + frames.window_update(1, 0),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            lambda raw: (
                encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head()) + frames.window_update(1, 0x7FFFFFFF)
            ),
            ErrorCode.FLOW_CONTROL_ERROR,
        ),
        (lambda raw: whole(1, raw.head(te="gzip"), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(content_length="1"), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(content_length="9999"), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(content_length="soon"), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(x="a\r\nb"), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(x="a\0b"), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(**{"a b": "c"}), BODY), ErrorCode.PROTOCOL_ERROR),
        (lambda raw: whole(1, raw.head(transfer_encoding="chunked"), BODY), ErrorCode.PROTOCOL_ERROR),
        (
            lambda raw: (
                encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head())
                + encode_frame(
                    frames.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, raw.encoder.encode([(":path", "/")])
                )
            ),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            lambda raw: (
                encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head())
                + encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.encoder.encode([("a", "b")]))
            ),
            ErrorCode.PROTOCOL_ERROR,
        ),
        (
            lambda raw: whole(1, raw.head(), slow_body()) + encode_frame(frames.DATA, 0, 1, b"more"),
            ErrorCode.STREAM_CLOSED,
        ),
    ],
)
def test_a_fault_of_a_stream_ends_that_stream_alone(raw: Raw, build: Callable[[Raw], bytes], code: ErrorCode) -> None:
    raw.write(build(raw))
    assert raw.answer(1).reset == code
    raw.next = 3
    assert raw.answer(raw.call(PAIR)).status == 0
    assert not raw.closed


def slow_body() -> bytes:
    message = slow().SerializeToString()
    return b"\0" + len(message).to_bytes(4) + message


@pytest.mark.parametrize("pieces", [1, 3])
def test_too_many_header_fields_end_their_own_call(raw: Raw, pieces: int) -> None:
    """What they add to the dynamic table holds for the calls after it."""
    block = raw.head(big="x" * 40_000, mark="kept")
    size = -(-len(block) // pieces)
    for at in range(0, len(block), size):
        kind = frames.CONTINUATION if at else frames.HEADERS
        raw.write(encode_frame(kind, frames.END_HEADERS if at + size >= len(block) else 0, 1, block[at : at + size]))
    raw.write(encode_frame(frames.DATA, frames.END_STREAM, 1, BODY))
    answer = raw.answer(1)
    assert (answer.fields[":status"], answer.status) == ("200", grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    raw.next = 3
    assert raw.answer(raw.call(PAIR, mark="kept")).status == 0


def large_fields(kind: str) -> list[hpack.HeaderTuple]:
    """Fields that come to several hundred kilobytes."""
    found: dict[str, list[hpack.HeaderTuple]] = {
        "one long value": [hpack.HeaderTuple("x-long", "v" * 900_000)],
        "a long name": [hpack.HeaderTuple("x" * 900_000, "1")],
        "many fields": [hpack.HeaderTuple(f"x-{number}", "value " * 12) for number in range(6000)],
        "a field over and over": [hpack.HeaderTuple("x-same", "y" * 50)] * 120_000,
        "fields that are not indexed": [
            hpack.NeverIndexedHeaderTuple(f"x-{number}", "z" * 120) for number in range(4000)
        ],
    }
    return found[kind]


def in_frames(number: int, block: bytes, size: int) -> bytes:
    """A header block in frames of so many bytes, the last of which ends it."""
    parts = [block[at : at + size] for at in range(0, len(block), size)]
    kinds = [frames.HEADERS] + [frames.CONTINUATION] * (len(parts) - 1)
    flags = [0] * (len(parts) - 1) + [frames.END_HEADERS]
    return b"".join(
        encode_frame(kind, flag, number, part) for kind, flag, part in zip(kinds, flags, parts, strict=True)
    )


@pytest.mark.parametrize("size", [500, 1 << 14, 1 << 16])
@pytest.mark.parametrize(
    "kind",
    ["one long value", "a long name", "many fields", "a field over and over", "fields that are not indexed"],
)
def test_a_header_block_of_any_size_ends_its_stream_alone(raw: Raw, kind: str, size: int) -> None:
    """One call is under way meanwhile, and what the block does to the dynamic table holds for the calls after it."""
    under_way = raw.call(PAIR, mark="first")
    block = raw.head(mark="kept") + bytes(raw.encoder.encode(large_fields(kind), huffman=False))
    raw.next += 2
    raw.write(in_frames(3, block, size) + encode_frame(frames.DATA, frames.END_STREAM, 3, BODY))
    assert raw.answer(under_way).status == 0
    answer = raw.answer(3)
    assert (answer.fields[":status"], answer.status) == ("200", grpc.StatusCode.RESOURCE_EXHAUSTED.value[0])
    assert raw.answer(raw.call(PAIR, mark="kept", x_request_id="after")).fields["x-request-id"] == "after"
    assert not raw.closed


def test_a_large_header_block_without_a_call_is_answered_with_431(raw: Raw) -> None:
    usual = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "localhost")]
    block = bytes(raw.encoder.encode([*usual, *large_fields("one long value")], huffman=False))
    raw.write(in_frames(1, block, 1 << 14))
    assert raw.answer(1).fields[":status"] == "431"
    raw.next = 3
    assert raw.answer(raw.call(PAIR)).status == 0


def test_large_trailers_are_dropped(raw: Raw) -> None:
    raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head()) + encode_frame(frames.DATA, 0, 1, BODY))
    trailers = bytearray(in_frames(1, bytes(raw.encoder.encode(large_fields("many fields"), huffman=False)), 1 << 14))
    trailers[4] |= frames.END_STREAM
    raw.write(bytes(trailers))
    assert floats(raw.answer(1).message()) == [4, 4, 4]
    raw.next = 3
    assert raw.answer(raw.call(PAIR)).status == 0


def test_data_that_was_on_its_way_when_its_call_was_refused_harms_nobody(raw: Raw) -> None:
    raw.write(whole(1, raw.head(path="/nothing"), b"")[: -frames.FRAME_HEADER_BYTES])
    assert raw.answer(1).status == grpc.StatusCode.UNIMPLEMENTED.value[0]
    raw.write(b"".join(encode_frame(frames.DATA, 0, 1, bytes(1 << 14)) for _ in range(400)))
    raw.next = 3
    assert raw.answer(raw.call(PAIR)).status == 0


def test_the_first_frame_has_to_be_settings(own: Worker) -> None:
    with closing(Raw(own.address, greet=False)) as raw:
        raw.write(frames.PREFACE + encode_frame(frames.PING, 0, 0, bytes(8)))
        assert raw.until_closed() == ErrorCode.PROTOCOL_ERROR


def test_connections_that_are_not_http2_are_closed(own: Worker) -> None:
    with closing(Raw(own.address, greet=False)) as raw:
        raw.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert raw.until_closed() == ErrorCode.PROTOCOL_ERROR


# Rules bent: floods end whoever makes them, and nobody else.


def rapid_resets(raw: Raw) -> bytes:
    number, raw.next = raw.next, raw.next + 2
    return encode_frame(frames.HEADERS, frames.END_HEADERS, number, raw.head()) + frames.reset(number, ErrorCode.CANCEL)


def continuations(raw: Raw) -> bytes:
    first = b"" if raw.next > 1 else encode_frame(frames.HEADERS, 0, 1, b"")
    raw.next = 3
    return first + encode_frame(frames.CONTINUATION, 0, 1, b"") * 10


def empties(raw: Raw) -> bytes:
    first = b"" if raw.next > 1 else encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head())
    raw.next = 3
    return first + encode_frame(frames.DATA, 0, 1, b"") * 10


@pytest.mark.parametrize(
    "flood",
    [
        rapid_resets,
        continuations,
        empties,
        lambda raw: encode_frame(frames.PING, 0, 0, b"12345678") * 10,
        lambda raw: frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 1000}) * 10,
        lambda raw: encode_frame(99, 0, 0, b"unknown") * 10,
        lambda raw: frames.window_update(0, 1) * 100,
        lambda raw: encode_frame(frames.PRIORITY, 0, 1, b"\0\0\0\0\x20") * 10,
    ],
    ids=["resets", "continuations", "empty", "pings", "settings", "unknown", "windows", "priorities"],
)
def test_a_flood_ends_its_connection(own: Worker, flood: Callable[[Raw], bytes]) -> None:
    with closing(Raw(own.address)) as bad, closing(Raw(own.address)) as good:
        for _ in range(3000):
            if bad.closed:
                break
            bad.write(flood(bad))
            if len(bad.other) > 1000:
                bad.other.clear()
        assert bad.until_closed() in (ErrorCode.ENHANCE_YOUR_CALM, None)  # its last words may be lost to a full socket
        assert floats(good.answer(good.call(PAIR)).message()) == [4, 4, 4]


def test_more_calls_than_agreed_are_refused_and_may_come_again(models: Path) -> None:
    with workers.running(models, GrpcOptions(max_concurrent_streams=3)) as few, closing(Raw(few.address)) as raw:
        numbers = [raw.call(slow().SerializeToString()) for _ in range(5)]
        assert [raw.answer(number).reset for number in numbers[3:]] == [ErrorCode.REFUSED_STREAM] * 2
        for number in numbers[:3]:
            raw.write(frames.reset(number, ErrorCode.CANCEL))
        wait_until(lambda: few.totals("slow").inflight == 0, CALL_SECONDS, "room")
        assert raw.answer(raw.call(PAIR)).status == 0


def test_a_client_with_tiny_windows_that_reads_nothing_is_refused(own: Worker) -> None:
    rows = [[1, 1, index] for index in range(100)]  # more than the window takes
    large = requests.raw("pair", "x", "FP32", rows).SerializeToString()
    with closing(Raw(own.address, {frames.INITIAL_WINDOW_SIZE: SMALL_WINDOW - 1})) as raw:
        numbers = [raw.call(large) for _ in range(MAX_UNREAD)]
        while len(raw.answers) < MAX_UNREAD:  # the first header blocks
            raw.read()
        assert raw.answer(raw.call(PAIR)).reset == ErrorCode.REFUSED_STREAM
        raw.write(frames.encode_settings({frames.INITIAL_WINDOW_SIZE: 10_000}) + frames.window_update(0, 1 << 20))
        assert all(floats(raw.answer(number).message())[-3:] == [4, 4, 200] for number in numbers)
        assert raw.answer(raw.call(PAIR)).status == 0


def test_many_paused_readers_hold_back_nobody_else(own: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STUCK_NS", 10 * 60_000_000_000)
    rows = [[1, 1, index] for index in range(200)]
    large = requests.raw("pair", "x", "FP32", rows).SerializeToString()
    with closing(Raw(own.address, {frames.INITIAL_WINDOW_SIZE: SMALL_WINDOW})) as raw:
        raw.write(frames.window_update(0, 1 << 24))
        paused = []
        for _ in range(500):  # one after another: a burst would be refused on a machine that stalls
            paused.append(raw.call(large))
            while paused[-1] not in raw.answers:
                raw.read()
        for _ in range(50):
            assert floats(raw.answer(raw.call(PAIR)).message()) == [4, 4, 4]
        assert not any(raw.answers[item].over for item in paused)


def test_noise_ends_its_connection_and_nothing_else(own: Worker) -> None:
    draw = random.Random(20_261_121)
    for _ in range(300):
        with closing(Raw(own.address)) as raw:
            data = bytearray(whole(1, raw.head(), BODY))
            for _ in range(draw.randrange(1, 6)):
                data[draw.randrange(len(data))] = draw.randrange(256)
            raw.write(bytes(data) + draw.randbytes(draw.randrange(64)))
    with closing(Raw(own.address)) as raw:
        assert floats(raw.answer(raw.call(PAIR)).message()) == [4, 4, 4]


def test_grpc_aio_and_many_streams(own: Worker) -> None:
    async def calls() -> int:
        async with grpc.aio.insecure_channel(own.address) as channel:
            stub = GRPCInferenceServiceStub(channel)
            calls = [stub.ModelInfer(pair(1, 1, index), timeout=CALL_SECONDS) for index in range(500)]
            answers = await asyncio.gather(*calls)
            return sum(floats(answer)[2] == 2 * index + 2 for index, answer in enumerate(answers))

    assert asyncio.run(calls()) == 500


@pytest.mark.parametrize("path", [INFER, HEALTH])
def test_a_request_that_never_becomes_whole_is_ended(own: Worker, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    monkeypatch.setattr(stream, "REQUEST_NS", 200_000_000)
    with closing(Raw(own.address)) as raw:
        raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head(path)))
        assert raw.answer(1).reset == ErrorCode.CANCEL
        raw.next = 3
        assert raw.answer(raw.call(PAIR)).status == 0


@pytest.mark.parametrize("path", [INFER, HEALTH])
@pytest.mark.parametrize("data", [b"", BODY[:9]], ids=["head", "some data"])
def test_a_deadline_ends_a_request_that_is_not_whole(own: Worker, path: str, data: bytes) -> None:
    with closing(Raw(own.address)) as raw:
        raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 1, raw.head(path, grpc_timeout="100m")))
        if data:
            raw.write(encode_frame(frames.DATA, 0, 1, data))
        assert raw.answer(1).status == grpc.StatusCode.DEADLINE_EXCEEDED.value[0]
        raw.next = 3
        assert raw.answer(raw.call(PAIR)).status == 0


def test_deadlines_of_many_requests_end_each_at_its_own(own: Worker) -> None:
    before = own.outcomes()
    with closing(Raw(own.address)) as raw:
        draw = random.Random(7)
        times = [draw.randrange(1, 300) for _ in range(50)]
        for index, milliseconds in enumerate(times):
            block = raw.head(grpc_timeout=f"{milliseconds}m")
            raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, 2 * index + 1, block))
        statuses = [raw.answer(2 * index + 1).status for index in range(50)]
        assert statuses == [grpc.StatusCode.DEADLINE_EXCEEDED.value[0]] * 50
        own.awaits({"deadline": 50}, since=before)


def test_health_is_answered_where_no_memory_is_left(own: Worker) -> None:
    memory = own.plane.memory
    size = memory.limit - memory.used
    assert own.call(lambda: memory.take(size))
    try:
        with closing(Raw(own.address)) as raw:
            assert raw.answer(raw.call(b"", path=HEALTH)).status == 0
            large = requests.raw("pair", "x", "FP32", [[1, 1, 1]] * 1000).SerializeToString()
            assert raw.answer(raw.call(large)).status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            number = raw.next
            raw.write(encode_frame(frames.HEADERS, frames.END_HEADERS, number, raw.head()))
            for _ in range(20):  # not in small pieces, either
                raw.write(encode_frame(frames.DATA, 0, number, bytes(1000)))
            assert raw.answer(number).status == grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
            raw.next += 2
            assert raw.answer(raw.call(b"", path=HEALTH)).status == 0
    finally:
        own.call(lambda: memory.give_back(size))
