"""Keys of token issuers at an address: fetched from real servers by HTTP and HTTPS, and kept whatever these answer."""

import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from penstock.control.access import key_sets
from penstock.control.access.authenticator import Authenticator
from penstock.control.access.key_sets import MOST_BYTES, IssuerSource, KeySets
from penstock.core.access.table import AccessTable, Issuer
from penstock.core.errors import Unauthenticated
from tests import harness
from tests.certificates import Pair, make_certificate
from tests.harness import PATIENCE_S, wait_until

ISSUER = "https://login.example"
FIRST, SECOND, THIRD = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("first", "second", "third"))


def key_set(*keys: ECKey) -> bytes:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]}).encode()


def token(key: ECKey) -> str:
    claims = {"iss": ISSUER, "aud": "penstock", "sub": "ann", "exp": time.time() + 3600}
    return jws.serialize_compact({"alg": "ES256", "kid": key.kid}, json.dumps(claims), key)


class IssuerServer:
    """The server of an issuer: ``answer`` writes each answer, and ``asked`` has the paths that were asked for."""

    def __init__(self, content: bytes = b"") -> None:
        self.asked: list[str] = []
        self.released = threading.Event()
        self.serve(content)
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                try:
                    server.answer(self)
                except OSError:
                    self.close_connection = True  # the client has closed it

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self.http.server_address[1]
        self._thread = threading.Thread(target=self.http.serve_forever, args=(0.01,))

    def serve(self, content: bytes, status: int = 200, **fields: str) -> None:
        """Answer with this content from now on."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(status)
            for name, value in fields.items():
                handler.send_header(name, value)
            handler.send_header("content-length", str(len(content)))
            handler.end_headers()
            handler.wfile.write(content)

        self.answer = answer

    def serve_without_end(self, part: bytes, pause_s: float) -> None:
        """Answer with these bytes again and again from now on, until the client goes or the test ends."""

        def answer(handler: BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.end_headers()
            while not self.released.wait(pause_s):
                handler.wfile.write(part)

        self.answer = answer

    @contextmanager
    def running(self, pair: Pair | None = None) -> Iterator["IssuerServer"]:
        if pair is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pair.certificate, pair.key)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
        self._thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self.http.shutdown()
            self._thread.join(PATIENCE_S)
            self.http.server_close()


@pytest.fixture
def server() -> Iterator[IssuerServer]:
    with IssuerServer(key_set(FIRST)).running() as running:
        yield running


class Trust:
    """What a gateway with this address of keys accepts, each time after it was asked."""

    def __init__(self, url: str) -> None:
        self.sets = KeySets([IssuerSource(Issuer(ISSUER, "penstock", ""), None, url)])
        self.authenticator = Authenticator(time.time)

    def accepted(self) -> list[str]:
        """Fetch the keys, and return which of two keys sign valid tokens."""
        self.sets.fetch()
        self.authenticator.use(AccessTable(1, True, issuers=self.sets.issuers()))
        return [str(key.kid) for key in (FIRST, SECOND) if self._is_accepted(token(key))]

    def _is_accepted(self, text: str) -> bool:
        try:
            return self.authenticator.authenticate(b"Bearer " + text.encode()).name == "ann"
        except Unauthenticated:
            return False


def test_rotation_adds_the_next_key_and_then_removes_the_first(server: IssuerServer) -> None:
    trust = Trust(f"http://127.0.0.1:{server.port}/keys?tenant=a")
    assert trust.accepted() == ["first"]
    server.serve(key_set(FIRST, SECOND))
    assert trust.accepted() == ["first", "second"]
    server.serve(key_set(SECOND))
    assert trust.accepted() == ["second"]
    assert set(server.asked) == {"/keys?tenant=a"}


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (500, key_set(SECOND)),
        (404, key_set(SECOND)),
        (200, b"no keys"),
        (200, b'{"keys": []}'),
        (200, b'{"keys": [{"kty": "oct", "kid": "second", "k": "c2VjcmV0"}]}'),
        (200, key_set(SECOND)[:-2]),
        (200, b" " * MOST_BYTES + key_set(SECOND)),
        (200, b'{"keys": ' + b"[" * 100_000),
    ],
    ids=["500", "404", "no JSON", "no key", "a secret", "cut off", "too long", "too deep"],
)
def test_whatever_it_answers_the_keys_stay(
    server: IssuerServer, status: int, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    trust = Trust(f"http://127.0.0.1:{server.port}/keys")
    assert trust.accepted() == ["first"]
    server.serve(content, status)
    for _ in range(2):
        assert trust.accepted() == ["first"]
    assert caplog.text.count("stay as they are") == 1
    server.serve(key_set(SECOND))
    assert trust.accepted() == ["second"]


@pytest.mark.parametrize(("part", "pause_s"), [(b"a", 0.05), (b"a" * 65_536, 0.0)], ids=["a drip", "a flood"])
def test_an_answer_without_end_is_left(
    server: IssuerServer, part: bytes, pause_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = Trust(f"http://127.0.0.1:{server.port}/keys")
    assert trust.accepted() == ["first"]
    monkeypatch.setattr(key_sets, "WAIT_S", 0.2)
    server.serve_without_end(part, pause_s)
    assert trust.accepted() == ["first"]  # it returns, though the server never ends its answer
    assert not server.released.is_set()


def test_a_redirect_is_not_followed(server: IssuerServer) -> None:
    trust = Trust(f"http://127.0.0.1:{server.port}/keys")
    assert trust.accepted() == ["first"]
    with IssuerServer(key_set(SECOND)).running() as elsewhere:
        for status in (301, 302, 303, 307, 308):
            server.serve(b"", status, location=f"http://127.0.0.1:{elsewhere.port}/keys")
            assert trust.accepted() == ["first"]
        assert elsewhere.asked == []


def test_plain_http_never_goes_through_a_proxy(server: IssuerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    with IssuerServer(key_set(SECOND)).running() as proxy:
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.delenv("no_proxy", raising=False)
        assert Trust(f"http://127.0.0.1:{server.port}/keys").accepted() == ["first"]
        assert proxy.asked == []


def test_https_needs_a_certificate_of_a_trusted_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, other = make_certificate(tmp_path), make_certificate(tmp_path, "other")
    with IssuerServer(key_set(FIRST)).running(pair) as server:
        trust = Trust(f"https://localhost:{server.port}/keys")
        monkeypatch.setenv("SSL_CERT_FILE", str(other.certificate))
        assert trust.accepted() == [] and server.asked == []
        monkeypatch.setenv("SSL_CERT_FILE", str(pair.certificate))
        assert trust.accepted() == ["first"] and server.asked == ["/keys"]
        monkeypatch.setenv("SSL_CERT_FILE", str(other.certificate))
        server.serve(key_set(SECOND))
        assert trust.accepted() == ["first"]


def test_a_gateway_fetches_them_and_keeps_them_over_a_restart(tmp_path: Path) -> None:
    pair = make_certificate(tmp_path)
    issuer = IssuerServer(key_set(FIRST))
    oidc = [{"issuer": ISSUER, "audience": "penstock", "jwks_url": f"https://localhost:{issuer.port}/keys"}]
    env = {
        "SSL_CERT_FILE": str(pair.certificate),
        "PENSTOCK_AUTH__OIDC": json.dumps(oidc),
        "PENSTOCK_AUTH__BINDINGS": json.dumps([{"caller": f"{ISSUER}#ann", "role": "admin"}]),
    }

    def statuses(server: harness.Server, key: ECKey) -> set[int]:
        """The answers of the ops port and the data port."""
        headers = {"authorization": f"Bearer {token(key)}"}
        ops = server.admin("GET", "/admin/v1/whoami", headers=headers)
        return {ops.status, server.rest("GET", "/v2/models", headers=headers).status}

    with issuer.running(pair), harness.running(None, tmp_path, "--workers", "1", env=env) as server:
        wait_until(lambda: statuses(server, FIRST) == {200}, PATIENCE_S, "the keys on both ports")
        issuer.serve(key_set(FIRST, SECOND))
        fetched = len(issuer.asked)
        assert statuses(server, SECOND) == {401}
        wait_until(lambda: len(issuer.asked) > fetched, PATIENCE_S, "a fetch")
        wait_until(lambda: statuses(server, SECOND) == {200}, PATIENCE_S, "the next key")
        assert statuses(server, FIRST) == {200}
    with harness.running(None, tmp_path, "--workers", "1", env=env) as server:  # and the issuer is away
        assert statuses(server, SECOND) == {200}
        assert statuses(server, THIRD) == {401}
        wait_until(lambda: "stay as they are" in server.log_text(), PATIENCE_S, "the warning")
