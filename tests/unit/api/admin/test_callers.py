"""Who sends a request to the ops port, what of it is kept for the audit, and the fields of every answer."""

import asyncio
import os
from typing import Any

import httpx
import pytest
from starlette.requests import Request

from penstock.api.admin import caller_check
from penstock.api.admin.caller_check import CallerCheck, caller_of
from penstock.api.admin.health import build_health_app
from penstock.api.admin.incoming import read_author
from penstock.core.access.callers import ANONYMOUS, OWNER, Caller
from penstock.registry.records import Author
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl


async def nothing(*_: Any) -> Any:
    """Neither receives nor sends."""


def identify(state: dict[str, object]) -> Caller:
    """The caller of a request whose connection has this state."""
    seen: list[Caller] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(caller_of(Request(scope)))

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [], "state": state}
    asyncio.run(CallerCheck(app)(scope, nothing, nothing))
    return seen[0]


def test_the_own_user_and_root_are_the_owner() -> None:
    assert identify({"peer": (1, os.geteuid())}) is OWNER
    assert identify({"peer": (1, 0)}) is OWNER


@pytest.mark.parametrize("state", [{}, {"peer": None}, {"peer": (1, os.geteuid() + 1)}, {"peer": (1, 65534)}])
def test_everybody_else_is_anonymous(state: dict[str, object]) -> None:
    assert identify(state) is ANONYMOUS


def author(caller: Caller, **headers: str) -> Author:
    """Who makes a change, as the audit has it."""
    fields = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    client = ("10.0.0.7", 4711) if caller is ANONYMOUS else None
    return read_author(Request({"type": "http", "headers": fields, "client": client, "caller": caller}), {})


def test_an_anonymous_caller_may_state_a_name() -> None:
    made = author(ANONYMOUS, penstock_actor="ann%20b", penstock_reason="why", x_request_id="r-1")
    assert made == Author("ann b", "why", "anonymous", "", "10.0.0.7:4711", "r-1", "")
    assert author(ANONYMOUS).actor == "anonymous"


def test_a_proven_caller_is_the_actor_whatever_it_states() -> None:
    made = author(OWNER, penstock_actor="ceo")
    assert (made.actor, made.method, made.on_behalf_of, made.address) == ("owner", "unix", "ceo", "")
    assert author(OWNER).on_behalf_of == ""


def test_a_request_id_that_does_not_fit_is_left_out() -> None:
    assert author(ANONYMOUS, x_request_id="r" * 129).request_id == ""
    assert author(ANONYMOUS, x_request_id="a\x01b").request_id == ""


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/livez"), ("GET", "/nothing"), ("POST", "/livez"), ("GET", "/metrics")]
)
def test_every_answer_of_the_ops_port_warns_browsers(client: Client, method: str, path: str) -> None:
    fields = client.request(method, path).headers
    assert "frame-ancestors 'none'" in fields["content-security-policy"]
    assert "default-src 'self'" in fields["content-security-policy"]
    assert "unsafe" not in fields["content-security-policy"]
    assert fields["x-content-type-options"] == "nosniff"
    assert fields["x-frame-options"] == "DENY"
    assert fields["cache-control"] == "no-store"
    assert fields["referrer-policy"] == "same-origin"


def ask_health(control: FakeControl, path: str, method: str = "GET") -> httpx.Response:
    async def call() -> httpx.Response:
        transport = httpx.ASGITransport(build_health_app(control))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path)

    return asyncio.run(call())


def test_the_health_port_says_whether_and_nothing_else(control: FakeControl) -> None:
    assert ask_health(control, "/livez").json() == {"live": True}
    assert ask_health(control, "/readyz").json() == {"ready": True}
    control.ready, control.problems = False, {"labels": "it is overdue"}
    for path, document in (("/livez", {"live": False}), ("/readyz", {"ready": False})):
        answer = ask_health(control, path)
        assert (answer.status_code, answer.json()) == (503, document)


@pytest.mark.parametrize("path", ["/", "/metrics", "/admin/v1/models", "/livez/", "//livez", "/readyz/x"])
def test_the_health_port_has_no_other_path(control: FakeControl, path: str) -> None:
    assert ask_health(control, path).status_code == 404
    assert ask_health(control, path, "PUT").status_code == 404


def test_the_health_port_takes_no_other_method(control: FakeControl) -> None:
    assert ask_health(control, "/livez", "POST").status_code == 405
    assert ask_health(control, "/livez", "HEAD").status_code == 200


def test_a_process_that_runs_models_is_not_the_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the gateway's user, and may connect to the owner's socket."""
    monkeypatch.setattr(caller_check, "is_confined", lambda pid: pid == 4711)
    assert identify({"peer": (4711, os.geteuid())}) is ANONYMOUS
    assert identify({"peer": (4712, os.geteuid())}) is OWNER
