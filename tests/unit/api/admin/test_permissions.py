"""The ops port's permissions: the whole matrix of routes, methods, roles and spellings of paths."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from starlette.routing import Route

from penstock.api.admin import access, admin, overview, traffic
from penstock.api.admin.caller_check import CallerCheck, check_complete
from penstock.api.admin.stream import routes as stream
from penstock.api.console import routes as console
from penstock.control.access.authenticator import Authenticator
from penstock.control.access.refusals import RefusalCounts
from penstock.core.access.endpoints import Requirement, Scope
from penstock.core.access.keys import digest_of, write_key
from penstock.core.access.ops_endpoints import OPS, requirement_of
from penstock.core.access.permissions import ROLES, Permission
from penstock.core.access.refusals import RefusalReason
from penstock.core.access.table import AccessTable, KeyRecord
from tests.unit.api.admin.conftest import Client
from tests.unit.api.admin.standin import FakeControl, MemoryRegistrar
from tests.unit.docs.test_reference import Anything

ROLES_TRIED = [*ROLES, ""]
"""Every role, and none."""

VALUES = {
    "seq": "1",
    "model": "digits",
    "version": "1",
    "alias": "champion",
    "id": "t1",
    "name": "bot",
    "verb": "pause",
    "column": "age",
    "path": "nowhere",
    "digest": "0",
}


def key_of(role: str, pattern: str = "*") -> tuple[str, KeyRecord]:
    key_id = f"{list(ROLES).index(role) if role else 99:02d}{'abcdefghij' if pattern == '*' else 'klmnopqrst'}"
    key = write_key(key_id, bytes(32))
    return key, KeyRecord(key_id, role or "nobody", digest_of(key), (role,) if role else (), (pattern,))


KEYS = {(role, pattern): key_of(role, pattern) for role in ROLES_TRIED for pattern in ("*", "fraud-*")}
TABLE = AccessTable(1, True, keys=tuple(record for _, record in KEYS.values()))


class Guarded(Client):
    """A client of the ops port with authentication, which sends the key of a role."""

    def __init__(self, folder: Path, table: AccessTable = TABLE) -> None:
        self.registry = MemoryRegistrar(folder)
        self.refusals = RefusalCounts()
        self.authenticator = Authenticator(lambda: 0.0)
        self.authenticator.use(table)
        super().__init__(FakeControl(), self.registry, self.authenticator, self.refusals)

    def status(self, method: str, path: str, role: str | None, pattern: str = "*") -> int:
        return self.statuses([(method, path, role)], pattern)[0]

    def statuses(self, asked: Sequence[tuple[str, str, str | None]], pattern: str = "*") -> list[int]:
        """The statuses of requests without bodies, each by the key of a role (None: without a credential)."""

        async def ask_all() -> list[int]:
            return [await self._ask(method, path, role, pattern) for method, path, role in asked]

        return asyncio.run(ask_all())

    async def _ask(self, method: str, target: str, role: str | None, pattern: str) -> int:
        sent: list[Any] = []
        path, _, query = target.partition("?")
        headers = [] if role is None else [(b"authorization", bearer(role, pattern)["authorization"].encode())]
        scope: dict[str, Any] = {"type": "http", "method": method, "path": unquote(path), "state": {}}
        scope |= {"query_string": query.encode(), "headers": headers, "client": ("127.0.0.1", 1)}

        received = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Any:
            return next(received, None) or await asyncio.Event().wait()  # the client stays, and says nothing more

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        status: int = sent[0]["status"]
        return status

    def push(self, model: str, role: str = "publisher") -> None:
        assert self.request("PUT", f"/admin/v1/models/{model}/versions/1", bearer(role), b"x").status_code == 201


def bearer(role: str, pattern: str = "*") -> dict[str, str]:
    return {"authorization": f"Bearer {KEYS[role, pattern][0]}"}


@pytest.fixture
def guarded(tmp_path: Path) -> Guarded:
    return Guarded(tmp_path)


def endpoints() -> Iterator[tuple[str, str, Requirement]]:
    """Method, path and requirement of every entry of the table."""
    for endpoint, requirement in OPS.items():
        method, template = endpoint.split(" ")
        yield method, template.replace(":path", "").format(**VALUES), requirement


def is_allowed(requirement: Requirement, role: str | None) -> bool:
    if requirement.public:
        return True
    if role is None:
        return False
    permissions = ROLES[role] if role else frozenset[Permission]()
    return not requirement.permissions or bool(requirement.permissions & permissions)


def test_every_route_has_an_entry_and_every_entry_a_route() -> None:
    anything: Any = Anything()
    routes = [
        *admin.list_routes(anything),
        *traffic.list_routes(anything, anything),
        *stream.list_routes(anything),
        *overview.list_routes(anything, anything),
        *access.list_routes(anything),
        *console.list_routes(anything),
    ]
    found = {f"{method} {route.path}" for route in routes for method in (route.methods or set()) - {"HEAD"}}
    found |= {f"GET {path}" for path in ("/livez", "/readyz", "/metrics", "/runbook")}
    verbs = {"POST /admin/v1/models/{model}/rollouts/{id}/approve"}
    assert set(OPS) - verbs == found


def test_a_route_without_an_entry_ends_the_start() -> None:
    async def answer(*_: Any) -> Any:
        raise AssertionError

    routes = [Route("/admin/v1/secrets", answer, methods=["GET"])]
    with pytest.raises(ValueError, match="GET /admin/v1/secrets has no requirement"):
        check_complete(routes)
    with pytest.raises(ValueError, match="no requirement"):
        CallerCheck(answer, routes)


def test_every_role_does_what_the_table_says_and_nothing_else(guarded: Guarded) -> None:
    guarded.push("digits")
    for role in (*ROLES_TRIED, None):
        statuses = guarded.statuses([(method, path, role) for method, path, _ in endpoints()])
        for (method, path, requirement), status in zip(endpoints(), statuses, strict=True):
            refused = {401} if role is None else {403, 404} if requirement.scope is Scope.MODEL else {403}
            if is_allowed(requirement, role):
                assert status not in (401, 403), (method, path, role, status)
            else:
                assert status in refused, (method, path, role, status)


SPELLINGS: tuple[Callable[[str], str], ...] = (
    str,
    lambda path: path.upper(),
    lambda path: path.replace("/admin", "//admin"),
    lambda path: path.replace("/v1/", "/v1//"),
    lambda path: path.replace("/v1/", "/%76%31/"),
    lambda path: path.replace("/v1/", "/v1/./"),
    lambda path: path.replace("/v1/", "/x/../v1/"),
    lambda path: path.replace("/v1/", "/v1%2f"),
    lambda path: path + "/",
    lambda path: path + "%2f",
    lambda path: path + "?token=x",
    lambda path: path + ";x=1",
    lambda path: path + "%00",
)


def test_no_spelling_of_a_path_gets_around_the_table(guarded: Guarded) -> None:
    guarded.push("digits")
    before = len(guarded.registry.changes)
    guarded_endpoints = [(method, path) for method, path, requirement in endpoints() if not requirement.public]
    asked = [(method, spell(path)) for method, path in guarded_endpoints for spell in SPELLINGS]
    asked += [(method, path) for _, path in guarded_endpoints for method in ("HEAD", "OPTIONS", "PATCH", "get")]
    assert set(guarded.statuses([(method, path, None) for method, path in asked])) == {401}
    statuses = guarded.statuses([(method, path, "") for method, path in asked])
    allowed = {target for target, status in zip(asked, statuses, strict=True) if status == 200}
    assert {path.partition("?")[0] for _, path in allowed} == {
        "/admin/v1/whoami",
        "/admin/%76%31/whoami",
        "/admin/v1%2fwhoami",
        "/console/access",
    }
    assert set(statuses) <= {200, 307, 403, 404, 405}
    assert len(guarded.registry.changes) == before


def test_head_needs_what_get_needs(guarded: Guarded) -> None:
    assert guarded.status("HEAD", "/metrics", None) == 401
    assert guarded.status("HEAD", "/metrics", "caller") == 403
    assert guarded.status("HEAD", "/metrics", "viewer") == 200


def test_the_model_is_the_one_that_the_endpoint_gets(guarded: Guarded) -> None:
    guarded.push("fraud-1")
    guarded.push("digits")
    for path, status in (("fraud-1", 200), ("fraud%2D1", 200), ("digits", 404), ("%64igits", 404), ("nothing", 404)):
        assert guarded.status("GET", f"/admin/v1/models/{path}", "viewer", "fraud-*") == status
    unknown = guarded.request("GET", "/admin/v1/models/digits", bearer("viewer", "fraud-*"))
    other = guarded.request("GET", "/admin/v1/models/nothing", bearer("viewer", "fraud-*"))
    assert unknown.json()["error"].replace("digits", "nothing") == other.json()["error"]
    assert unknown.headers["penstock-fault"] == other.headers["penstock-fault"]
    assert guarded.status("POST", "/admin/v1/models/fraud-1/rollback", "viewer", "fraud-*") == 403
    assert guarded.status("POST", "/admin/v1/models/digits/rollback", "operator", "fraud-*") == 404


def test_lists_show_what_the_caller_may_read(guarded: Guarded) -> None:
    for model in ("fraud-1", "digits"):
        guarded.push(model)
    everything, some = bearer("viewer"), bearer("viewer", "fraud-*")

    def names(headers: dict[str, str]) -> list[str]:
        return [model["name"] for model in guarded.request("GET", "/admin/v1/models", headers).json()["models"]]

    assert (names(everything), names(some)) == (["digits", "fraud-1"], ["fraud-1"])
    for path in ("/audit", "/audit/archives/1-2"):
        entries = guarded.request("GET", f"/admin/v1{path}", some).json()["entries"]
        assert [entry["model"] for entry in entries] == ["fraud-1"]
    assert guarded.request("GET", "/admin/v1/audit?model=digits", some).json() == {"entries": []}
    assert guarded.request("GET", "/admin/v1/events?model=digits", some).json() == {"events": []}
    assert len(guarded.request("GET", "/admin/v1/events?model=fraud-1", some).json()["events"]) == 3
    assert guarded.request("GET", "/admin/v1/registry", some).json()["repositories"] == []
    assert guarded.request("GET", "/admin/v1/registry", everything).json()["repositories"]
    assert (
        "models/good" not in guarded.request("GET", "/console/models", some).text
        and "models/good" in guarded.request("GET", "/console/models", everything).text
    )
    assert guarded.status("GET", "/metrics", "viewer", "fraud-*") == 403


def test_probes_need_no_credential_and_show_no_names_without_one(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path)
    control = FakeControl()
    control.ready, control.problems = False, {"rules": "model digits: it fails"}
    client = Client(control, MemoryRegistrar(tmp_path), guarded.authenticator)
    for headers in ({}, {"authorization": "Bearer nonsense"}, bearer("caller")):
        assert client.request("GET", "/livez", headers).json() == {"live": False}
        assert "reason" not in client.request("GET", "/readyz", headers).json()
    assert client.request("GET", "/livez", bearer("viewer")).json()["tasks"] == control.problems
    assert "reason" in client.request("GET", "/readyz", bearer("viewer")).json()


def test_a_refusal_says_how_to_authenticate_and_is_counted(guarded: Guarded) -> None:
    answer = guarded.request("GET", "/admin/v1/models")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["penstock-fault"] == "unauthenticated"
    bad = guarded.request("GET", "/admin/v1/models", {"authorization": "Bearer nonsense"})
    assert (bad.status_code, bad.content) == (401, answer.content)
    assert guarded.status("GET", "/admin/v1/models?access_token=x", None) == 401
    assert guarded.status("GET", "/admin/v1/models", "caller") == 403
    assert guarded.status("DELETE", "/admin/v1/keys/root", "admin") == 403  # refused by the endpoint
    assert guarded.refusals.totals() == {
        (RefusalReason.NO_CREDENTIAL, False): 2,
        (RefusalReason.MALFORMED, False): 1,
        (RefusalReason.NOT_PERMITTED, False): 2,
    }


def test_two_credential_fields_are_refused(guarded: Guarded) -> None:
    field = ("authorization", bearer("admin")["authorization"])
    assert guarded.request("GET", "/admin/v1/models", [field]).status_code == 200
    assert guarded.request("GET", "/admin/v1/models", [field, field]).status_code == 401


def test_an_address_that_fails_too_often_has_to_wait(guarded: Guarded) -> None:
    guarded.authenticator.use(replace(TABLE, keys=tuple(KEYS["caller", "*"][1:])))
    assert set(guarded.statuses([("GET", "/admin/v1/whoami", "viewer")] * 130)) == {401, 429}
    assert guarded.status("GET", "/admin/v1/whoami", "caller") == 200


def test_where_refusals_are_only_counted_everything_answers(tmp_path: Path) -> None:
    guarded = Guarded(tmp_path, AccessTable(1, True, dry_run=True, keys=TABLE.keys))
    guarded.push("digits", "caller")
    assert guarded.status("GET", "/admin/v1/models/digits", None) == 200
    assert guarded.status("GET", "/metrics", "caller") == 200
    listed = guarded.request("GET", "/admin/v1/models", bearer("viewer", "fraud-*")).json()["models"]
    assert [model["name"] for model in listed] == ["digits"]
    assert guarded.refusals.totals() == {(RefusalReason.NO_CREDENTIAL, True): 1, (RefusalReason.NOT_PERMITTED, True): 2}


def test_nobody_approves_what_they_pushed(tmp_path: Path) -> None:
    admins = [("admin", "*"), ("admin", "fraud-*")]
    first, second = (KEYS[admin] for admin in admins)
    renamed = KeyRecord(second[1].id, "other", second[1].digest, second[1].roles, ("*",))
    guarded = Guarded(tmp_path, AccessTable(1, True, keys=(first[1], renamed)))
    own, other = ({"authorization": f"Bearer {key}"} for key in (first[0], second[0]))
    guarded.push("digits", "admin")
    guarded.trials.trials["t1"] = {"id": "t1", "model": "digits", "to": "1"}
    for path in ("candidates/1/approve", "rollouts/t1/approve"):
        url = f"/admin/v1/models/digits/{path}"
        refused = guarded.request("POST", url, own)
        assert (refused.status_code, refused.json()["error"][:6]) == (403, "nobody")
        assert guarded.request("POST", url, other).status_code == 200
    assert guarded.request("POST", "/admin/v1/models/digits/rollouts/t1/pause", own).status_code == 200


def test_whoami_shows_the_caller_and_its_grants(guarded: Guarded, client: Client) -> None:
    shown = guarded.request("GET", "/admin/v1/whoami", bearer("operator", "fraud-*")).json()
    assert (shown["name"], shown["method"], shown["key_id"]) == ("operator", "key", KEYS["operator", "fraud-*"][1].id)
    assert shown["grants"] == [{"models": "fraud-*", "roles": ["operator"], "permissions": sorted(ROLES["operator"])}]
    assert client.get("/admin/v1/whoami").json()["name"] == "anonymous"


def test_keys_are_administered_as_the_caller(client: Client) -> None:
    assert client.get("/admin/v1/keys").json() == {"keys": [{"name": "bot", "asked_by": "anonymous"}]}
    made = client.admin("POST", "/keys", {"name": "bot", "roles": ["caller"], "reason": "why"})
    assert (made.status_code, made.json()["roles"]) == (201, ["caller"])
    assert client.admin("POST", "/keys", {"secret": "x"}).status_code == 400
    assert client.admin("POST", "/keys/bot/rotate", {"overlap_seconds": 1}).json()["overlap_seconds"] == 1
    revoked = client.admin("DELETE", "/keys/bot", {"reason": "lost"})
    assert revoked.json() == {"revoked": [{"name": "bot", "reason": "lost"}]}
    assert client.admin("DELETE", "/keys/unknown").status_code == 404


def test_the_table_is_read_by_method_template_and_verb() -> None:
    template = "/admin/v1/models/{model}/rollouts/{id}/{verb}"
    approve, pause = (requirement_of("POST", template, {"verb": verb}) for verb in ("approve", "pause"))
    assert approve is not None and approve.permissions == {Permission.APPROVE}
    assert pause is not None and pause.permissions == {Permission.OPERATE}
    assert requirement_of("POST", template, {}) == pause
    assert requirement_of("PATCH", template, {}) is None
