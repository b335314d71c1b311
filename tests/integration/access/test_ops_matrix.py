"""Every endpoint of the ops port, console and streams too, by method, spelling and role over real connections: nothing
answers a caller without the permission, and no page names a model that its caller may not read."""

import http.client
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlencode

import pytest

from penstock.core.access.ops_endpoints import OPS
from penstock.core.access.permissions import ROLES
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until
from tests.keys import ACCEPT_KEYS, create_key

SHOWN, HIDDEN = "digits", "fraudulent"
ROLE_NAMES = ("caller", "viewer", "operator", "publisher", "approver", "admin", "feedback", "metrics")
"""Each role is granted for the model digits alone."""

VALUES = {"model": SHOWN, "version": "1", "alias": "champion", "id": "t1", "name": "stranger", "verb": "pause"}
VALUES |= {
    "seq": "1",
    "digest": "0",
    "name:path": "app.js",
    "column:path": "f0",
    "path:path": "nowhere",
    "column": "f0",
}

SPELLINGS: Final[dict[str, Callable[[str], str]]] = {
    "plain": lambda path: path,
    "trailing slash": lambda path: path + "/",
    "upper case": lambda path: path.upper(),
    "double slash": lambda path: "/" + path,
    "inner double slash": lambda path: path.replace("/models", "//models"),
    "encoded letter": lambda path: path.replace("/v1", "/%76%31").replace("/console", "/%63onsole"),
    "encoded model": lambda path: path.replace(SHOWN, "%64igits").replace(HIDDEN, "%66raudulent"),
    "encoded slash": lambda path: path.replace("/models/", "/models%2F"),
    "dot segment": lambda path: path.replace("/v1/", "/v1/./"),
    "encoded dots": lambda path: "/livez/%2e%2e" + path,
    "dots from the static files": lambda path: "/console/static/0/../../.." + path,
    "encoded dots from the static files": lambda path: "/console/static/0/%2e%2e/%2e%2e/%2e%2e" + path,
    "parameter": lambda path: path + ";/livez",
    "query": lambda path: path + "?path=/livez&access_token=x",
    "absolute": lambda path: "http://127.0.0.1" + path,
}
EACH_ROLE = ("plain", "upper case", "encoded letter", "encoded model", "encoded slash")
"""The spellings that are tried by each role; without a credential all are."""

REFUSED = {400, 401, 403, 404, 405, 429}
NEEDS: Final = (
    # Method and path, what is required of a caller, and for what; written apart from the table of the program.
    (r"\w+ /(livez|readyz|runbook)$", "nothing", ""),
    (r"POST /admin/v1/webhooks/mlflow$", "nothing", ""),  # its signature is checked
    (r"\w+ /console/(sign-in|sign-out|static/.*)$", "nothing", ""),
    (r"GET (/admin/v1/whoami|/console/access)$", "", "any"),
    (r"GET /metrics$", "metrics", "all"),
    (r"\w+ /admin/v1/keys", "administer", "some"),
    (r"GET /admin/v1/audit/(proofs/.*|export)$", "read", "all"),
    (r"POST /admin/v1/audit/verify$", "read", "all"),
    (r"POST /admin/v1/registry/verify$", "operate", "all"),
    (r"POST /admin/v1/(registry/collect|erasures)$", "administer", "all"),
    (r"GET /.*/models/[^/]+", "read", "model"),
    (r"GET /", "read", "some"),
    (r"POST .*/preview$", "read", "model"),
    (r"POST .*/(approve|refuse)$", "approve", "model"),
    (r"POST .*/models/[^/]+/(predict|explain)$", "predict", "model"),
    (r"(PUT|DELETE) .*/versions/[^/]+(/reference|/signatures)?$", "push", "model"),
    (r"(POST|PUT|DELETE) /admin/v1/models/", "operate", "model"),
)


@dataclass(frozen=True)
class Endpoint:
    """A method and a path, of the model that is granted or of the other one."""

    method: str
    path: str

    def allows(self, role: str | None) -> bool:
        """Whether a role on the model digits may use it."""
        asked = f"{self.method} {self.path}"
        needed, scope = next((need for pattern, *need in NEEDS if re.match(pattern, asked)), ("", "any"))
        if needed == "nothing" or role is None:
            return needed == "nothing"
        if scope == "all" or (scope == "model" and HIDDEN in self.path):
            return False
        return not needed or needed in {str(item) for item in ROLES[role]}


def endpoints() -> list[Endpoint]:
    found = []
    for entry in OPS:
        method, template = entry.split(" ")
        path = re.sub(r"\{([^}]+)\}", lambda match: VALUES[match[1]], template)
        found += [Endpoint(method, text) for text in dict.fromkeys((path, path.replace(SHOWN, HIDDEN)))]
    return found


class Asker:
    """One connection to the ops port, with a key or other fields."""

    def __init__(self, server: Server, key: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        self._server = server
        self._headers = dict(headers or {}) if key is None else {"authorization": f"Bearer {key}"}
        self._connection = http.client.HTTPConnection(server.ops, timeout=PATIENCE_S)

    def ask(self, method: str, target: str) -> tuple[int, bytes]:
        """Status and body; the body of what succeeds is not read, as it may have no end."""
        body = b"{}" if method in {"POST", "PUT", "DELETE", "PATCH"} else b""
        self._connection.putrequest(method, target, skip_accept_encoding=True)
        for name, value in {**self._headers, "content-length": str(len(body))}.items():
            self._connection.putheader(name, value)
        self._connection.endheaders(body)
        answer = self._connection.getresponse()
        if answer.status == 200:
            self.close()
            self._connection = http.client.HTTPConnection(self._server.ops, timeout=PATIENCE_S)
            return answer.status, b""
        location = answer.headers.get("location", "")
        content = answer.read()
        refused = answer.status == 303 and "sign-in" in location  # a browser without a session
        return 401 if refused else answer.status, content

    def close(self) -> None:
        self._connection.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("matrix")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Server]:
    with harness.running(None, folder, "--workers", "1", env=ACCEPT_KEYS) as running:
        owner = {"authorization": f"Bearer {create_key(folder, 'stranger', 'admin')}"}
        for model in (SHOWN, HIDDEN):
            assert running.push(model, "1", zoo.versioned(1).SerializeToString(), owner).status == 201
        yield running


@pytest.fixture(scope="module")
def keys(server: Server, folder: Path) -> dict[str, str]:
    return {role: create_key(folder, f"the-{role}", role, models=[SHOWN]) for role in ROLE_NAMES}


def changes(server: Server) -> list[tuple[str, str]]:
    """What the audit has, without refusals and sign-ins, which change nothing."""
    entries = server.as_owner("GET", "/admin/v1/audit?limit=1000").json()["entries"]
    other = [entry for entry in entries if not entry["action"].endswith((".refuse", "session.begin"))]
    return [(entry["action"], entry["actor"]) for entry in other]


def unexpected(
    asker: Asker, role: str | None, spellings: tuple[str, ...], others: tuple[str, ...]
) -> list[tuple[str, str, int]]:
    """What a role was not refused although it should be; ``others`` are methods beside the offered one."""
    found = []
    for endpoint in endpoints():
        for method in (endpoint.method, *others):
            if Endpoint(method if method != "HEAD" else "GET", endpoint.path).allows(role):
                continue
            for spelling in spellings:
                target = SPELLINGS[spelling](endpoint.path)
                status, _ = asker.ask(method, target)
                if status not in REFUSED and not (spelling == "trailing slash" and status == 307):
                    found.append((method, target, status))
    return found


def test_every_entry_has_a_need() -> None:
    assert all(any(re.match(pattern, f"{item.method} {item.path}") for pattern, *_ in NEEDS) for item in endpoints())


def test_without_a_credential_nothing_but_what_is_public_answers(server: Server) -> None:
    before = changes(server)
    with closing(Asker(server, None)) as asker:
        assert unexpected(asker, None, tuple(SPELLINGS), ("HEAD", "OPTIONS", "PATCH")) == []
    assert changes(server) == before


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_no_role_uses_what_it_may_not(server: Server, keys: dict[str, str], role: str) -> None:
    before = changes(server)
    with closing(Asker(server, keys[role])) as asker:
        assert unexpected(asker, role, EACH_ROLE, ("HEAD",)) == []
    assert changes(server) == before


def signed_in(server: Server, key: str) -> tuple[dict[str, str], dict[str, str]]:
    """The fields of a browser that has signed in with a key, without and with the token of its session."""
    form = {"content-type": "application/x-www-form-urlencoded"}
    reply = harness.call(server.ops, "POST", "/console/sign-in", urlencode({"credential": key}).encode(), form)
    assert reply.status == 303, reply
    cookie = {"cookie": reply.headers["set-cookie"].partition(";")[0]}
    page = server.admin("GET", "/console/access", headers=cookie).inflated().decode()
    token = re.search(r'name="csrf"[^>]*value="([^"]+)"|value="([^"]+)"[^>]*name="csrf"', page)
    assert token, page
    return cookie, {**cookie, "penstock-csrf": token[1] or token[2]}


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_session_may_do_what_its_key_may(server: Server, keys: dict[str, str], role: str) -> None:
    before = changes(server)
    for fields in signed_in(server, keys[role]):
        with closing(Asker(server, headers=fields)) as asker:
            assert unexpected(asker, role, ("plain", "encoded model"), ("HEAD",)) == []
    assert changes(server) == before


def test_a_session_changes_nothing_without_its_token(server: Server, keys: dict[str, str]) -> None:
    cookie, whole = signed_in(server, keys["admin"])
    _, other = signed_in(server, keys["admin"])
    before = changes(server)
    with closing(Asker(server, headers=cookie)) as asker:
        for endpoint in endpoints():
            if endpoint.method != "GET" and endpoint.allows("admin") and not endpoint.allows(None):
                assert asker.ask(endpoint.method, endpoint.path)[0] == 403, endpoint
    path = f"/admin/v1/models/{SHOWN}/settings"
    for fields in (cookie, {**whole, **cookie, "penstock-csrf": other["penstock-csrf"]}):
        assert server.admin("PUT", path, {"keep_warm_seconds": 5}, fields).status == 403
    assert changes(server) == before
    assert server.admin("PUT", path, {"keep_warm_seconds": 5}, whole).status == 200


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_a_hidden_model_answers_as_a_missing_one_and_is_named_nowhere(
    server: Server, keys: dict[str, str], role: str
) -> None:
    headers = {"authorization": f"Bearer {keys[role]}"}
    for endpoint in endpoints():
        if endpoint.method != "GET" or not endpoint.allows(role) or "stream" in endpoint.path:
            continue
        reply = server.admin("GET", endpoint.path, headers=headers)
        assert HIDDEN.encode() not in reply.inflated(), endpoint
    with closing(Asker(server, keys[role])) as asker:
        for endpoint in endpoints():
            if HIDDEN in endpoint.path and "/models/" in endpoint.path:
                missing = endpoint.path.replace(HIDDEN, "nothing")
                answers = [asker.ask(endpoint.method, path) for path in (endpoint.path, missing)]
                status, body = answers[0]
                assert (status, body.replace(HIDDEN.encode(), b"nothing")) == answers[1], endpoint


def test_what_is_allowed_is_there(server: Server, keys: dict[str, str]) -> None:
    """So that the tables above say something: lists name the model that is granted."""
    headers = {"authorization": f"Bearer {keys['viewer']}"}
    wait_until(
        lambda: SHOWN.encode() in server.admin("GET", "/console/models", headers=headers).inflated(),
        PATIENCE_S,
        "the model on the console",
    )
    models = json.loads(server.admin("GET", "/admin/v1/models", headers=headers).inflated())["models"]
    assert [model["name"] for model in models] == [SHOWN]
