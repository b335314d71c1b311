"""Credentials on open connections: refused alike, revoked at once, limited by address, and never from elsewhere."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from joserfc import jwt
from joserfc.jwk import ECKey

from penstock.core.access.attempts import BURST
from penstock.core.access.table import Binding, Issuer
from penstock.proto import grpc_service_pb2 as pb
from penstock.proto.grpc_service_pb2_grpc import GRPCInferenceServiceStub
from tests.harness import PATIENCE_S, wait_until
from tests.integration.access import ports as data_ports
from tests.integration.access.ports import INFER, Answer, DataPorts, ask

BODY = json.dumps(INFER).encode()
PATH = "/v2/models/digits/infer"


def infer(ports: DataPorts, key: str | None, path: str = PATH, fields: tuple[tuple[str, str], ...] = ()) -> Answer:
    """One prediction over a connection of its own."""
    connection = ports.connect()
    try:
        return ask(connection, "POST", path, key, BODY, fields)
    finally:
        connection.close()


def message(model: str = "digits") -> pb.ModelInferRequest:
    """A prediction over gRPC."""
    request = pb.ModelInferRequest(model_name=model, raw_input_contents=[bytes(12)])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 3])
    return request


def bearer(key: str) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata of a key."""
    return (("authorization", f"Bearer {key}"),)


def test_every_invalid_credential_has_the_same_answer(ports: DataPorts) -> None:
    key = ports.add_key("bot", "caller")
    expired = ports.add_key("old", "caller", expires_at=time.time() - 1)
    revoked = ports.add_key("gone", "caller")
    ports.revoke("gone")
    changed = key[:20] + ("A" if key[20] != "A" else "B") + key[21:]
    answers = {
        infer(ports, item).body for item in (None, "", "x", changed, expired, revoked, key + "x", f"{key} {key}")
    }
    assert len(answers) == 1
    refused = infer(ports, revoked)
    assert refused.status == 401 and refused.fields["www-authenticate"] == "Bearer"
    assert infer(ports, key).status == 200


@pytest.mark.parametrize("name", ["authorization", "Authorization"])
def test_two_credentials_are_none(ports: DataPorts, name: str) -> None:
    key = ports.add_key("bot", "caller")
    assert infer(ports, key, fields=((name, f"Bearer {key}"),)).status == 401
    with grpc.insecure_channel(ports.grpc[0]) as channel, pytest.raises(grpc.RpcError) as caught:
        GRPCInferenceServiceStub(channel).ModelInfer(message(), metadata=bearer(key) * 2)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("name", ["token", "access_token", "authorization", "key"])
def test_nothing_is_taken_from_the_query_or_other_fields(ports: DataPorts, name: str) -> None:
    key = ports.add_key("bot", "caller")
    assert infer(ports, None, f"{PATH}?{name}={key}").status == 401
    for field in ("cookie", "proxy-authorization", "x-api-key", "x-forwarded-authorization"):
        assert infer(ports, None, fields=((field, f"Bearer {key}"),)).status == 401


def test_a_scheme_is_recognised_in_any_case(ports: DataPorts) -> None:
    key = ports.add_key("bot", "caller")
    assert infer(ports, None, fields=(("authorization", f"bEARER  {key}"),)).status == 200
    assert infer(ports, None, fields=(("authorization", f"Basic {key}"),)).status == 401


def test_revocation_reaches_open_connections_at_once(ports: DataPorts) -> None:
    key, other = ports.add_key("bot", "caller"), ports.add_key("other", "caller")
    connection, neighbour = ports.connect(), ports.connect()
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        for _ in range(3):  # heads are remembered
            assert ask(connection, "POST", PATH, key, BODY).status == 200
            assert ask(neighbour, "POST", PATH, other, BODY).status == 200
            stub.ModelInfer(message(), metadata=bearer(key))
        ports.revoke("bot")
        assert ask(connection, "POST", PATH, key, BODY).status == 401
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message(), metadata=bearer(key))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        stub.ModelInfer(message(), metadata=bearer(other))
        assert ask(neighbour, "POST", PATH, other, BODY).status == 200
    connection.close()
    neighbour.close()


def test_revocation_ends_open_streams(ports: DataPorts) -> None:
    key, other = ports.add_key("bot", "caller"), ports.add_key("other", "caller")
    open_ended = threading.Event()

    def requests() -> Iterator[pb.ModelInferRequest]:
        yield message()
        open_ended.wait(PATIENCE_S)

    with grpc.insecure_channel(ports.grpc[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        streams = [stub.ModelStreamInfer(requests(), metadata=bearer(item)) for item in (key, other)]
        for stream in streams:
            assert not next(stream).error_message
        ports.revoke("bot")
        with pytest.raises(grpc.RpcError) as caught:
            next(streams[0])
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        open_ended.set()
        assert list(streams[1]) == [] and streams[1].code() is grpc.StatusCode.OK


def test_permissions_of_a_stream_are_those_of_each_message(ports: DataPorts) -> None:
    key = ports.add_key("bot", "caller", models=("digits",))
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        answers = list(stub.ModelStreamInfer(iter([message(), message("fraud"), message("no")]), metadata=bearer(key)))
    assert not answers[0].error_message
    assert [answer.error_message.replace("fraud", "no") for answer in answers[1:]] == [answers[2].error_message] * 2


def test_an_expired_key_is_refused_on_an_open_connection(models: Path) -> None:
    now = [time.time()]
    with data_ports.running(models, clock=lambda: now[0]) as ports:
        key = ports.add_key("bot", "caller", expires_at=time.time() + 1.0)
        connection = ports.connect()
        assert ask(connection, "POST", PATH, key, BODY).status == 200
        now[0] += 2
        wait_until(lambda: ask(connection, "POST", PATH, key, BODY).status == 401, PATIENCE_S, "the key has expired")
        connection.close()


def test_many_failures_are_limited_and_a_good_caller_goes_on(ports: DataPorts) -> None:
    key, connection = ports.add_key("bot", "caller"), ports.connect()
    statuses = [ask(connection, "POST", PATH, f"pk_{number}", BODY) for number in range(3 * BURST)]
    assert statuses[0].status == 401 and statuses[-1].status == 429
    assert int(statuses[-1].fields["retry-after"]) >= 1
    assert ask(connection, "POST", PATH, key, BODY).status == 200
    refusals = ports.refusals()
    assert refusals["too_many_attempts"] > BURST and refusals["malformed"] >= BURST
    connection.close()


def test_a_long_body_without_credential_is_not_read(ports: DataPorts) -> None:
    with socket.create_connection(ports.rest[0], timeout=PATIENCE_S) as client:
        client.sendall(b"POST %b HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9000000\r\n\r\n" % PATH.encode())
        answer = client.recv(4096)
    assert answer.startswith(b"HTTP/1.1 401 ") and b"connection: close" in answer


def test_a_refused_request_keeps_the_connection_and_the_order(ports: DataPorts) -> None:
    key = ports.add_key("bot", "caller", models=("digits",))
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
    targets = (b"/v2/models/digits/infer", b"/v2/models/fraud/infer", b"/v2/models/digits/infer")
    with socket.create_connection(ports.rest[0], timeout=PATIENCE_S) as client:
        client.sendall(b"".join(head % (target, key.encode(), len(BODY), BODY) for target in targets))
        received = b""
        while received.count(b"HTTP/1.1 ") < 3 or not received.endswith(b"}"):
            received += client.recv(1 << 16)
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"404", b"200"]


def test_dry_run_refuses_nothing_and_counts(ports: DataPorts) -> None:
    key = ports.add_key("eye", "viewer")
    ports.publish(replace(ports.table, dry_run=True))
    connection = ports.connect()
    assert {ask(connection, "POST", PATH, item, BODY).status for item in (None, "pk_x", key) for _ in range(2)} == {200}
    connection.close()
    counts = ports.refusals()
    assert {name: counts[f"{name} (dry run)"] for name in ("no_credential", "malformed", "not_permitted")} == {
        "no_credential": 2,
        "malformed": 2,
        "not_permitted": 2,
    }


def test_turning_authentication_off_and_on_reaches_open_connections(ports: DataPorts) -> None:
    connection = ports.connect()
    for enabled, status in ((True, 401), (False, 200), (True, 401)):
        ports.publish(replace(ports.table, enabled=enabled))
        assert [ask(connection, "POST", PATH, None, BODY).status for _ in range(2)] == [status] * 2
    connection.close()


# Signed tokens.


@pytest.fixture
def sign(ports: DataPorts) -> Callable[..., str]:
    """Signs tokens of an issuer that is trusted; the group team may ask digits."""
    key = ECKey.generate_key("P-256", {"kid": "one"})
    jwks = json.dumps({"keys": [key.as_dict(private=False)]})
    issuer = Issuer("https://issuer.example", "penstock", jwks)
    bindings = (Binding("caller", group="team", models=("digits",)),)
    ports.publish(replace(ports.table, issuers=(issuer,), bindings=bindings))

    def signed(**more: Any) -> str:
        now = int(time.time())
        claims = {"iss": "https://issuer.example", "aud": "penstock", "sub": "ann", "exp": now + 60, "groups": ["team"]}
        return jwt.encode({"alg": "ES256", "kid": "one"}, {**claims, **more}, key)

    return signed


def test_a_token_is_verified_while_its_request_waits(ports: DataPorts, sign: Callable[..., str]) -> None:
    token, connection = sign(), ports.connect()
    for _ in range(3):
        assert ask(connection, "POST", PATH, token, BODY).status == 200
        assert ask(connection, "POST", "/v2/models/fraud/infer", token, BODY).status == 404
        assert ask(connection, "GET", "/v2/models", token).body == b'{"models":["digits"]}'
    bad = token[:-4] + ("AAAA" if token[-4:] != "AAAA" else "BBBB")
    assert [ask(connection, "POST", PATH, bad, BODY).status for _ in range(3)] == [401] * 3
    assert ask(connection, "POST", PATH, sign(exp=1), BODY).status == 401
    connection.close()
    with grpc.insecure_channel(ports.grpc[0]) as channel:
        stub = GRPCInferenceServiceStub(channel)
        fresh = sign(jti="grpc")
        calls = [stub.ModelInfer.future(message(), metadata=bearer(fresh)) for _ in range(20)]
        assert {call.code() for call in calls} == {grpc.StatusCode.OK}
        assert [
            answer.infer_response.model_name
            for answer in stub.ModelStreamInfer(iter([message()]), metadata=bearer(sign(jti="s")))
        ]
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(message(), metadata=bearer(bad))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_a_large_message_with_a_new_token_is_read_after_it_is_verified(
    ports: DataPorts, sign: Callable[..., str]
) -> None:
    rows = 300_000
    request = pb.ModelInferRequest(model_name="digits", raw_input_contents=[bytes(12 * rows)])
    request.inputs.add(name="x", datatype="FP32", shape=[rows, 3])
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(ports.grpc[0], options=options) as channel:
        stub = GRPCInferenceServiceStub(channel)
        assert stub.ModelInfer(request, metadata=bearer(sign())).outputs[0].shape[0] == rows
        with pytest.raises(grpc.RpcError) as caught:
            stub.ModelInfer(request, metadata=bearer(sign(aud="other")))
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_pipelined_requests_behind_a_new_token_keep_their_order(ports: DataPorts, sign: Callable[..., str]) -> None:
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\n\r\n%b"
    tokens = [sign(jti="a"), "pk_wrong", sign(jti="b")]
    with socket.create_connection(ports.rest[0], timeout=PATIENCE_S) as client:
        client.sendall(b"".join(head % (PATH.encode(), token.encode(), len(BODY), BODY) for token in tokens))
        client.shutdown(socket.SHUT_WR)
        received = b""
        while more := client.recv(1 << 16):
            received += more
    assert [part[:3] for part in received.split(b"HTTP/1.1 ")[1:]] == [b"200", b"401", b"200"]
