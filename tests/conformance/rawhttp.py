"""HTTP/1.1 by hand, for requests no HTTP library would send and answers that must be read one by one."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.harness import CALL_SECONDS, Reply


class Wire:
    """One TCP connection that speaks bytes."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), CALL_SECONDS)
        self._file = self._socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Write bytes; a server that has hung up is not a failure here."""
        try:
            self._socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            return

    def status_line(self) -> bytes:
        """The next status line, empty when the server has closed."""
        try:
            return self._file.readline().rstrip(b"\r\n")
        except ConnectionResetError:
            return b""

    def reply(self, head_only: bool = False) -> Reply:
        """The next answer, of either framing."""
        line = self.status_line()
        match = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) ?.*", line)
        assert match, f"no status line: {line!r}"
        headers: dict[str, str] = {}
        while field := self._file.readline().rstrip(b"\r\n"):
            name, _, text = field.decode("latin-1").partition(":")
            headers[name.strip().lower()] = text.strip()
        status = int(match[1])
        body = b"" if head_only or status in {100, 204, 304} else self._body(headers)
        return Reply(status, headers, body)

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") == "chunked":
            return b"".join(self._chunks())
        if "content-length" in headers:
            return self._file.read(int(headers["content-length"]))
        return self._file.read()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline(), 16):
            yield self._file.read(size)
            self._file.readline()
        self._file.readline()

    def is_closed(self) -> bool:
        """Whether the server has hung up (waits for it)."""
        try:
            return self._file.read(1) == b""
        except (ConnectionResetError, TimeoutError):
            return True

    def finish_sending(self) -> None:
        """Shut down the sending side of the connection."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()


@contextmanager
def connected(address: str) -> Iterator[Wire]:
    """A connection for the time of a block."""
    opened = Wire(address)
    try:
        yield opened
    finally:
        opened.close()


def request(method: str, path: str, body: bytes = b"", *fields: str, version: str = "1.1") -> bytes:
    """A request's bytes, with the right Content-Length unless ``fields`` state the framing."""
    framed = any(name.lower().startswith(("content-length", "transfer-encoding")) for name in fields)
    lines = [f"{method} {path} HTTP/{version}", "Host: localhost", *fields]
    if not framed and (body or method == "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
