"""The ops plane's application over stand-ins, called without a socket."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest

from penstock.api.admin.access import AccessApi
from penstock.api.admin.app import build_app
from penstock.api.admin.traffic import TrafficApi
from penstock.api.console.build import build_console
from penstock.control.access.authenticator import Authenticator
from penstock.control.access.refusals import RefusalCounts
from tests.unit.api.admin.standin import (
    FakeControl,
    MemoryErasures,
    MemoryFleet,
    MemoryKeys,
    MemoryMonitor,
    MemoryOverview,
    MemoryPredictions,
    MemoryRecent,
    MemoryRegistrar,
    MemoryRetraining,
    MemoryTraffic,
    MemoryTrials,
)


class Client:
    """Calls the application; a mapping is sent as JSON."""

    def __init__(
        self,
        control: FakeControl,
        registry_admin: MemoryRegistrar,
        authenticator: Authenticator | None = None,
        refusals: RefusalCounts | None = None,
    ) -> None:
        self.routes, self.experiments, self.recent = MemoryTraffic(), MemoryTrials(), MemoryRecent()
        self.trials, self.erasures = MemoryTrials(), MemoryErasures()
        self.predictions = MemoryPredictions()
        services = TrafficApi(
            self.routes,
            self.trials,
            self.experiments,
            MemoryMonitor(),
            MemoryRetraining(),
            MemoryFleet(),
            self.erasures,
            self.predictions,
            self.recent,
            lambda: 0,
            MemoryOverview(),
        )
        facts = ("1.2.3", "127.0.0.1:1", "127.0.0.1:2")
        access = AccessApi(MemoryKeys(), authenticator, refusals)
        console = build_console(control, registry_admin, services, access, facts)
        self.app = build_app(control, registry_admin, services, access, console)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> httpx.Response:
        return self.request("GET", path, headers)

    def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
        body: Mapping[str, Any] | bytes | AsyncIterator[bytes] | None = None,
    ) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://ops") as client:
                if isinstance(body, Mapping):
                    return await client.request(method, path, headers=headers, json=body)
                return await client.request(method, path, headers=headers, content=body)

        return asyncio.run(call())

    def admin(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | bytes | AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        return self.request(method, f"/admin/v1{path}", headers, body)


@pytest.fixture
def client(control: FakeControl, registry_admin: MemoryRegistrar) -> Client:
    return Client(control, registry_admin)
