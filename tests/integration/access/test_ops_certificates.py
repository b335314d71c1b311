"""Client certificates on the ops port of a whole gateway: who they prove, by HTTPS and by the command line."""

import json
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import pytest

from penstock.cli.console import ExitCode
from tests import harness, zoo
from tests.certificates import Pair, issue, make_authority
from tests.harness import PATIENCE_S, Reply, Server, run_command, wait_until

BOT, GUEST, ADMIN = "spiffe://x/bot", "spiffe://x/guest", "spiffe://x/admin"
BINDINGS = [{"caller": BOT, "role": "viewer", "models": ["fraud-*"]}, {"caller": ADMIN, "role": "admin"}]


class Gateway:
    """A gateway that accepts certificates of an authority and keys, and its clients' certificates."""

    def __init__(self, server: Server, folder: Path, authority: Pair, clients: dict[str, Pair]) -> None:
        self.server, self.folder, self.authority, self.clients = server, folder, authority, clients

    def ask(
        self, method: str, path: str, name: str | None, body: bytes | None = None, token: str | None = None
    ) -> Reply:
        """One request to the ops port, with the certificate of a client (None: without one)."""
        context = self.authority.client(None if name is None else self.clients[name])
        connection = HTTPSConnection(self.server.ops, timeout=PATIENCE_S, context=context)
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        try:
            connection.request(method, f"/admin/v1{path}", body, headers)
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()

    def command(self, *arguments: str, name: str | None) -> tuple[int, str, str]:
        """Run a command on the ops port, with the certificate of a client."""
        options = ["--url", f"https://{self.server.ops}", "--ca-file", str(self.authority.certificate)]
        if name is not None:
            pair = self.clients[name]
            options += ["--cert-file", str(pair.certificate), "--key-file", str(pair.key)]
        done = run_command(*arguments, *options, folder=self.folder)
        return done.returncode, done.stdout, done.stderr

    def has_started(self) -> bool:
        return self.ask("GET", "/whoami", ADMIN).status == 200


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("ops")
    authority, other = make_authority(folder), make_authority(folder, "other")
    server = issue(authority, folder, "server")
    clients = {name: issue(authority, folder, name.rpartition("/")[2], [f"URI:{name}"]) for name in (BOT, GUEST, ADMIN)}
    clients["stranger"] = issue(other, folder, "stranger", [f"URI:{ADMIN}"])
    clients["expired"] = issue(authority, folder, "expired", [f"URI:{ADMIN}"], days=-1)
    env = {
        "PENSTOCK_TLS__CERTIFICATE_FILE": str(server.certificate),
        "PENSTOCK_TLS__KEY_FILE": str(server.key),
        "PENSTOCK_AUTH__KEYS": "true",
        "PENSTOCK_AUTH__MTLS__CLIENT_CA": str(authority.certificate),
        "PENSTOCK_AUTH__BINDINGS": json.dumps(BINDINGS),
    }
    with harness.running(None, folder, "--workers", "1", env=env) as running:
        gateway = Gateway(running, folder, authority, clients)
        wait_until(gateway.has_started, PATIENCE_S, "the access table")
        yield gateway


def test_a_certificate_proves_its_name(gateway: Gateway) -> None:
    bot: dict[str, Any] = gateway.ask("GET", "/whoami", BOT).json()
    assert (bot["name"], bot["method"], bot["key_id"]) == (BOT, "mtls", "")
    assert [(grant["models"], grant["roles"]) for grant in bot["grants"]] == [("fraud-*", ["viewer"])]
    guest = gateway.ask("GET", "/whoami", GUEST).json()
    assert (guest["name"], guest["grants"]) == (GUEST, [])
    assert gateway.ask("GET", "/whoami", None).status == 401
    for refused in ("stranger", "expired"):
        with pytest.raises(OSError):
            gateway.ask("GET", "/whoami", refused)


def test_whoami_by_the_command_line(gateway: Gateway) -> None:
    code, out, err = gateway.command("whoami", "--json", name=BOT)
    assert code == 0, err
    assert (json.loads(out)["name"], json.loads(out)["method"]) == (BOT, "mtls")
    assert gateway.command("whoami", name=None)[0] == ExitCode.UNAUTHORISED
    for refused in ("stranger", "expired"):
        code, out, err = gateway.command("whoami", name=refused)
        assert (code, out) == (ExitCode.UNAVAILABLE, ""), err
        assert "Traceback" not in err


def test_its_caller_may_do_what_its_bindings_say(gateway: Gateway) -> None:
    content = zoo.versioned(1).SerializeToString()
    for model in ("fraud-eu", "other"):
        assert gateway.ask("PUT", f"/models/{model}/versions/1", BOT, content).status in {403, 404}
        assert gateway.ask("PUT", f"/models/{model}/versions/1", ADMIN, content).status == 201
    assert [model["name"] for model in gateway.ask("GET", "/models", BOT).json()["models"]] == ["fraud-eu"]
    assert gateway.ask("GET", "/models/other", BOT).status == 404
    assert gateway.ask("GET", "/models", GUEST).status == 403
    code, out, err = gateway.command("models", "list", "--json", name=BOT)
    assert (code, [item["name"] for item in json.loads(out)["models"]]) == (0, ["fraud-eu"]), err
    entries = gateway.ask("GET", "/audit?model=other", ADMIN).json()["entries"]
    assert {(entry["actor"], entry["method"]) for entry in entries} == {(ADMIN, "mtls")}


def test_a_key_decides_before_the_certificate(gateway: Gateway) -> None:
    wanted = json.dumps({"name": "keyed", "roles": ["viewer"]}).encode()
    made = gateway.ask("POST", "/keys", ADMIN, wanted)
    assert made.status == 201
    key = made.json()["key"]
    assert gateway.ask("GET", "/whoami", ADMIN, token=key).json()["name"] == "keyed"
    assert gateway.ask("POST", "/keys", ADMIN, wanted, token=key).status == 403
    assert gateway.ask("GET", "/whoami", ADMIN, token="pk_wrong").status == 401
