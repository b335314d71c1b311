"""Sinks through the whole gateway: who may declare them, what they reach, and that no secret is shown anywhere."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from penstock.registry.db.database import open_database
from penstock.registry.records import Author
from penstock.registry.stores.monitor import MonitorStore
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, run_command, wait_until, write_secret
from tests.integration.traffic.test_retraining import receiving

POLICY = "/admin/v1/models/m/policy"
ME = Author("me", "a test")


def pushed(server: Server) -> None:
    assert server.push("m", "1", zoo.versioned(1).SerializeToString()).status == 201
    wait_until(lambda: server.admin("GET", POLICY).status == 200, PATIENCE_S, "the model")


def deliveries(server: Server) -> dict[str, tuple[str, str]]:
    """State and error of each sink's newest delivery."""
    found = server.admin("GET", "/admin/v1/models/m/outbox").json()["deliveries"]
    return {item["sink"]: (item["state"], item["error"] or "") for item in reversed(found)}


def owner_only(url: str) -> dict[str, Mapping[str, Any]]:
    sinks: dict[str, Mapping[str, Any]] = {
        "command": {"command": {"argv": ["touch", "/tmp/pwned"]}},
        "token": {"alertmanager": {"url": url, "token_file": "/etc/hostname"}},
        "oracle": {"webhook": {"url": url, "secret_file": "/etc/shadow"}},
        "database": {"file": {"path": "registry.db"}},
        "metadata": {"webhook": {"url": "http://169.254.169.254/latest/meta-data"}},
        "itself": {"webhook": {"url": "http://127.0.0.1:8002/admin/v1/registry/collect"}},
        "mapped": {"webhook": {"url": "http://[::ffff:127.0.0.1]/"}},
        "name": {"webhook": {"url": "http://localhost/"}},
        "broker": {"nats": {"url": "nats://127.0.0.1:4222", "subject": "s"}},
    }
    documents: dict[str, Mapping[str, Any]] = {name: {"sinks": {"s": sink}} for name, sink in sinks.items()}
    gate = {"steps": [{"weight": 500, "webhook": "s"}, 10_000]}
    return documents | {
        "capture": {"capture": {"sample": 1.0}},
        "gate": {"retraining": {"auto_rollout": gate}},
        "query": {"retraining": {"auto_rollout": {"guards": [{"metric": "promql", "query": "up", "min": 1}]}}},
    }


def test_only_the_owner_lets_a_policy_run_code_or_reach_files_and_addresses(tmp_path: Path) -> None:
    with receiving() as hook, harness.running(None, tmp_path) as server:
        pushed(server)
        for name, policy in owner_only(hook.url).items():
            reply = server.admin("PUT", POLICY, policy)
            assert (reply.status, reply.headers["penstock-fault"]) == (403, "unauthorised"), name
            assert "penstock command on the gateway's machine" in reply.error()
        assert server.admin("PUT", POLICY, {"monitor": {"sample": 0.5}}).status == 200
        file = tmp_path / "policy.json"
        file.write_text(json.dumps({"sinks": {"mine": {"webhook": {"url": f"{hook.url}/mine"}}}}))
        refused = run_command("policy", "set", "m", str(file), "--url", server.ops, folder=tmp_path)
        assert refused.returncode == 5, refused
        assert "gateway's machine" in refused.stderr
        done = run_command("policy", "set", "m", str(file), folder=tmp_path)
        assert done.returncode == 0, done.stderr
        kept = server.admin("GET", POLICY).json()
        del kept["monitor"]
        assert server.admin("PUT", POLICY, {**kept, "slo": {"error_ratio": 0.1}}).status == 200  # nothing owner-only
        assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
        wait_until(lambda: bool(hook.got), PATIENCE_S, lambda: f"{deliveries(server)} {server.log_text()[-2000:]}")
        assert [path for path, _, _ in hook.got] == ["/mine"]
        rollout = {"to": "1", "steps": [{"weight": 500, "webhook": "mine"}]}
        assert server.admin("POST", "/admin/v1/models/m/rollouts", rollout).status == 403


def test_a_bounded_sink_reaches_nothing_of_this_machine_and_reveals_no_open_port(tmp_path: Path) -> None:
    """A stored policy that does not say that its sinks are the owner's, as those of earlier releases."""
    home = tmp_path / "home"
    with receiving() as hook:
        port = hook.url.rpartition(":")[2]
        urls = {
            "open": f"http://localhost:{port}/",
            "closed": "http://localhost:1/",
            "unlisted": hook.url,
            "mapped": f"http://[::ffff:127.0.0.1]:{port}/",
        }
        sinks: dict[str, Any] = {name: {"webhook": {"url": url}} for name, url in urls.items()}
        sinks["token"] = {"argo": {"url": urls["open"], "token_file": "registry.db"}}
        sinks["database"] = {"file": {"path": "registry.db"}}
        sinks["folder"] = {"file": {"path": "sinks/m/events.log"}}
        env = {"PENSTOCK_SINK_HOSTS": '["localhost"]'}
        with harness.running(None, tmp_path, env=env) as server:
            pushed(server)
            MonitorStore(open_database(f"sqlite:///{home / 'registry.db'}", 5.0)).set_policy("m", {"sinks": sinks}, ME)
            wait_until(
                lambda: set(server.admin("GET", POLICY).json().get("sinks", ())) == set(sinks), PATIENCE_S, "the policy"
            )
            assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
            wait_until(lambda: all(error for _, error in bounded(server).values()), PATIENCE_S, "the errors")
            found = bounded(server)
            assert found["open"] == found["closed"]
            assert found["open"][0] == "pending"
            for name in ("unlisted", "mapped"):
                assert found[name][0] == "dead"
                assert "sink_hosts" in found[name][1]
            assert "by name" in found["token"][1]
            assert "below 'sinks/'" in found["database"][1]
            log = home / "sinks" / "m" / "events.log"
            wait_until(log.exists, PATIENCE_S, "the file")
            assert log.stat().st_mode & 0o077 == 0
            assert hook.got == []
            owned = server.as_owner("PUT", POLICY, {"sinks": {"open": sinks["open"]}})  # the owner takes it over
            assert owned.status == 200, owned
            assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
            wait_until(lambda: bool(hook.got), PATIENCE_S, "the event")


def bounded(server: Server) -> dict[str, tuple[str, str]]:
    return {name: state for name, state in deliveries(server).items() if name != "folder"}


def test_sinks_and_secrets_of_the_configuration_are_used_by_name(tmp_path: Path) -> None:
    write_secret(tmp_path / "key", b"a key that is long enough to sign with\n")
    script = "import json, os; json.dump(dict(os.environ), open(os.environ['PENSTOCK_HOME'] + '/environment', 'w'))"
    with receiving() as hook:
        config = tmp_path / "penstock.yaml"
        config.write_text(
            json.dumps(
                {
                    "secrets": {
                        "key": {"file": str(tmp_path / "key")},
                        "token": {"env": "CI_TOKEN"},
                        "printed": {"command": ["echo", "printed"]},
                    },
                    "sinks": {
                        "hook": {"webhook": {"url": hook.url, "secret": "key"}},
                        "argo": {"argo": {"url": f"{hook.url}/argo", "token": "token"}},
                        "train": {
                            "command": {"argv": [sys.executable, "-c", script], "secrets": {"PRINTED": "printed"}}
                        },
                    },
                }
            )
        )
        env = {"CI_TOKEN": "t0ken", "AWS_SECRET_ACCESS_KEY": "planted", "PENSTOCK_CONFIG": str(config)}
        with harness.running(None, tmp_path, env=env) as server:
            pushed(server)
            trigger = {"name": "t", "when": {"schedule": "0 0 1 1 *"}, "send": ["hook", "argo", "train"]}
            reply = server.admin("PUT", POLICY, {"triggers": [trigger]})  # anybody may name them
            assert reply.status == 200, reply
            assert "sinks" not in reply.json()
            assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
            wait_until(lambda: {state for state, _ in deliveries(server).values()} == {"sent"}, PATIENCE_S, "all sent")
            got = {path: headers for path, headers, _ in hook.got}
            assert got["/argo"]["authorization"] == "Bearer t0ken"
            assert got["/"]["webhook-signature"].startswith("v1,")
            found = json.loads((tmp_path / "home" / "environment").read_text())
            assert found["PRINTED"] == "printed"
            known = {"PATH", "HOME", "LANG", "LC_CTYPE", "PRINTED"}  # LC_CTYPE is Python's own (PEP 538)
            assert not [name for name in found if name not in known and not name.startswith("PENSTOCK_")]
            assert "t0ken" not in json.dumps(found)


@pytest.mark.parametrize(
    ("content", "mode", "fault"),
    [("x" * 32, 0o644, "chmod 600"), ("", 0o600, "empty"), ("8 bytes!", 0o600, "too short"), (None, 0, "No such file")],
)
def test_a_gateway_with_a_weak_or_open_secret_does_not_start(
    tmp_path: Path, content: str | None, mode: int, fault: str
) -> None:
    key, config = tmp_path / "key", tmp_path / "penstock.yaml"
    if content is not None:
        key.write_text(content)
        key.chmod(mode)
    sinks = {"hook": {"webhook": {"url": "http://127.0.0.1:1", "secret": "key"}}}
    config.write_text(json.dumps({"secrets": {"key": {"file": str(key)}}, "sinks": sinks}))
    for command in (("serve",), ("config", "check")):
        done = run_command(*command, "--config", str(config), folder=tmp_path)
        assert (done.returncode, fault in done.stderr) == (2, True), done.stderr
    mlflow = {"mlflow": {"url": "http://127.0.0.1:1", "webhook_secret_file": str(key)}}
    config.write_text(json.dumps(mlflow))
    done = run_command("config", "check", "--config", str(config), folder=tmp_path)
    assert done.returncode == (0 if content == "8 bytes!" else 2), done.stderr


BROKEN = """
class Broken:
    fields = {"password": (str, True)}
    def send(self, values, event, context):
        secret = values["password"]
        raise RuntimeError("the sink is broken")
"""

PLANTED = {
    name: f"PLANTED-{number:02}" for number, name in enumerate(("user", "word", "query", "argv", "header", "file"))
}
PLANTED |= {name: f"PLANTED-{number:02}" for number, name in enumerate(("env", "printed", "path", "plugin"), 6)}


def test_none_of_ten_planted_secrets_is_shown(tmp_path: Path) -> None:
    info = tmp_path / "packages" / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[penstock.sinks]\nbroken = broken_sink:Broken\n")
    (info.parent / "broken_sink.py").write_text(BROKEN)
    write_secret(tmp_path / "key", (PLANTED["file"] + "-and-more-to-be-long-enough").encode())
    address = f"http://{PLANTED['user']}:p@ss/{PLANTED['word']}@127.0.0.1:1/?token={PLANTED['query']}"
    with receiving() as hook:
        hook.answers = [(500, {})] * 1000
        chat = f"{hook.url}/T000/{PLANTED['path']}-12345678901234567890?key={PLANTED['query']}"
        config = tmp_path / "penstock.yaml"
        document = {
            "mlflow": {"url": address, "poll_seconds": 0.5},
            "prometheus": {"url": address},
            "log_level": "debug",
            "secrets": {
                "key": {"file": str(tmp_path / "key")},
                "header": {"command": ["echo", PLANTED["header"]]},
                "env": {"env": "PLANTED_TOKEN"},
            },
            "sinks": {
                "declared": {"webhook": {"url": chat, "secret": "key"}},
                "authorised": {"argo": {"url": hook.url, "token": "header"}},
                "variable": {"argo": {"url": hook.url, "token": "env"}},
            },
        }
        config.write_text(json.dumps(document))
        env = {
            "PENSTOCK_CONFIG": str(config),
            "PLANTED_TOKEN": PLANTED["env"],
            "PYTHONPATH": f"{info.parent}{os.pathsep}{Path(__file__).parents[3]}",
        }
        with harness.running(None, tmp_path, env=env, program=harness.COMMAND) as server:
            pushed(server)
            sinks = {
                "chat": {"webhook": {"url": chat}},
                "train": {"command": {"argv": ["sh", "-c", f"true {PLANTED['argv']}; exit 3", PLANTED["argv"]]}},
                "broken": {"broken": {"password": f"https://x/?token={PLANTED['plugin']}"}},
            }
            send = [*sinks, "declared", "authorised", "variable"]
            trigger = {"name": "t", "when": {"schedule": "0 0 1 1 *"}, "send": send}
            reply = server.as_owner("PUT", POLICY, {"sinks": sinks, "triggers": [trigger]})
            assert reply.status == 200, reply
            assert server.admin("POST", "/admin/v1/models/m/retrain", {}).status == 201
            wait_until(
                lambda: set(deliveries(server)) == set(send) and all(error for _, error in deliveries(server).values()),
                PATIENCE_S,
                "an error of each sink",
            )
            wait_until(lambda: "MLflow is not mirrored" in server.log_text(), PATIENCE_S, "the error of MLflow")
            shown = {
                path: server.admin("GET", path).body.decode()
                for path in (POLICY, "/admin/v1/audit", "/admin/v1/events", "/admin/v1/models/m/outbox", "/metrics")
            }
            shown["set"] = reply.body.decode()
            for arguments in (
                ("config", "show"),
                ("config", "show", "--json"),
                ("config", "check"),
                ("policy", "show", "m"),
            ):
                done = run_command(*arguments, folder=tmp_path, env={**env, "PENSTOCK_OPS_PORT": "0"})
                shown[" ".join(arguments)] = done.stdout + done.stderr
            pids = [server.process.pid, *server.child_pids()]
            shown["ps"] = " ".join(Path(f"/proc/{pid}/cmdline").read_text() for pid in pids)
            shown["log"] = server.log_text()
            assert "RuntimeError: the sink is broken" in shown["log"]
            assert "hmac-sha256:" in shown[POLICY]
            assert "hmac-sha256:" in shown["/admin/v1/audit"]
        leaks = {(where, name) for where, text in shown.items() for name, value in PLANTED.items() if value in text}
        assert leaks == set()
