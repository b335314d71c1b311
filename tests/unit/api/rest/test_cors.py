"""Pages of other origins: they may send requests if they are configured, and never with the browser's credentials."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest

from penstock.api.http1.limits import HttpLimits
from penstock.api.http1.request_head import HeadError
from penstock.api.rest.server import RestServer
from penstock.core.access.origins import Fields, OriginPolicy, OriginRefusal
from tests.conformance.rawhttp import request
from tests.fuzz.targets import Wire, World
from tests.unit.api.http1.support import Reply, replies

PATH = "/v2/models/row/infer"
PAGE = "https://app.example"
BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}).encode()


@dataclass
class Port:
    """A REST port without a socket."""

    world: World
    server: RestServer

    def ask(self, method: str, path: str, *fields: str, body: bytes = b"") -> Reply:
        wire, connection = Wire(), self.server.http.connection()
        connection.connection_made(wire)

        async def asked() -> None:
            connection.data_received(request(method, path, body, *fields))
            await self.world.settle()
            connection.connection_lost(None)

        self.world.loop.run_until_complete(asked())
        [answer] = replies(bytes(wire.written))
        return answer


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def port(world: World, origins: Sequence[str]) -> Port:
    return Port(world, RestServer(world.plane, "1", HttpLimits(), None, OriginPolicy((), origins)))


def allowed(answer: Reply) -> str | None:
    assert "access-control-allow-credentials" not in answer.fields
    return answer.fields.get("access-control-allow-origin")


REQUESTS = {
    "an infer request": ("POST", PATH, BODY, 200),
    "a bad infer request": ("POST", PATH, b"{", 400),
    "a model that is not there": ("POST", "/v2/models/none/infer", BODY, 404),
    "metadata": ("GET", "/v2/models/row", b"", 200),
    "a path that is not there": ("GET", "/none", b"", 404),
}


@pytest.mark.parametrize(("method", "path", "body", "status"), REQUESTS.values(), ids=REQUESTS)
def test_answers_say_which_page_may_read_them(world: World, method: str, path: str, body: bytes, status: int) -> None:
    for origins, allowed_origin in (([], None), ([PAGE], PAGE), (["https://b.example"], None), (["*"], "*")):
        one = port(world, origins)
        if method != "GET" and allowed_origin is None:
            assert one.ask(method, path, f"origin: {PAGE}", body=body).status == 403
            continue
        for _ in range(2):  # read, then remembered
            answer = one.ask(method, path, f"origin: {PAGE}", body=body)
            assert (answer.status, allowed(answer)) == (status, allowed_origin)
        answer = one.ask(method, path, f"origin: {PAGE}", body=body)
        exposed = answer.fields.get("access-control-expose-headers", "")
        assert ("penstock-model-version" in exposed) is (allowed_origin is not None)
        assert answer.fields.get("vary") == ("origin" if origins and origins != ["*"] else None)
        assert allowed(one.ask(method, path, body=body)) is None


@pytest.mark.parametrize(
    ("origins", "allowed_origin"), [([PAGE, "https://b.example"], PAGE), (["*"], "*"), (["https://b.example"], None)]
)
def test_a_browser_may_ask_before_it_sends(world: World, origins: list[str], allowed_origin: str | None) -> None:
    fields = (f"origin: {PAGE}", "access-control-request-method: POST", "access-control-request-headers: content-type")
    answer = port(world, origins).ask("OPTIONS", PATH, *fields)
    assert (answer.status, answer.body, allowed(answer)) == (204, b"", allowed_origin)
    assert ("access-control-max-age" in answer.fields) is (allowed_origin is not None)
    assert answer.fields.get("access-control-allow-headers") == ("content-type" if allowed_origin else None)
    assert ("POST" in answer.fields.get("access-control-allow-methods", "")) is (allowed_origin is not None)


def test_without_origins_no_page_is_answered_so(world: World) -> None:
    fields = (f"origin: {PAGE}", "access-control-request-method: POST")
    answer = port(world, []).ask("OPTIONS", PATH, *fields)
    assert allowed(answer) is None
    assert "access-control-allow-methods" not in answer.fields


@pytest.mark.parametrize(
    ("path", "methods"), [(PATH, "POST, OPTIONS"), ("/v2", "GET, HEAD, OPTIONS"), ("*", "GET, HEAD, POST, OPTIONS")]
)
def test_methods_are_listed(world: World, path: str, methods: str) -> None:
    answer = port(world, []).ask("OPTIONS", path)
    assert (answer.status, answer.body) == (204, b"")
    assert sorted(answer.fields["allow"].split(", ")) == sorted(methods.split(", "))


def test_methods_of_a_path_that_does_not_exist_are_not_listed(world: World) -> None:
    assert port(world, []).ask("OPTIONS", "/none").status == 404


class Noting(OriginPolicy):
    """Notes what it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[bytes] = []

    def refusal(self, method: bytes, authority: bytes, fields: Fields) -> OriginRefusal | None:
        self.asked.append(authority)
        return super().refusal(method, authority, fields)


def test_a_remembered_head_is_not_checked_again_and_a_refused_one_is_not_remembered(world: World) -> None:
    policy = Noting()
    server = RestServer(world.plane, "1", HttpLimits(), None, policy)
    table, connection = server.http.table, server.http.connection()
    world.plane.refused.take()
    own, foreign = (
        b"POST %b HTTP/1.1\r\nHost: %b\r\nContent-Length: 2\r\n\r\n" % (PATH.encode(), host)
        for host in (b"localhost:8000", b"evil.example")
    )
    assert table.head(connection, own) is table.head(connection, own)
    for _ in range(2):
        with pytest.raises(HeadError):
            table.head(connection, foreign)
    assert policy.asked == [b"localhost:8000", b"evil.example", b"evil.example"]
    counted = [(kind["action"], kind["detail"], kind["count"]) for kind in world.plane.refused.take()]
    assert counted == [("auth.refuse", "untrusted_host", 2)]
