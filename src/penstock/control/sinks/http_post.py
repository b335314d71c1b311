"""Sends one POST to an HTTP server: follows no redirect, and reads ``Retry-After`` as seconds or as a date."""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from penstock.control.calls.http_deadline import NoRedirect, send_request
from penstock.control.sinks.base import WAIT_S, SinkContext, SinkFault
from penstock.control.sinks.credentials import bearer_token

GONE = 410
MULTIPLE_CHOICES = 300
RETRY_STATUSES = (429, 503)


UNREACHABLE = "it does not answer, or its address is none that a policy may reach"
"""The one reason for all failures to connect of sinks that policies declare: nobody can look for open ports by it."""


def post(url: str, body: bytes, headers: Mapping[str, str], context: SinkContext, done: tuple[int, ...] = ()) -> None:
    """Send a POST; statuses in ``done`` count like 2xx.

    Raises:
        SinkFault: the server does not answer, or refuses.
    """
    status, stated = exchange(url, body, headers, WAIT_S, context)
    if status < MULTIPLE_CHOICES or status in done:
        return
    after_s = retry_after(stated, time.time()) if status in RETRY_STATUSES else 0.0
    raise SinkFault(f"it answered {status}", after_s, status == GONE)


def retry_after(stated: str, now: float) -> float:
    """Return the seconds from ``now`` in a ``Retry-After`` field, a number or a date; 0 if it is neither."""
    if stated.isascii() and stated.isdigit():
        return float(stated)
    try:
        date = parsedate_to_datetime(stated)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def exchange(url: str, body: bytes, headers: Mapping[str, str], wait_s: float, context: SinkContext) -> tuple[int, str]:
    """Return the status of an answer and its ``Retry-After``; raises ``SinkFault`` without an answer.

    Each wait takes ``wait_s`` at most, and the whole a few of them.
    """
    traced = {"traceparent": context.traceparent} if context.traceparent else {}
    stated = {"content-type": "application/json", "user-agent": "penstock", **traced, **headers}
    request = urllib.request.Request(url, body, stated, method="POST")  # noqa: S310 - http or https by the policy's check
    handlers = [NoRedirect()] if context.trusted else [NoRedirect(), urllib.request.ProxyHandler({})]
    try:
        with send_request(request, wait_s, *handlers, permits=context.permits) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, error.headers.get("retry-after", "")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SinkFault(_describe_error(error, wait_s) if context.trusted else UNREACHABLE) from None


def _describe_error(error: Exception, wait_s: float) -> str:
    if isinstance(error, TimeoutError):
        return f"it does not answer within {wait_s:g} s"
    return f"it does not answer: {getattr(error, 'reason', None) or type(error).__name__}"


def read_bearer(values: Mapping[str, Any], context: SinkContext) -> dict[str, str]:
    """Return the ``authorization`` field if a sink has a token; raises ``SinkFault``."""
    token = bearer_token(values, context)
    return {} if token is None else {"authorization": f"Bearer {token}"}
