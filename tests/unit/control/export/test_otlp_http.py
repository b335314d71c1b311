"""Header fields for a receiver, which come from a file that only its owner may read."""

from pathlib import Path

import pytest

from penstock.control.export.otlp_http import read_header_fields, sender
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
        send = sender(file)
        assert send(f"{receiver.url}/v1/traces", b"") == ExportAnswer(200)
        header_file(tmp_path, "authorization: Bearer second")
        assert send(f"{receiver.url}/v1/traces", b"") == ExportAnswer(200)
    first, second = receiver.headers
    assert (first["authorization"], first["x-scope"]) == ("Bearer first", "team: a")
    assert (second["authorization"], "x-scope" in second) == ("Bearer second", False)


def test_a_file_that_has_gone_is_a_reason_without_a_secret(tmp_path: Path) -> None:
    file = header_file(tmp_path, "authorization: Bearer first")
    send = sender(file)
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
def test_what_is_no_header_field_is_refused_without_its_text(tmp_path: Path, text: str) -> None:
    with pytest.raises(SecretFault, match="line 2 of headers is no header field") as raised:
        read_header_fields(header_file(tmp_path, f"good: 1\n{text}\n"))
    assert "secret-" not in str(raised.value)


def test_a_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SecretFault, match="chmod 600"):
        sender(header_file(tmp_path, "x: y", 0o644))


def test_without_a_file_there_are_none() -> None:
    with receiving() as receiver:
        assert sender(None)(f"{receiver.url}/v1/metrics", b"") == ExportAnswer(200)
    assert set(receiver.headers[0]) == {
        "accept-encoding",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    }
