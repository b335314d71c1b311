"""The ops plane's answers over a made-up control plane."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import httpx
import pytest

from penstock.api.ops.app import build_app
from penstock.api.ops.page import Shown
from penstock.control.view import Readiness
from penstock.core.desired import State, VersionStatus
from penstock.telemetry.metrics import REQUESTS, Point, Reading


class FakeControl:
    """One good model and a bad one."""

    def __init__(self) -> None:
        self.ready = True

    def readiness(self) -> Readiness:
        return Readiness(self.ready, 2 if self.ready else 1, 2, {"READY": 1, "UNAVAILABLE": 1})

    def statuses(self) -> list[VersionStatus]:
        return [
            VersionStatus("good", "1", State.READY),
            VersionStatus("<bad>", "", State.UNAVAILABLE, "no <version>"),
        ]

    def worker_states(self) -> list[tuple[int, str]]:
        return [(4711, "ready"), (0, "absent")]

    def readings(self) -> Iterable[Reading]:
        return [Point(REQUESTS, ("good", "1", "stable", "rest", "200"), 5)]


@pytest.fixture
def control() -> FakeControl:
    return FakeControl()


class Client:
    """Calls the application without a socket."""

    def __init__(self, control: FakeControl) -> None:
        registrar: Any = None  # has tests of its own
        self._app = build_app(control, registrar, Shown("1.2.3", "127.0.0.1:1", "127.0.0.1:2"))

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("GET", path, headers)

    def request(self, method: str, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self._app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
                return await client.request(method, path, headers=headers)

        return asyncio.run(call())


@pytest.fixture
def client(control: FakeControl) -> Client:
    return Client(control)


def test_live(client: Client) -> None:
    assert client.get("/livez").json() == {"live": True}


def test_ready_says_how_many_of_how_many(client: Client, control: FakeControl) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 200
    assert answer.json()["workers"] == {"ready": 2, "configured": 2}
    control.ready = False
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {
        "ready": False,
        "workers": {"ready": 1, "configured": 2},
        "versions": {"READY": 1, "UNAVAILABLE": 1},
    }


def test_metrics_in_both_forms(client: Client) -> None:
    plain = client.get("/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert 'penstock_requests_total{code="200",model="good"' in plain.text
    opened = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert opened.text.endswith("# EOF\n")


def test_the_page_shows_what_is_served_and_escapes_it(client: Client) -> None:
    answer = client.get("/")
    assert answer.headers["content-type"].startswith("text/html")
    for part in ("1.2.3", "good", "READY", "&lt;bad&gt;", "no &lt;version&gt;", "4711", "/metrics", "127.0.0.1:2"):
        assert part in answer.text
    assert "<bad>" not in answer.text
    assert "http://" not in answer.text
    assert "<script" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/admin/v1/models/good", 405),
        ("GET", "/admin/v1/models", 500),  # there is no registrar here
    ],
)
def test_errors_are_json(client: Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert status != 405 or "GET" in answer.headers["allow"]
