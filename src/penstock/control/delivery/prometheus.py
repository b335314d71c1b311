"""Asks a Prometheus server what an expression gives now."""

import http.client
import json
import math
import urllib.error
import urllib.parse
import urllib.request

from penstock.core.errors import NotReady

WAIT_S = 5.0
MOST_BYTES = 1 << 20


class Prometheus:
    """One server; its address comes from the configuration and nowhere else."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def __call__(self, query: str) -> float | None:
        """The value of an expression that gives one, None where it gives none.

        The HTTP API's instant query (``/api/v1/query``); of several series the first counts. Blocks.

        Raises:
            NotReady: nobody answers, or the answer is an error.
        """
        address = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
        try:
            with urllib.request.urlopen(address, timeout=WAIT_S) as answer:  # noqa: S310 - http or https by the configuration
                result = json.loads(answer.read(MOST_BYTES))["data"]
            series = result["result"]
            value = series if result["resultType"] == "scalar" else series[0]["value"] if series else None
            number = None if value is None else float(value[1])
        except urllib.error.HTTPError as error:
            raise NotReady(f"Prometheus refuses the query: {error.code}") from None
        except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError, IndexError):
            raise NotReady("Prometheus does not answer") from None
        return None if number is None or math.isnan(number) else number
