"""One exchange has a deadline as a whole, whatever a server sends now and then, over TLS too."""

import http.client
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from penstock.control.calls.http_deadline import RESOLVERS, ConnectionDeadline, send_request
from tests.harness import PATIENCE_S

WAIT_S = 0.15
HEAD = b"HTTP/1.1 200 OK\r\nx-slow: "
BODY = b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n"


@contextmanager
def dripping(begin: bytes, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """A server that begins an answer and goes on with a byte now and then, until nobody listens."""
    over = threading.Event()

    def serve(listener: socket.socket) -> None:
        with suppress(OSError):
            accepted, _ = listener.accept()
            with tls.wrap_socket(accepted, server_side=True) if tls else accepted as talking:
                talking.recv(4096)
                talking.sendall(begin)
                while not over.wait(WAIT_S / 4):
                    talking.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        try:
            yield f"{'https' if tls else 'http'}://localhost:{listener.getsockname()[1]}/"
        finally:
            over.set()
            with suppress(OSError):  # a client that gave up before it connected leaves the server waiting
                socket.create_connection(listener.getsockname()[:2], PATIENCE_S).close()
            thread.join(PATIENCE_S)


def ends(url: str) -> bool:
    """Whether an exchange that would never end does."""
    ended = threading.Event()

    def run() -> None:
        try:
            with send_request(urllib.request.Request(url), WAIT_S) as answer:
                answer.read()
        except (OSError, ValueError, http.client.HTTPException):
            pass  # it was given up
        finally:
            ended.set()

    threading.Thread(target=run, daemon=True).start()
    return ended.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = str(folder / "cert.pem"), str(folder / "key.pem")
    subprocess.run([*made, "-out", files[0], "-keyout", files[1]], check=True, capture_output=True)
    return files


@pytest.mark.parametrize("begin", [HEAD, BODY, b""])
def test_an_answer_that_never_ends_is_abandoned(begin: bytes) -> None:
    with dripping(begin) as url:
        assert ends(url)


@pytest.mark.parametrize("begin", [HEAD, BODY])
def test_an_answer_that_never_ends_over_tls_is_abandoned(
    begin: bytes, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with dripping(begin, context) as url:
        assert ends(url)


def test_a_truncated_answer_is_refused() -> None:
    with (
        dripping(BODY) as url,
        pytest.raises(TimeoutError),
        send_request(urllib.request.Request(url), WAIT_S) as answer,
    ):
        answer.read(100)  # as readers with a limit do: http.client says nothing of what is missing


def test_an_answer_in_time_is_read_as_a_whole() -> None:
    whole = BODY.replace(b"1000000", b"3") + b"abc"
    with dripping(whole) as url, send_request(urllib.request.Request(url), PATIENCE_S) as answer:
        assert (answer.status, answer.read()) == (200, b"abc")


def test_a_tls_handshake_that_never_ends_is_given_up() -> None:
    record = b"\x16\x03\x03\x3f\xff"  # the head of a long record, which goes on with a byte now and then
    with dripping(record) as url:
        assert ends(url.replace("http:", "https:"))


def test_a_name_that_does_not_resolve_in_time_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def hanging(*_: object, **__: object) -> list[object]:
        assert go.wait(PATIENCE_S)
        return []

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", hanging)
        try:
            assert all(ends("http://somewhere.invalid/") for _ in range(2))
            threads = [thread for thread in threading.enumerate() if thread.name == "resolver"]
            assert len(threads) == 2
        finally:
            go.set()
        for thread in threads:
            thread.join(PATIENCE_S)


def test_no_more_names_are_resolved_at_a_time_than_there_are_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    go, begun = threading.Event(), threading.Semaphore(0)

    def hanging(*_: object, **__: object) -> list[object]:
        begun.release()
        assert go.wait(PATIENCE_S)
        return []

    with monkeypatch.context() as patched:
        patched.setattr(socket, "getaddrinfo", hanging)
        waiting = [threading.Thread(target=ends, args=("http://somewhere.invalid/",)) for _ in range(RESOLVERS + 2)]
        for item in waiting:
            item.start()
        for item in waiting:
            item.join(PATIENCE_S)
        threads = [thread for thread in threading.enumerate() if thread.name == "resolver"]
        go.set()
        for item in threads:
            item.join(PATIENCE_S)
    assert len(threads) == RESOLVERS
    empty = BODY.replace(b"1000000", b"0")
    with dripping(empty) as url, send_request(urllib.request.Request(url), PATIENCE_S) as answer:
        assert answer.status == 200  # names are resolved again


def test_many_silent_addresses_time_out_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ExitStack() as stack:
        place = full.getsockname()
        for _ in range(8):  # connections that nobody takes: no further one is answered
            taken = stack.enter_context(socket.socket())
            taken.setblocking(False)
            taken.connect_ex(place)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place)] * 10_000
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert ends("http://somewhere.invalid/")


def test_the_next_address_is_tried_where_one_takes_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    with dripping(BODY.replace(b"1000000", b"0")) as url:
        port = int(url.rpartition(":")[2].strip("/"))
        closed = socket.create_server(("127.0.0.1", 0))
        places = [closed.getsockname(), ("127.0.0.1", port)]
        closed.close()
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", place) for place in places]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with send_request(urllib.request.Request("http://somewhere.invalid/"), PATIENCE_S) as answer:
            assert answer.status == 200


def test_a_deadline_that_is_over_opens_nothing_and_one_that_ends_closes_what_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        deadline = ConnectionDeadline(0.0)
        with pytest.raises(TimeoutError):
            deadline.connect(listener.getsockname(), PATIENCE_S)
        deadline.renew(PATIENCE_S)
        with deadline.connect(listener.getsockname(), PATIENCE_S) as opened:
            assert not deadline.is_over
            deadline.end()
            assert deadline.is_over and opened.recv(1) == b""
        deadline.close()
