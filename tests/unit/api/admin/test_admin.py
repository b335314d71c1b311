"""The admin API's words: what each call takes, answers and refuses, over a registry in memory."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from penstock.api.admin.incoming import read_chunks
from penstock.core.errors import KINDS, Cancelled, DeadlineExceeded, Fault, Overloaded, TooLarge
from penstock.core.labels import HTTP_STATUS
from tests.simulation.loop import VirtualLoop
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import BAD_BYTES, MemoryRegistrar

GRAPH = b"graph one"


def push(
    client: Client, version: str = "1", content: bytes = GRAPH, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    return client.admin("PUT", f"/models/m/versions/{version}", content, headers)


def test_a_push_says_what_came_of_it(client: Client, registry_admin: MemoryRegistrar) -> None:
    metadata = {"metrics": {"accuracy": 0.9}, "card": {"summary": "größer"}}
    headers = {"penstock-metadata": json.dumps(metadata), "penstock-actor": "j%C3%BCrg", "penstock-reason": "why%20not"}
    pushed = push(client, headers=headers)
    assert pushed.status_code == 201
    assert pushed.json()["digest"] == f"sha256:{hashlib.sha256(GRAPH).hexdigest()}"
    assert pushed.json()["metadata"] == metadata
    assert pushed.headers["etag"] == '"1"'
    assert (registry_admin.changes[0]["actor"], registry_admin.changes[0]["reason"]) == ("jürg", "why not")
    assert push(client).status_code == 200
    assert push(client, content=b"graph two").status_code == 409
    refused = push(client, "2", BAD_BYTES)
    assert refused.status_code == 422
    assert refused.json() == {"error": "it holds no ONNX graph", "reason": "it holds no ONNX graph"}
    assert push(client, "x").status_code == 400


def test_a_push_is_never_held_as_a_whole(client: Client, registry_admin: MemoryRegistrar) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(640):
            yield bytes(64 << 10)

    assert client.admin("PUT", "/models/m/versions/1", body()).status_code == 201
    assert registry_admin.most_held < 2 << 20


@pytest.mark.parametrize(
    "metadata",
    [
        "no json",
        "[]",
        '{"colour": 1}',
        '{"metrics": {"a": NaN}}',
        '{"source": "a", "source": "b"}',
        '{"source": "half \\ud800"}',
        '{"source": "nul \\u0000"}',
        '{"card": {}}',
        json.dumps({"source": "x" * (48 << 10)}),
    ],
)
def test_metadata_that_cannot_be_is_refused_before_anything_is_received(
    client: Client, registry_admin: MemoryRegistrar, metadata: str
) -> None:
    assert push(client, headers={"penstock-metadata": metadata}).status_code == 400
    assert not registry_admin.versions


CHANGES: Mapping[str, tuple[str, str, Mapping[str, Any] | bytes]] = {
    "push": ("PUT", "/models/m/versions/2", b"graph two"),
    "alias": ("PUT", "/models/m/aliases/champion", {"version": "1"}),
    "roll back": ("POST", "/models/m/rollback", {}),
    "settings": ("PUT", "/models/m/settings", {"versions": "latest:1"}),
    "drop alias": ("DELETE", "/models/m/aliases/champion", {}),
    "retire": ("DELETE", "/models/m/versions/1", {}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_takes_a_revision_and_answers_with_the_next(
    client: Client, registry_admin: MemoryRegistrar, change: str
) -> None:
    push(client)
    etag = client.admin("PUT", "/models/m/aliases/champion", {"version": "1"}).headers["etag"]
    method, path, body = CHANGES[change]
    for stale in ('"1"', "1", '"999999999999999999"'):
        refused = client.admin(method, path, body, {"if-match": stale})
        assert refused.status_code == 409, (stale, refused.text)
        assert refused.headers["penstock-fault"] == "conflict"
    for malformed in ('"a"', '"1", "2"', '""', "'1'", '"1', '""1""', "-1", "**", "1" * 19):
        assert client.admin(method, path, body, {"if-match": malformed}).status_code == 400, malformed
    assert len(registry_admin.changes) == 2
    done = client.admin(method, path, body, {"if-match": etag})
    assert done.status_code in (200, 201), done.text
    assert done.json()["revision"] == 3
    assert done.headers["etag"] == '"3"'


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_has_actor_and_reason(client: Client, registry_admin: MemoryRegistrar, change: str) -> None:
    push(client)
    client.admin("PUT", "/models/m/aliases/champion", {"version": "1"})
    method, path, body = CHANGES[change]
    if isinstance(body, Mapping):
        done = client.admin(method, path, {**body, "reason": "of the body"}, {"penstock-actor": "ann"})
        expected = "of the body"
    else:
        done = client.admin(method, path, body, {"penstock-actor": "ann", "penstock-reason": "of the header"})
        expected = "of the header"
    assert done.is_success, done.text
    assert (registry_admin.changes[-1]["actor"], registry_admin.changes[-1]["reason"]) == ("ann", expected)


def test_a_caller_without_a_name_is_anonymous(client: Client, registry_admin: MemoryRegistrar) -> None:
    push(client)
    assert (registry_admin.changes[0]["actor"], registry_admin.changes[0]["reason"]) == ("anonymous", "")


@pytest.mark.parametrize(
    "headers",
    [
        {"penstock-actor": ""},
        {"penstock-actor": "x" * 129},
        {"penstock-actor": "a%1bb"},
        {"penstock-actor": "a%0Ab"},
        {"penstock-reason": "x" * 2001},
        {"penstock-reason": "nul%00"},
    ],
)
def test_actor_and_reason_are_short_and_readable(client: Client, headers: dict[str, str]) -> None:
    assert client.admin("PUT", "/models/m/versions/1", GRAPH, headers).status_code == 400


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "'version' must be given"),
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"version": NaN}', "not valid JSON"),
        (b'{"version": "1", "version": "2"}', "duplicate key"),
        (b"[]", "JSON object"),
        (b'"1"', "JSON object"),
        (
            b'{"version": "1", "weight": 1, "colour": 2}',
            "unknown key 'colour'; expected version, expected, force, reason",
        ),
        (b'{"version": 1}', "'version' must be given as a text"),
        (b'{"version": "' + b"1" * 201 + b'"}', "'version' must be given as a text"),
        (b'{"version": "1", "expected": 1}', "'expected' must be"),
        (b'{"version": "1", "expected": false}', "'expected' must be"),
        (b'{"version": "1", "reason": 5}', "the reason must be"),
        (b'{"version": "1", "reason": "half \\ud800"}', "the reason must be"),
    ],
)
def test_invalid_bodies_are_refused_with_a_reason(client: Client, body: bytes, says: str) -> None:
    push(client)
    refused = client.admin("PUT", "/models/m/aliases/champion", body)
    assert refused.status_code == 400, refused.text
    assert says in refused.json()["error"]


def test_a_body_is_bounded(client: Client) -> None:
    assert client.admin("PUT", "/models/m/aliases/a", b" " * ((1 << 20) + 1)).status_code == 413
    assert client.admin("POST", "/registry/collect", b" " * ((1 << 20) + 1)).status_code == 413
    assert client.admin("POST", "/webhooks/mlflow", b" " * ((1 << 20) + 1)).status_code == 413


def test_an_alias_moves_by_what_it_is_expected_to_be(client: Client) -> None:
    push(client)
    push(client, "2", b"graph two")
    move = "/models/m/aliases/champion"
    assert client.admin("PUT", move, {"version": "1", "expected": None}).json()["before"] is None
    assert client.admin("PUT", move, {"version": "2", "expected": None}).status_code == 409
    assert client.admin("PUT", move, {"version": "2", "expected": "3"}).status_code == 409
    assert client.admin("PUT", move, {"version": "2", "expected": "1"}).json()["version"] == "2"
    assert client.admin("PUT", move, {"version": "1"}).status_code == 200
    assert client.admin("DELETE", move).json()["version"] is None
    assert client.admin("DELETE", move).status_code == 404


def test_models_and_versions_are_read(client: Client) -> None:
    push(client)
    assert [model["name"] for model in client.admin("GET", "/models").json()["models"]] == ["m"]
    one = client.admin("GET", "/models/m")
    assert one.headers["etag"] == '"1"'
    assert client.admin("HEAD", "/models/m").headers["etag"] == '"1"'
    assert client.admin("GET", "/models/zzz").status_code == 404
    assert client.admin("GET", "/models/m/settings").json() == {"versions": "all", "revision": 1}
    assert client.admin("GET", "/registry").json()["source"] == "registry"
    assert client.admin("POST", "/registry/collect").json() == {"deleted": ["sha256:aa"]}
    content = client.admin("GET", "/models/m/versions/1/content")
    assert content.content == GRAPH
    assert content.headers["penstock-digest"] == f"sha256:{hashlib.sha256(GRAPH).hexdigest()}"
    assert client.admin("GET", "/models/m/versions/2/content").status_code == 404


def test_the_audit_is_read_newest_first_hand_or_page_by_page(client: Client) -> None:
    for number in range(1, 6):
        push(client, str(number), b"graph %d" % number)

    def seen(query: str) -> list[int]:
        return [entry["seq"] for entry in client.admin("GET", f"/audit{query}").json()["entries"]]

    assert seen("") == seen("?model=&after=&limit=") == [1, 2, 3, 4, 5]
    assert seen("?limit=2") == [4, 5]
    assert seen("?limit=2&after=0") == [1, 2]
    assert seen("?limit=2&after=2") == [3, 4]
    assert seen("?after=999999999999999") == []
    assert seen("?model=other") == []
    for query in ("?after=-1", "?limit=x", "?after=1.5", "?limit=" + "9" * 16, "?after=%C2%B2"):
        assert client.admin("GET", f"/audit{query}").status_code == 400, query


def test_archives_of_the_audit_are_listed_and_read_by_the_same_parameters(client: Client) -> None:
    for number in range(1, 4):
        push(client, str(number), b"graph %d" % number)
    assert client.admin("GET", "/audit/archives").json() == {"archives": [{"name": "1-2", "rows": 2}]}
    assert [entry["seq"] for entry in client.admin("GET", "/audit/archives/1-2").json()["entries"]] == [1, 2]
    assert [entry["seq"] for entry in client.admin("GET", "/audit/archives/1-2?after=1&limit=1").json()["entries"]] == [
        2
    ]
    assert client.admin("GET", "/audit/archives/1-2?limit=x").status_code == 400
    assert client.admin("GET", "/audit/archives/3-4").status_code == 404


def test_a_check_is_reported_line_by_line_and_refused_before_it_begins(
    client: Client, registry_admin: MemoryRegistrar
) -> None:
    answer = client.admin("POST", "/registry/verify")
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in answer.text.splitlines()][-1] == {"findings": []}
    registry_admin.fault = Overloaded("busy", retry_after_s=3.2)
    refused = client.admin("POST", "/registry/verify")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_has_its_status_and_names_its_kind(
    client: Client, registry_admin: MemoryRegistrar, kind: type[Fault]
) -> None:
    registry_admin.fault = kind("so it is")
    answer = client.admin("GET", "/models")
    assert answer.status_code == HTTP_STATUS[kind.kind]
    assert answer.headers["penstock-fault"] == kind.kind
    assert answer.json()["error"] == "so it is"


def test_mlflow_s_call_is_handed_on_as_it_came(client: Client, registry_admin: MemoryRegistrar) -> None:
    assert client.admin("POST", "/webhooks/mlflow", b" {} ", {"x-mlflow-signature": "v1,x"}).status_code == 202
    ((headers, body),) = registry_admin.calls
    assert body == b" {} "
    assert headers["x-mlflow-signature"] == "v1,x"


# Streams, fed by hand.


def stream(*messages: Message | float) -> Request:
    """A request whose body comes as these messages; a number is a pause in seconds."""
    left = list(messages)

    async def receive() -> Message:
        while left:
            message = left.pop(0)
            if not isinstance(message, float):
                return message
            await asyncio.sleep(message)
        await asyncio.Event().wait()  # nothing more ever comes
        raise AssertionError

    return Request({"type": "http", "method": "PUT", "headers": []}, receive)


def piece(data: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


def read(request: Request, limit: int | None = None) -> list[bytes]:
    async def collected() -> list[bytes]:
        return [chunk async for chunk in read_chunks(request, limit)]

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:  # pauses cost nothing
        return runner.run(collected())


def test_pieces_are_gathered_to_chunks() -> None:
    small = [piece(b"x" * 1000) for _ in range(3000)]
    lengths = [len(chunk) for chunk in read(stream(*small, piece(b"", more=False)))]
    assert sum(lengths) == 3_000_000
    assert len(lengths) == 3


def test_what_is_too_long_ends_at_once() -> None:
    with pytest.raises(TooLarge):
        read(stream(piece(b"x" * 11)), limit=10)


def test_a_sender_who_leaves_differs_from_one_who_is_done() -> None:
    with pytest.raises(Cancelled):
        read(stream(piece(b"x"), {"type": "http.disconnect"}))


def test_a_silent_sender_is_disconnected() -> None:
    with pytest.raises(DeadlineExceeded):
        read(stream(piece(b"x")))


def test_a_dripping_sender_is_disconnected() -> None:
    dripping: list[Message | float] = [part for _ in range(100) for part in (6.0, piece(b"x"))]
    with pytest.raises(DeadlineExceeded):
        read(stream(*dripping))


def test_a_long_body_that_keeps_arriving_may_take_its_time() -> None:
    steady: list[Message | float] = [part for _ in range(10) for part in (6.0, piece(bytes(128 << 10)))]
    assert sum(map(len, read(stream(*steady, piece(b"", more=False))))) == 1280 << 10
