"""Questions to Prometheus, answered by a server in this process with what the real one sends."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from penstock.control.delivery.prometheus import MOST_BYTES, PrometheusClient
from penstock.core.errors import NotReady
from tests.harness import PATIENCE_S

ANSWERS: dict[str, tuple[int, Any]] = {
    "vector": (200, {"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, "0.25"]}]}}),
    "scalar": (200, {"data": {"resultType": "scalar", "result": [1.0, "3"]}}),
    "empty": (200, {"data": {"resultType": "vector", "result": []}}),
    "nan": (200, {"data": {"resultType": "scalar", "result": [1.0, "NaN"]}}),
    "text": (200, {"data": {"resultType": "vector", "result": [{"value": [1.0, "much"]}]}}),
    "several": (
        200,
        {"data": {"resultType": "vector", "result": [{"metric": {}, "value": [1.0, item]} for item in ("0.25", "9")]}},
    ),
    "endless": (200, {"data": {"resultType": "vector", "result": ["x" * MOST_BYTES]}}),
    "odd": (200, ["odd"]),
    "bad": (400, {"status": "error"}),
}


class Answering(BaseHTTPRequestHandler):
    """Answers the query that is a key of ``ANSWERS``."""

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        assert parts.path == "/api/v1/query"
        status, document = ANSWERS[parse_qs(parts.query)["query"][0]]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def ask() -> Iterator[PrometheusClient]:
    server = HTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield PrometheusClient(f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join(PATIENCE_S)
    server.server_close()


@pytest.mark.parametrize(("query", "value"), [("vector", 0.25), ("scalar", 3.0), ("empty", None), ("nan", None)])
def test_answers_of_prometheus_are_read(ask: PrometheusClient, query: str, value: float | None) -> None:
    assert ask(query) == value


@pytest.mark.parametrize("query", ["text", "odd", "bad"])
def test_malformed_answers_are_refused(ask: PrometheusClient, query: str) -> None:
    with pytest.raises(NotReady, match="Prometheus"):
        ask(query)


@pytest.mark.parametrize(("query", "reported"), [("several", "2 series; .*max"), ("endless", "more than .*max")])
def test_several_series_are_refused_as_an_answer(ask: PrometheusClient, query: str, reported: str) -> None:
    with pytest.raises(NotReady, match=reported):
        ask(query)


def test_an_unreachable_prometheus_is_an_error() -> None:
    with pytest.raises(NotReady, match="does not answer"):
        PrometheusClient("http://127.0.0.1:9")("up")
