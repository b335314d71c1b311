"""Header fields for a receiver, which come from a file that only its owner may read, and answers that are none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from penstock.control.export.otlp_http import OtlpSender, read_header_fields
from penstock.core.secrets import SecretFault
from penstock.core.traces.retries import ExportAnswer
from tests.otlp import receiving


def header_file(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "headers"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_receiver_gets_the_fields_of_the_file_as_it_is_now(tmp_path: Path) -> None:
    file = header_file(tmp_path, "# credentials\n\nAuthorization: Bearer first\nx-scope: team: a \n")
    with receiving() as receiver:
        send = OtlpSender(file)
        assert send(f"{receiver.url}/v1/traces", b"") == ExportAnswer(200)
        header_file(tmp_path, "authorization: Bearer second")
        assert send(f"{receiver.url}/v1/traces", b"") == ExportAnswer(200)
        send.close()
    first, second = receiver.headers
    assert (first["authorization"], first["x-scope"]) == ("Bearer first", "team: a")
    assert (second["authorization"], "x-scope" in second) == ("Bearer second", False)


def test_a_file_that_has_gone_is_a_reason_without_a_secret(tmp_path: Path) -> None:
    file = header_file(tmp_path, "authorization: Bearer first")
    send = OtlpSender(file)
    file.unlink()
    answer = send("http://127.0.0.1:1/v1/traces", b"")
    assert answer == ExportAnswer(0, reason="the secret 'headers' cannot be read: No such file or directory")


@pytest.mark.parametrize(
    "text",
    [
        "Bearer secret-text",
        "a b: secret-text",
        ": secret-text",
        "x: secret-\u00e9",
        "Host: secret-text",
        "x:",
    ],
)
def test_a_malformed_header_field_is_refused_without_showing_its_text(tmp_path: Path, text: str) -> None:
    with pytest.raises(SecretFault, match="line 2 of headers is not a header field") as raised:
        read_header_fields(header_file(tmp_path, f"good: 1\n{text}\n"))
    assert "secret-" not in str(raised.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretFault, match="chmod 600"):
        OtlpSender(header_file(tmp_path, "x: y", 0o644))


def test_without_a_file_there_are_none() -> None:
    with receiving() as receiver:
        send = OtlpSender()
        assert send(f"{receiver.url}/v1/metrics", b"") == ExportAnswer(200)
        send.close()
    assert set(receiver.headers[0]) == {
        "accept-encoding",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    }


@contextmanager
def answering(answer_bytes: bytes) -> Iterator[str]:
    """Answer one request with these bytes, and close the connection; yield the address."""

    def answer(listener: socket.socket) -> None:
        with listener.accept()[0] as connection:
            received = b""
            while not received.endswith(BODY):  # else its end would reset the connection
                received += connection.recv(1 << 16)
            with suppress(OSError):  # the sender may have had enough
                connection.sendall(answer_bytes)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1/traces"
        thread.join()


OK, BODY = b"HTTP/1.1 200 OK\r\n", b"the end of a request"


@pytest.mark.parametrize(
    ("head", "part", "times", "status", "reason"),
    [
        (b"", b"\x00\xff garbage\r\n\r\n", 1, 0, "it does not answer"),
        (b"", b"", 1, 0, "it does not answer"),
        (b"", b"HTTP/1.1 200 OK\r\nx: y\r\n" + b"a: b\r\n" * 1000, 1, 0, "it does not answer"),
        (OK + b"x: ", b"a" * 100_000, 20, 0, "it does not answer"),
        (OK + b"content-length: 100000000\r\n\r\n", b"a" * 100_000, 20, 200, ""),
        (OK + b"transfer-encoding: chunked\r\n\r\n", b"5\r\naaaaa\r\n", 20_000, 200, ""),
        (OK + b"content-length: banana\r\n\r\n", b"", 1, 200, ""),
        (b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\n\r\n", b"", 1, 307, "it answered 307"),
        (b"HTTP/1.1 415 X\r\n\r\n", b"", 1, 415, "it answered 415"),
        (OK + b"content-type: text/html; charset=utf-8\r\n\r\n", b"<html>sign in</html>", 1, 200, "a page of HTML"),
    ],
)
def test_an_answer_of_any_kind_is_bounded_and_named(
    head: bytes, part: bytes, times: int, status: int, reason: str
) -> None:
    with answering(head + part * times) as url:
        send = OtlpSender()
        answer = send(url, BODY)
        send.close()
    assert (answer.status, reason in answer.reason) == (status, True)
