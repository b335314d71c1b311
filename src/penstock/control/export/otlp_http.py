"""Sends export requests by OTLP over HTTP, with the header fields of a file, on a connection that stays open."""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from penstock.control.calls.http_deadline import NoRedirect, send_request
from penstock.control.calls.kept_connection import HttpAnswer, KeptConnection
from penstock.control.sinks.http_post import retry_after
from penstock.control.sinks.secret_store import read_secret_file
from penstock.core.secrets import SecretFault
from penstock.core.traces.retries import SUCCESS, ExportAnswer
from penstock.telemetry.otlp.common import read_rejected

WAIT_S: Final = 10.0
"""Maximum time of one wait for the receiver."""

MOST_ANSWER: Final = 64 << 10
_HEADERS: Final = {"content-type": "application/x-protobuf", "user-agent": "penstock"}
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e]+)")
"""A header field, as RFC 9110 has it, in ASCII."""

_RESERVED: Final = frozenset({"content-type", "content-length", "transfer-encoding", "connection", "host"})

_PAGE: Final = "it answered with a page of HTML; expected an OTLP receiver, check its address"


Send = Callable[[str, bytes], ExportAnswer]
"""Sends a request to a signal's address, and returns the answer. Blocks, for a few waits at most; never raises."""


class OtlpSender:
    """Sends requests with the header fields of a file, which is read for each: credentials may change. Of one thread at
    a time; each wait for the receiver takes ``wait_s`` seconds at most.

    The connection stays open between requests. Where the environment states a proxy for the receiver, each request has
    its own.

    Raises:
        SecretFault: the file cannot be used now.
    """

    def __init__(self, headers_file: Path | None = None, wait_s: float = WAIT_S) -> None:
        if headers_file is not None:
            read_header_fields(headers_file)
        self._headers_file = headers_file
        self._wait_s = wait_s
        self._kept: tuple[str, KeptConnection] | None = None

    def __call__(self, url: str, body: bytes) -> ExportAnswer:
        """Send a request to a signal's address; never raises."""
        try:
            stated = {} if self._headers_file is None else read_header_fields(self._headers_file)
            return _read_answer(self._exchange(url, body, {**_HEADERS, **stated}))
        except SecretFault as fault:
            return ExportAnswer(0, reason=str(fault))
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", None) or (str(error) if isinstance(error, OSError) else "")
            return ExportAnswer(0, reason=f"it does not answer: {reason or type(error).__name__}")

    def _exchange(self, url: str, body: bytes, fields: Mapping[str, str]) -> HttpAnswer:
        if _has_proxy(url):
            return _exchange_once(url, body, fields, self._wait_s)
        if self._kept is None or self._kept[0] != url:
            self.close()
            self._kept = url, KeptConnection(url, self._wait_s)
        return self._kept[1].post(body, fields, MOST_ANSWER)

    def close(self) -> None:
        """Close the connection."""
        if self._kept is not None:
            self._kept[1].close()


def _has_proxy(url: str) -> bool:
    """Return whether the environment states a proxy for an address."""
    parts = urlsplit(url)
    return parts.scheme in urllib.request.getproxies() and not urllib.request.proxy_bypass(parts.hostname or "")


def _exchange_once(url: str, body: bytes, fields: Mapping[str, str], wait_s: float) -> HttpAnswer:
    """Send a request by a proxy, on a connection of its own."""
    request = urllib.request.Request(url, body, dict(fields), method="POST")  # noqa: S310 - http or https by the setting
    try:
        with send_request(request, wait_s, NoRedirect()) as answer:
            return HttpAnswer(answer.status, answer.headers, answer.read(MOST_ANSWER))
    except urllib.error.HTTPError as error:
        error.close()
        return HttpAnswer(error.code, error.headers, b"")


def _read_answer(answer: HttpAnswer) -> ExportAnswer:
    if answer.status not in SUCCESS:
        after_s = retry_after(answer.fields.get("retry-after", ""), time.time())
        return ExportAnswer(answer.status, after_s, reason=f"it answered {answer.status}")
    rejected, reason = read_rejected(answer.content)
    return ExportAnswer(answer.status, 0.0, rejected, reason or _check_type(answer.fields.get_content_type()))


def read_header_fields(file: Path) -> dict[str, str]:
    """Return the header fields in a file, by their names in lower case; empty lines and those with # are left out.

    Raises:
        SecretFault: the file cannot be read, others may read it, or a line is not a header field.
    """
    fields = {}
    for number, line in enumerate(read_secret_file(file, file.name).text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _FIELD.fullmatch(line.strip())
        if found is None or found[1].lower() in _RESERVED:
            raise SecretFault(
                f"line {number} of {file.name} is not a header field for an OTLP receiver; expected name: value"
            )
        fields[found[1].lower()] = found[2]
    return fields


def _check_type(content_type: str) -> str:
    """Return why the type of an answer is none of an OTLP receiver, "" if it may be one."""
    return _PAGE if content_type == "text/html" else ""
