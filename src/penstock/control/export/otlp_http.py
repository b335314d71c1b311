"""Sends one export request by OTLP over HTTP, with the header fields of a file, and returns the answer."""

import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final

from penstock.control.calls.http_deadline import NoRedirect, exchanging
from penstock.control.sinks.http_post import retry_after
from penstock.control.sinks.secret_store import read_secret_file
from penstock.core.secrets import SecretFault
from penstock.core.traces.retries import ExportAnswer
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


def sender(headers_file: Path | None) -> Send:
    """Return what sends requests with the header fields of a file, which is read for each: credentials may change.

    Raises:
        SecretFault: the file cannot be used now.
    """
    if headers_file is None:
        return send_otlp
    read_header_fields(headers_file)
    return partial(_send_with_file, headers_file)


def _send_with_file(headers_file: Path, url: str, body: bytes) -> ExportAnswer:
    try:
        return send_otlp(url, body, fields=read_header_fields(headers_file))
    except SecretFault as fault:
        return ExportAnswer(0, reason=str(fault))


def read_header_fields(file: Path) -> dict[str, str]:
    """Return the header fields in a file, by their names in lower case; empty lines and those with # are left out.

    Raises:
        SecretFault: the file cannot be read, others may read it, or a line is no header field.
    """
    fields = {}
    for number, line in enumerate(read_secret_file(file, file.name).text().splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        found = _FIELD.fullmatch(line.strip())
        if found is None or found[1].lower() in _RESERVED:
            raise SecretFault(
                f"line {number} of {file.name} is no header field for an OTLP receiver; expected name: value"
            )
        fields[found[1].lower()] = found[2]
    return fields


def _check_type(content_type: str) -> str:
    """Return why the type of an answer is none of an OTLP receiver, "" if it may be one."""
    return _PAGE if content_type == "text/html" else ""


def send_otlp(
    url: str, body: bytes, wait_s: float = WAIT_S, fields: Mapping[str, str] = MappingProxyType({})
) -> ExportAnswer:
    """Send a request with these header fields to a signal's address. Blocks, for a few waits at most; never raises."""
    headers = {**_HEADERS, **fields}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - http or https by the setting
    try:
        with exchanging(request, wait_s, NoRedirect()) as answer:
            rejected, reason = read_rejected(answer.read(MOST_ANSWER))
            return ExportAnswer(answer.status, 0.0, rejected, reason or _check_type(answer.headers.get_content_type()))
    except urllib.error.HTTPError as error:
        error.close()
        after_s = retry_after(error.headers.get("retry-after", ""), time.time())
        return ExportAnswer(error.code, after_s, reason=f"it answered {error.code}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return ExportAnswer(0, reason=f"it does not answer: {getattr(error, 'reason', None) or type(error).__name__}")
