"""A gateway with authentication: keys by the command line, signed tokens by a key set in a file, and the ops port."""

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jws
from joserfc.jwk import ECKey

from penstock.cli.console import ExitCode
from penstock.registry.db.database import open_database
from penstock.registry.records import Author
from penstock.registry.stores.keys import KeyStore
from tests import harness, zoo
from tests.harness import PATIENCE_S, Reply, Server, run_command, wait_until

ISSUER = "https://login.example"
FIRST, SECOND = (ECKey.generate_key("P-256", {"kid": kid}) for kid in ("first", "second"))
BINDINGS = [{"group": "ops", "role": "viewer"}, {"caller": f"{ISSUER}#ann", "role": "admin", "models": ["fraud-*"]}]


def key_set(*keys: ECKey) -> str:
    return json.dumps({"keys": [key.as_dict(private=False) for key in keys]})


def token(key: ECKey = FIRST, **claims: Any) -> str:
    stated = {"iss": ISSUER, "aud": "penstock", "sub": "ann", "exp": time.time() + 3600, **claims}
    return jws.serialize_compact({"alg": "ES256", "kid": key.kid}, json.dumps(stated), key)


class Gateway:
    """A running gateway, its home, and the keys that were made for it."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder

    def command(self, *arguments: str, key: str | None = None, **env: str) -> tuple[int, str, str]:
        """Run a command as the gateway's own user by its socket, or on the ops port with a key ("": without one)."""
        options: tuple[str, ...] = ()
        if key is not None:
            options = ("--url", self.server.ops)
        if key:
            file = self.folder / "token"
            file.write_text(f"{key}\n")
            options = (*options, "--token-file", str(file))
        done = run_command(*arguments, *options, folder=self.folder, env=env)
        return done.returncode, done.stdout, done.stderr

    def create(self, name: str, *roles: str, models: tuple[str, ...] = ()) -> str:
        """Create a key as the gateway's own user."""
        options = [word for role in roles for word in ("--role", role)]
        options += [word for model in models for word in ("--model", model)]
        code, out, err = self.command("keys", "create", name, *options)
        assert code == 0, err
        return out.strip()

    def ask(self, credential: str, path: str = "/whoami", method: str = "GET", body: Any = None) -> Reply:
        headers = {"authorization": f"Bearer {credential}"}
        return self.server.admin(method, f"/admin/v1{path}", body, headers)

    def push(self, credential: str, model: str, version: str) -> Reply:
        headers = {"authorization": f"Bearer {credential}"}
        return self.server.push(model, version, zoo.versioned(int(version)).SerializeToString(), headers)

    def wait_refused(self, credential: str) -> None:
        wait_until(lambda: self.ask(credential).status == 401, PATIENCE_S, "the end of the credential")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("access")
    file = folder / "keys.json"
    file.write_text(key_set(FIRST))
    oidc = [{"issuer": ISSUER, "audience": "penstock", "jwks_file": str(file)}]
    env = {
        "PENSTOCK_AUTH__KEYS": "true",
        "PENSTOCK_AUTH__OIDC": json.dumps(oidc),
        "PENSTOCK_AUTH__BINDINGS": json.dumps(BINDINGS),
    }
    with harness.running(None, folder, "--workers", "1", env=env) as server:
        yield Gateway(server, folder)


def test_a_key_is_shown_once_and_found_nowhere(gateway: Gateway) -> None:
    key = gateway.create("shown", "viewer")
    assert key.startswith("pk_") and gateway.ask(key).json()["name"] == "shown"
    secret = key.split("_")[2].encode()
    for file in (gateway.folder / "home").rglob("*"):
        if file.is_file():
            assert secret not in file.read_bytes(), file
    assert secret.decode() not in gateway.server.log_text()
    code, out, _ = gateway.command("keys", "list", "--json")
    assert code == 0 and key.split("_")[2] not in out
    listed = next(item for item in json.loads(out)["keys"] if item["name"] == "shown")
    assert (listed["state"], listed["roles"], listed["models"]) == ("valid", ["viewer"], ["*"])


def test_without_a_valid_key_a_command_exits_with_5(gateway: Gateway) -> None:
    caller = gateway.create("caller", "caller")
    for key, text in (
        ("", "a valid credential"),
        ("pk_nonsense", "a valid credential"),
        (caller, "needs the permission"),
    ):
        code, _, err = gateway.command("models", "list", key=key)
        assert (code, text in err) == (ExitCode.UNAUTHORISED, True), err
    assert gateway.command("whoami", key=caller)[1].startswith("caller (key, key ")
    code, out, _ = gateway.command("whoami", "--json", PENSTOCK_TOKEN_FILE=str(gateway.folder / "token"))
    assert (code, json.loads(out)["name"]) == (0, "caller")
    code, _, err = gateway.command("whoami", PENSTOCK_TOKEN_FILE=str(gateway.folder / "missing"))
    assert (code, "token file" in err) == (ExitCode.USAGE, True)


def test_the_own_user_is_the_owner_without_a_key(gateway: Gateway) -> None:
    assert json.loads(gateway.command("whoami", "--json")[1])["method"] == "unix"
    assert gateway.command("models", "list")[0] == 0


def test_operators_move_and_publishers_push(gateway: Gateway) -> None:
    operator, publisher = gateway.create("operator", "operator"), gateway.create("publisher", "publisher")
    assert gateway.push(operator, "moved", "1").status == 403
    assert gateway.push(publisher, "moved", "1").status == 201
    pushed = gateway.ask(publisher, "/models/moved").json()["versions"][0]
    assert pushed["created_by"] == "publisher"
    move = {"version": "1"}
    assert gateway.ask(publisher, "/models/moved/aliases/champion", "PUT", move).status == 403
    assert gateway.ask(operator, "/models/moved/aliases/champion", "PUT", move).status == 200
    entries = gateway.ask(operator, "/audit?model=moved").json()["entries"]
    assert [entry["actor"] for entry in entries] == ["publisher", "operator"]


def test_lists_are_of_the_caller_s_models(gateway: Gateway) -> None:
    publisher = gateway.create("pusher", "publisher")
    for model in ("fraud-eu", "Fraud-us", "other"):
        assert gateway.push(publisher, model, "1").status == 201
    some = gateway.create("some", "viewer", models=("fraud-*",))
    assert [model["name"] for model in gateway.ask(some, "/models").json()["models"]] == ["fraud-eu"]
    assert {entry["subject"].split("/")[1] for entry in gateway.ask(some, "/audit").json()["entries"]} == {"fraud-eu"}
    assert {event["subject"].split("/")[1] for event in gateway.ask(some, "/events").json()["events"]} <= {"fraud-eu"}
    serves = [item["serves"] for item in gateway.ask(some, "/fleet").json()["gateways"]]
    assert all(set(models) <= {"fraud-eu"} for models in serves)
    assert gateway.ask(some, "/models/other").status == 404


def test_while_a_key_replaces_another_both_are_valid(gateway: Gateway) -> None:
    old = gateway.create("rotated", "viewer")
    code, out, err = gateway.command("keys", "rotate", "rotated", "--overlap", "3600")
    new = out.strip()
    assert code == 0, err
    assert {gateway.ask(key).status for key in (old, new)} == {200}
    code, out, _ = gateway.command("keys", "rotate", "rotated", "--overlap", "0")
    assert gateway.ask(out.strip()).status == 200
    gateway.wait_refused(old)
    gateway.wait_refused(new)


def test_a_revoked_key_ends_at_once_and_ends_its_stream(gateway: Gateway) -> None:
    key = gateway.create("revoked", "viewer")
    stream = http.client.HTTPConnection(gateway.server.ops, timeout=PATIENCE_S)
    headers = {"authorization": f"Bearer {key}", "accept": "text/event-stream"}
    stream.request("GET", "/admin/v1/events", headers=headers)
    answer = stream.getresponse()
    assert answer.status == 200
    assert gateway.command("keys", "revoke", "revoked")[0] == 0
    assert gateway.ask(key).status == 401
    answer.read()  # to its end
    stream.close()
    assert gateway.command("keys", "revoke", "revoked")[0] == ExitCode.NOT_FOUND


def test_a_key_that_another_gateway_revokes_ends_here(gateway: Gateway) -> None:
    key = gateway.create("elsewhere", "viewer")
    assert gateway.ask(key).status == 200
    database = open_database(f"sqlite:///{gateway.folder / 'home' / 'registry.db'}", 5.0)
    KeyStore(database).revoke("elsewhere", Author("other"))
    database.close()
    gateway.wait_refused(key)


def test_nobody_grants_more_than_they_have(gateway: Gateway) -> None:
    admin = gateway.create("fraud-admin", "admin", models=("fraud-*",))
    wanted = {"name": "made", "roles": ["caller"], "models": ["fraud-eu"]}
    assert gateway.ask(admin, "/keys", "POST", {**wanted, "models": ["*"]}).status == 403
    assert gateway.ask(admin, "/keys", "POST", wanted).status == 201
    gateway.create("wide", "viewer")
    names = {key["name"] for key in gateway.ask(admin, "/keys").json()["keys"]}
    assert {"fraud-admin", "made"} <= names and "wide" not in names
    assert gateway.ask(admin, "/keys/wide", "DELETE").status == 404
    assert gateway.ask(admin, "/keys/wide/rotate", "POST").status == 404
    code, _, err = gateway.command("keys", "create", "x", "--role", "admin", key=admin)
    assert (code, "grant only" in err) == (ExitCode.UNAUTHORISED, True)


def test_the_pusher_of_a_version_cannot_approve_it(gateway: Gateway) -> None:
    both, other = gateway.create("both", "publisher", "approver"), gateway.create("approver", "approver")
    assert gateway.push(both, "approved", "1").status == 201
    path = "/models/approved/candidates/1/approve"
    assert gateway.ask(both, path, "POST").status == 403
    assert gateway.ask(other, path, "POST").status == 409  # no request for retraining is under way


def test_a_signed_token_proves_its_caller(gateway: Gateway) -> None:
    ann = gateway.ask(token(groups=["ops"])).json()
    assert (ann["name"], ann["method"], ann["groups"]) == (f"{ISSUER}#ann", "oidc", ["ops"])
    assert {grant["models"] for grant in ann["grants"]} == {"*", "fraud-*"}
    assert gateway.ask(token(sub="bob"), "/models").status == 403
    for bad in (
        token(aud="x"),
        token(iss="https://evil.example"),
        token(exp=time.time() - 60),
        token(SECOND),
        token()[:-2],
    ):
        assert gateway.ask(bad).status == 401


def test_a_key_set_is_read_again_when_it_changes(gateway: Gateway) -> None:
    file = gateway.folder / "keys.json"
    assert gateway.ask(token(SECOND)).status == 401
    file.write_text(key_set(SECOND))
    wait_until(lambda: gateway.ask(token(SECOND)).status == 200, PATIENCE_S, "the new key")
    assert gateway.ask(token(FIRST)).status == 401
    file.write_text("no keys")
    wait_until(lambda: "stay as they are" in gateway.server.log_text(), PATIENCE_S, "the warning")
    assert gateway.ask(token(SECOND)).status == 200
    file.write_text(key_set(FIRST, SECOND))
    wait_until(lambda: gateway.ask(token(FIRST)).status == 200, PATIENCE_S, "the first key again")


def test_a_token_in_a_query_is_not_read_or_logged(gateway: Gateway) -> None:
    key = gateway.create("query", "viewer")
    for name in ("token", "access_token"):
        assert gateway.server.admin("GET", f"/admin/v1/models?{name}={key}").status == 401
    assert key not in gateway.server.log_text()


def test_metrics_count_refusals_and_need_their_permission(gateway: Gateway) -> None:
    assert gateway.server.admin("GET", "/metrics").status == 401
    scraper = gateway.create("prometheus", "metrics")
    headers = {"authorization": f"Bearer {scraper}"}
    text = gateway.server.admin("GET", "/metrics", headers=headers).body.decode()
    counted = [line for line in text.splitlines() if line.startswith("penstock_auth_refused_total{")]
    assert any('reason="no_credential"' in line and not line.endswith(" 0") for line in counted)


def test_after_a_restart_without_the_database_known_keys_are_valid(tmp_path: Path) -> None:
    env = {"PENSTOCK_AUTH__KEYS": "true"}
    with harness.running(None, tmp_path, env=env) as server:
        first = Gateway(server, tmp_path)
        key = first.create("known", "viewer")
        assert first.ask(key).status == 200
    database = tmp_path / "home" / "registry.db"
    database.rename(database.with_suffix(".away"))
    database.mkdir()  # no file, and nothing can take its place
    with harness.running(None, tmp_path, env=env) as server:
        second = Gateway(server, tmp_path)
        assert second.ask(key).status == 200
        assert second.ask(key[:-1] + "_").status == 401


def test_where_refusals_are_only_counted_requests_are_answered(tmp_path: Path) -> None:
    env = {"PENSTOCK_AUTH__KEYS": "true", "PENSTOCK_AUTH__DRY_RUN": "true"}
    with harness.running(None, tmp_path, env=env) as server:
        assert server.admin("GET", "/admin/v1/models").status == 200
        text = server.admin("GET", "/metrics").body.decode()
        assert 'penstock_auth_would_refuse_total{reason="no_credential"} 2' in text
        assert server.admin("POST", "/admin/v1/keys", {"name": "x", "roles": ["admin"]}).status == 403


@pytest.mark.parametrize(
    ("auth", "text"),
    [
        ({"KEYS": "false"}, "expected keys: true"),
        ({"OIDC": '[{"issuer": "https://a", "audience": "b", "jwks_file": "/missing"}]'}, "cannot be read"),
        ({"OIDC": '[{"issuer": "https://a", "audience": "b"}]'}, "jwks_file or jwks_url"),
        ({"OIDC": '[{"issuer": "a", "audience": "b", "jwks_url": "http://example.com/keys"}]'}, "jwks_url"),
        ({"KEYS": "true", "BINDINGS": '[{"role": "viewer"}]'}, "caller or group"),
        ({"KEYS": "true", "BINDINGS": '[{"caller": "a", "role": "root"}]'}, "role"),
    ],
)
def test_settings_that_cannot_work_end_the_start(auth: dict[str, str], text: str, tmp_path: Path) -> None:
    env = {f"PENSTOCK_AUTH__{name}": value for name, value in auth.items()}
    done = run_command("serve", folder=tmp_path, env=env)
    assert (done.returncode, text in done.stderr) == (ExitCode.USAGE, True), done.stderr


def test_keys_are_made_without_a_gateway_too(tmp_path: Path) -> None:
    code, out, err = Gateway(Server(None, tmp_path), tmp_path).command("keys", "create", "early", "--role", "viewer")  # type: ignore[arg-type]
    assert code == 0 and "auth.keys" in err
    with harness.running(None, tmp_path, env={"PENSTOCK_AUTH__KEYS": "true"}) as server:
        assert Gateway(server, tmp_path).ask(out.strip()).json()["name"] == "early"


def test_predict_sends_the_token_over_both_transports(gateway: Gateway) -> None:
    publisher = gateway.create("uploader", "publisher")
    assert gateway.push(publisher, "asked", "1").status == 201
    caller, other = (
        gateway.create("asker", "caller", models=("asked",)),
        gateway.create("stranger", "caller", models=("x",)),
    )
    for options, address in ((), gateway.server.http), (("--grpc",), gateway.server.grpc):
        for key, expected in ((caller, ExitCode.OK), (other, ExitCode.NOT_FOUND), ("", ExitCode.UNAUTHORISED)):
            file = gateway.folder / "predict-token"
            file.write_text(key)
            arguments = ("--url", address, *(("--token-file", str(file)) if key else ()))
            code, _, err = gateway.command("predict", "asked", "--data", "[[0, 0, 0]]", *options, *arguments)
            assert code == expected, (options, err)


def test_a_revoked_key_ends_on_open_connections_of_every_worker(tmp_path: Path) -> None:
    env = {"PENSTOCK_AUTH__KEYS": "true"}
    with harness.running(None, tmp_path, "--workers", "2", env=env) as server:
        gateway = Gateway(server, tmp_path)
        key = gateway.create("many", "viewer")
        headers = {"authorization": f"Bearer {key}"}
        connections = [http.client.HTTPConnection(server.http, timeout=PATIENCE_S) for _ in range(16)]

        def statuses() -> set[int]:
            found = set()
            for connection in connections:
                connection.request("GET", "/v2/models", headers=headers)
                answer = connection.getresponse()
                answer.read()
                found.add(answer.status)
            return found

        assert statuses() == {200}
        assert gateway.command("keys", "revoke", "many")[0] == 0
        wait_until(lambda: statuses() == {401}, PATIENCE_S, "the end on every worker")
        for connection in connections:
            connection.close()
