"""Sends one export request by OTLP over HTTP, and returns the answer."""

import http.client
import time
import urllib.error
import urllib.request
from typing import Final

from penstock.control.calls.http_deadline import NoRedirect, exchanging
from penstock.control.sinks.http_post import retry_after
from penstock.core.traces.retries import ExportAnswer
from penstock.telemetry.otlp.common import read_rejected

WAIT_S: Final = 10.0
"""Maximum time of one wait for the receiver."""

MOST_ANSWER: Final = 64 << 10
_HEADERS: Final = {"content-type": "application/x-protobuf", "user-agent": "penstock"}


def send_otlp(url: str, body: bytes, wait_s: float = WAIT_S) -> ExportAnswer:
    """Send a request to a signal's address. Blocks, for a few waits at most; never raises."""
    request = urllib.request.Request(url, body, _HEADERS, method="POST")  # noqa: S310 - http or https by the setting
    try:
        with exchanging(request, wait_s, NoRedirect()) as answer:
            rejected, reason = read_rejected(answer.read(MOST_ANSWER))
            return ExportAnswer(answer.status, 0.0, rejected, reason)
    except urllib.error.HTTPError as error:
        error.close()
        after_s = retry_after(error.headers.get("retry-after", ""), time.time())
        return ExportAnswer(error.code, after_s, reason=f"it answered {error.code}")
    except (OSError, http.client.HTTPException, ValueError) as error:
        return ExportAnswer(0, reason=f"it does not answer: {getattr(error, 'reason', None) or type(error).__name__}")
