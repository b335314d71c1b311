"""A connection with HTTP/1.1 (RFC 9112): one request, one answer, with a length or in chunks."""

import re
from collections.abc import Mapping
from typing import Final

from penstock.loadtest.wire import MOST_ANSWER, BrokenWire, Endpoint, Requests, Wire

_LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED: Final = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
_CLOSE: Final = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
_STATUS: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")
_FIRST_FINAL: Final = 200
_LONGEST_HEAD: Final = 1 << 16


class Http1Wire(Wire):
    """HTTP/1.1. An outcome is the status of the answer; an ``answer`` is the whole of it, with its head."""

    def __init__(self, endpoint: Endpoint, requests: Requests) -> None:
        super().__init__(endpoint)
        self._requests = requests
        self._need = 0

    def _start(self) -> None:
        """Begin with nothing: the client speaks first."""

    def send(self, number: int) -> None:
        """See ``Wire``."""
        self._put(self._requests[number])

    def receive(self) -> bool:
        """See ``Wire``."""
        self._read()
        while self._take():
            if self.outcome >= _FIRST_FINAL:
                return True
        return False

    def _take(self) -> bool:
        """Take the next answer, if it is whole; interim ones (RFC 9110, section 15.2) come before it."""
        if not self._need:
            self._need = self._size()
        if self.keeps_answers and max(self._need, len(self._in)) > MOST_ANSWER:
            raise BrokenWire("an answer is too long")
        if not self._need or len(self._in) < self._need:
            return False
        self.outcome = int(self._in[9:12])
        if self.keeps_answers:
            self.answer = bytes(self._in[: self._need])
        del self._in[: self._need]
        self._need = 0
        return True

    def _size(self) -> int:
        """Return the bytes of the whole answer, 0 while they are not known."""
        end = self._in.find(b"\r\n\r\n", 0, _LONGEST_HEAD)
        if end < 0:
            if len(self._in) > _LONGEST_HEAD:
                raise BrokenWire("the head of an answer is too long")
            return 0
        if _STATUS.match(self._in) is None:
            raise BrokenWire("the answer is not HTTP/1.1")
        self.has_ended = self.has_ended or _CLOSE.search(self._in, 0, end) is not None
        length = _LENGTH.search(self._in, 0, end)
        if length is not None:
            return end + 4 + int(length[1])
        return self._chunked_size(end + 4) if _CHUNKED.search(self._in, 0, end) else end + 4

    def _chunked_size(self, at: int) -> int:
        while (line := self._in.find(b"\r\n", at)) >= 0:
            try:
                size = int(self._in[at:line].partition(b";")[0], 16)
            except ValueError:
                raise BrokenWire("the length of a chunk is not a number") from None
            at = line + 2 + size + 2
            if not size:
                return at
        return 0


def split_answer(answer: bytes) -> tuple[dict[str, str], bytes]:
    """Return the fields of a whole answer by their names in lower case, and its body."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    pairs = (line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:])
    fields = {name.lower(): value.strip() for name, _, value in pairs}
    return fields, _join_chunks(rest) if "chunked" in fields.get("transfer-encoding", "") else rest


def _join_chunks(rest: bytes) -> bytes:
    chunks, at = [], 0
    while (line := rest.find(b"\r\n", at)) >= 0 and (size := int(rest[at:line].partition(b";")[0], 16)):
        chunks.append(rest[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
    return b"".join(chunks)


def http1_request(endpoint: Endpoint, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """Return the bytes of a POST."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {path} HTTP/1.1\r\nhost: {endpoint.authority}\r\n{lines}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body
