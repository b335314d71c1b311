"""Queries a Prometheus server for the current value of an expression."""

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from penstock.control.calls.http_deadline import NoRedirect, send_request
from penstock.core.errors import NotReady

WAIT_S = 5.0
MOST_BYTES = 1 << 20
_ONE = "make it return one value with sum(...), max(...) or min(...)"


class PrometheusClient:
    """One server; its address comes only from the configuration."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def __call__(self, query: str) -> float | None:
        """Return the value of an expression, None if it has none.

        The HTTP API's instant query (``/api/v1/query``). Blocks.

        Raises:
            NotReady: nobody answers, the answer is an error, or it has several series: none of them may be left out.
        """
        address = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            request = urllib.request.Request(address)  # noqa: S310 - http or https by the configuration
            with send_request(request, WAIT_S, NoRedirect()) as answer:
                number = _read_value(answer.read(MOST_BYTES))
        except urllib.error.HTTPError as error:
            raise NotReady(f"Prometheus refuses the query: {error.code}") from None
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, IndexError, RecursionError):
            raise NotReady("Prometheus does not answer") from None
        return None if number is None or math.isnan(number) else number


def _read_value(body: bytes) -> float | None:
    if len(body) == MOST_BYTES:
        raise NotReady(f"Prometheus answers with more than {MOST_BYTES} bytes; {_ONE}")
    data: dict[str, Any] = json.loads(body)["data"]
    series = data["result"]
    if data["resultType"] == "scalar":
        return float(series[1])
    if len(series) > 1:
        raise NotReady(f"the query returns {len(series)} series; {_ONE}")
    return float(series[0]["value"][1]) if series else None
