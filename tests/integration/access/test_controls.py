"""Controls of a policy through a whole gateway: who may relax them, and what the sinks of an administrator reach."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests import harness, zoo
from tests.harness import PATIENCE_S, Reply, Server, wait_until
from tests.integration.traffic.test_retraining import Receiver, receiving
from tests.keys import ACCEPT_KEYS, create_key

POLICY, MODEL = "/admin/v1/models/m/policy", "/admin/v1/models/m"
GATES = {"gates": {"approvals": 1, "card": ["licence"]}}


class Gateway:
    """A gateway with a model, and a key of each of some roles."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        names = ("admin", "operator", "publisher", "approver", "viewer")
        self._keys = {name: create_key(folder, name, name) for name in names}
        self._keys["other"] = create_key(folder, "other", "admin", models=["other-*"])
        pushed = server.push("m", "1", zoo.versioned(1).SerializeToString(), self.bearer("publisher"))
        assert pushed.status == 201, pushed

    def bearer(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self._keys[name]}"}

    def ask(self, name: str, method: str, path: str, body: Mapping[str, Any] | None = None) -> Reply:
        return self.server.admin(method, path, body, self.bearer(name))

    def deliveries(self) -> dict[str, tuple[str, str]]:
        """State and error of each sink's newest delivery."""
        found = self.ask("viewer", "GET", f"{MODEL}/outbox").json()["deliveries"]
        return {item["sink"]: (item["state"], item["error"] or "") for item in reversed(found)}


@pytest.fixture(scope="module")
def hook() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = tmp_path_factory.mktemp("controls")
    env = {**ACCEPT_KEYS, "PENSTOCK_SINK_HOSTS": '["localhost", "127.0.0.2"]'}
    with harness.running(None, folder, "--workers", "1", env=env) as server:
        yield Gateway(server, folder)


def test_an_operator_cannot_relax_what_an_administrator_has_set(gateway: Gateway) -> None:
    for name in ("operator", "publisher", "approver", "viewer", "other"):
        assert gateway.ask(name, "PUT", POLICY, GATES).status in {403, 404}
    assert gateway.ask("admin", "PUT", POLICY, GATES).status == 200
    stored = gateway.ask("operator", "GET", POLICY).json()
    changed = {**stored, "slo": {"error_ratio": 0.1}}
    assert gateway.ask("operator", "PUT", POLICY, changed).status == 200
    relaxed: list[Mapping[str, Any]] = [
        {},
        {**stored, "gates": {}},
        {**stored, "gates": {**GATES["gates"], "approvals": 0}},
        {**stored, "retraining": {"approval": False}},
        {**stored, "retraining": {"auto_rollout": True}},
        {**stored, "capture": {"sample": 1.0}},
    ]
    for policy in relaxed:
        refused = gateway.ask("operator", "PUT", POLICY, policy)
        assert (refused.status, "administer" in refused.error()) == (403, True), policy
    assert gateway.ask("viewer", "GET", POLICY).json()["gates"] == GATES["gates"]
    assert (
        gateway.server.push("m", "2", zoo.versioned(2).SerializeToString(), gateway.bearer("publisher")).status == 201
    )
    moved = gateway.ask("operator", "PUT", f"{MODEL}/aliases/champion", {"version": "2"})
    assert (moved.status, "approval" in moved.json()["reason"]) == (422, True)
    assert gateway.ask("admin", "PUT", POLICY, {**stored, "gates": {}}).status == 200
    assert gateway.ask("operator", "PUT", f"{MODEL}/aliases/champion", {"version": "2"}).status == 200

    def recorded() -> set[tuple[str, str]]:
        entries = gateway.ask("viewer", "GET", "/admin/v1/audit").json()["entries"]
        return {(entry["actor"], entry["address"]) for entry in entries if entry["action"] == "access.refuse"}

    wait_until(lambda: ("operator", "127.0.0.1") in recorded(), PATIENCE_S, "the refusals in the audit")


def refused_sinks(port: str) -> dict[str, Mapping[str, Any]]:
    """Sinks that not even an administrator's key may declare."""
    url = f"http://127.0.0.1:{port}/"
    return {
        "token": {"alertmanager": {"url": f"http://localhost:{port}", "token_file": "/etc/hostname"}},
        "oracle": {"webhook": {"url": f"http://localhost:{port}", "secret_file": "/etc/shadow"}},
        "database": {"file": {"path": "registry.db"}},
        "above": {"file": {"path": "sinks/../registry.db"}},
        "absolute": {"file": {"path": "/etc/cron.d/x"}},
        "metadata": {"webhook": {"url": "http://169.254.169.254/latest/meta-data"}},
        "itself": {"webhook": {"url": url}},
        "mapped": {"webhook": {"url": f"http://[::ffff:127.0.0.1]:{port}/"}},
        "number": {"webhook": {"url": f"http://2130706433:{port}/"}},
        "unlisted": {"webhook": {"url": "https://hooks.example/"}},
    }


def test_sinks_of_an_administrator_s_key_reach_nothing_of_this_machine(gateway: Gateway, hook: Receiver) -> None:
    port = hook.url.rpartition(":")[2]
    for name, sink in refused_sinks(port).items():
        reply = gateway.ask("admin", "PUT", POLICY, {"sinks": {name: sink}})
        assert (reply.status, reply.headers["penstock-fault"]) == (403, "unauthorised"), (name, reply.body)
    sinks = {
        "open": {"webhook": {"url": f"http://localhost:{port}/"}},  # a listed name of this machine
        "closed": {"webhook": {"url": "http://localhost:1/"}},
        "listed": {"webhook": {"url": "http://127.0.0.2:1/"}},  # a listed address, where nothing listens
    }
    trigger = {"name": "t", "when": {"schedule": "0 0 1 1 *"}, "send": list(sinks)}
    reply = gateway.ask("admin", "PUT", POLICY, {"sinks": sinks, "triggers": [trigger]})
    assert reply.status == 200, reply
    assert gateway.ask("operator", "POST", f"{MODEL}/retrain", {}).status == 201
    wait_until(
        lambda: all(gateway.deliveries().get(name, ("", ""))[1] for name in sinks), PATIENCE_S, "an error of each sink"
    )
    found = gateway.deliveries()
    assert found["open"] == found["closed"]  # no error tells an open port from a closed one
    assert hook.got == []


def test_a_redirect_to_this_machine_is_not_followed(tmp_path: Path, hook: Receiver) -> None:
    """A listed address that is allowed answers with a redirect to another one."""
    before = len(hook.got)
    with receiving() as outside:
        outside.answers = [(status, {"location": f"{hook.url}/moved"}) for status in (302, 307, 308)] * 100
        env = {**ACCEPT_KEYS, "PENSTOCK_SINK_HOSTS": json.dumps(["127.0.0.1"])}
        with harness.running(None, tmp_path, "--workers", "1", env=env) as server:
            gateway = Gateway(server, tmp_path)
            sinks = {"hook": {"webhook": {"url": outside.url}}}
            trigger = {"name": "t", "when": {"schedule": "0 0 1 1 *"}, "send": ["hook"]}
            assert gateway.ask("admin", "PUT", POLICY, {"sinks": sinks, "triggers": [trigger]}).status == 200
            assert gateway.ask("operator", "POST", f"{MODEL}/retrain", {}).status == 201
            wait_until(lambda: bool(gateway.deliveries().get("hook", ("", ""))[1]), PATIENCE_S, "its error")
            assert gateway.deliveries()["hook"][0] in {"pending", "dead"}
    assert len(hook.got) == before
