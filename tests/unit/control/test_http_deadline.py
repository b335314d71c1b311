"""One exchange has a deadline as a whole, whatever a server sends now and then, over TLS too."""

import http.client
import socket
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from penstock.control.http_deadline import exchanging
from tests.harness import PATIENCE_S

WAIT_S = 0.3
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
            thread.join(PATIENCE_S)


def ends(url: str) -> bool:
    """Whether an exchange that would never end does."""
    ended = threading.Event()

    def run() -> None:
        try:
            with exchanging(urllib.request.Request(url), WAIT_S) as answer:
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
def test_an_answer_that_never_ends_is_given_up(begin: bytes) -> None:
    with dripping(begin) as url:
        assert ends(url)


@pytest.mark.parametrize("begin", [HEAD, BODY])
def test_so_it_is_over_tls(begin: bytes, certificate: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", certificate[0])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with dripping(begin, context) as url:
        assert ends(url)


def test_an_answer_in_time_is_read_as_a_whole() -> None:
    whole = BODY.replace(b"1000000", b"3") + b"abc"
    with dripping(whole) as url, exchanging(urllib.request.Request(url), PATIENCE_S) as answer:
        assert (answer.status, answer.read()) == (200, b"abc")
