"""What is over a limit is refused over real connections: feedback, and JSON as soon as its length is known."""

import gzip
import json
from typing import Any

import pytest

from tests.conformance.rawhttp import connected
from tests.harness import Reply, Server

MAX_JSON = 8 << 20
PATH = "/v2/models/pair/infer"


def send_feedback(server: Server, entries: list[dict[str, Any]]) -> Reply:
    return server.rest("POST", "/v2/models/pair/feedback", {"feedback": entries})


@pytest.mark.parametrize(
    ("entries", "status", "sentence"),
    [
        ([{"id": "a", "reward": 1}] * 10_001, 400, "limited to 10000 answers"),
        ([{"id": "a", "label": [1] * 50_000}] * 3, 413, "send fewer at a time"),
        ([{"id": "a", "label": "x" * 1025}], 400, "at most 1024 characters"),
        ([{"id": "a", "label": ["y", "x" * 1025]}], 400, "at most 1024 characters"),
        ([{"id": "a" * (9 << 20), "label": 1}], 413, "send less at a time"),
    ],
    ids=["answers", "labels", "text", "texts", "bytes"],
)
def test_feedback_over_a_limit_is_refused(
    entries: list[dict[str, Any]], status: int, sentence: str, server: Server
) -> None:
    reply = send_feedback(server, entries)
    assert reply.status == status
    assert sentence in reply.error()


def test_the_largest_feedback_is_taken_and_the_link_lives_on(server: Server) -> None:
    texts = [{"id": f"{number:0512}", "label": ["\x01" * 1000]} for number in range(1100)]
    for _ in range(2):  # the second needs the link that carried the first
        reply = send_feedback(server, texts)
        assert reply.status == 202
        assert reply.json() == {"accepted": 1100, "unmatched": 1100}
    assert send_feedback(server, [{"id": "unknown", "reward": 1}]).status == 202


@pytest.mark.parametrize("sent", [0, 1000], ids=["nothing", "a part"])
def test_json_that_is_announced_too_long_is_refused_before_it_comes(sent: int, server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: %d\r\n\r\n" % (PATH.encode(), MAX_JSON + 1))
        wire.send(b" " * sent)
        reply = wire.reply()
    assert reply.status == 413
    assert "send its tensors as binary data" in reply.error()


def test_chunks_of_json_are_refused_once_they_are_too_long(server: Server) -> None:
    with connected(server.http) as wire:
        wire.send(b"POST %b HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n" % PATH.encode())
        wire.send(b"%x\r\n%b\r\n1\r\n " % (MAX_JSON, b" " * MAX_JSON))
        reply = wire.reply()
    assert reply.status == 413
    assert "send its tensors as binary data" in reply.error()


def test_binary_tensors_may_be_longer_than_json(server: Server) -> None:
    tensor = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
    head = json.dumps({"inputs": [tensor]}).encode()
    fields = {"inference-header-content-length": str(len(head))}
    reply = server.rest("POST", PATH, head + b"\0" * (MAX_JSON + 1), fields)
    assert reply.status == 400  # read to its end, and found to be no such tensor


INDEX = "/v2/repository/index"
GZIP = {"content-encoding": "gzip"}


@pytest.mark.parametrize(
    ("path", "most"),
    [(INDEX, 1 << 20), ("/v2/repository/models/pair/load", 1 << 20), ("/v2/models/pair/feedback", MAX_JSON)],
)
def test_what_brings_no_tensors_is_short(path: str, most: int, server: Server) -> None:
    body = b'{"other":"%b"}' % (b"a" * most)
    for reply in (server.rest("POST", path, body), server.rest("POST", path, gzip.compress(body), GZIP)):
        assert reply.status == 413
        assert "send less at a time" in reply.error()


def test_json_that_takes_long_to_inflate_is_read(server: Server) -> None:
    body = b'{"ready":true,"other":"%b"}' % (b"a" * 1_000_000)
    reply = server.rest("POST", INDEX, gzip.compress(body), GZIP)
    assert reply.status == 200
    assert reply.json() == server.rest("POST", INDEX, {"ready": True}).json()


@pytest.mark.parametrize("path", [INDEX, PATH])
def test_bodies_of_many_members_are_refused(path: str, server: Server) -> None:
    reply = server.rest("POST", path, gzip.compress(b"", mtime=0) * 20_000, GZIP)
    assert reply.status == 413
    assert "more than 16384 gzip members" in reply.error()
