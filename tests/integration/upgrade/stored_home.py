"""The home of a gateway as a release leaves it: how it is written, stored, and what must still be there later.

``python -m tests.integration.upgrade.stored_home`` writes the home of the present release into ``homes``; see "To
release" in docs/contributing.md. The homes of earlier releases stay: each later one must open them.
"""

import json
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from penstock import __version__
from penstock.registry.db.schema import REVISIONS
from tests import harness, zoo
from tests.harness import PATIENCE_S, Server, wait_until

HOMES = Path(__file__).with_name("homes")
MODEL = "score"
CALLS = 40
LABELLED = 25
POLICY = {
    "capture": {"sample": 1.0},
    "monitor": {"rows_between_false_alarms": 50_000},
    "slo": {"latency_p99_ms": 20, "error_ratio": 0.001},
    "triggers": [{"name": "weekly", "when": {"schedule": "0 3 * * 1"}, "send": ["log"]}],
    "sinks": {"log": {"file": {"path": "events.jsonl"}}},
}
ROUTE = {"split": {"1": 9500, "2": 500}, "sticky": "header:x-user-id", "shadow": [{"version": "2", "percent": 100}]}
LEFT_OUT = ("incoming", "unpacked", "cache", "gateway.json", "ops.sock", "registry.db-shm")
"""What a gateway makes anew."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a home was left with, as the admin API showed it then."""

    release: str
    revision: str
    digests: Mapping[str, str] = field(default_factory=dict)
    route: Mapping[str, Any] = field(default_factory=dict)
    policy: Mapping[str, Any] = field(default_factory=dict)
    captured: int = CALLS


def predict(server: Server, number: int) -> int:
    """One prediction with an id of its own; its status."""
    x = {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [number, 2, 3]}
    body = {"id": f"call-{number}", "inputs": [x]}
    return server.rest("POST", f"/v2/models/{MODEL}/infer", body, {"x-user-id": f"user-{number}"}).status


def send_labels(server: Server, numbers: range) -> Any:
    """Labels for these predictions; what the gateway says about them."""
    labels = [{"id": f"call-{number}", "label": 1.0} for number in numbers]
    return server.rest("POST", f"/v2/models/{MODEL}/feedback", {"feedback": labels}).json()


def read_facts(server: Server) -> dict[str, Any]:
    """What the admin API shows of the model."""
    versions = server.admin("GET", f"/admin/v1/models/{MODEL}").json()["versions"]
    route = server.admin("GET", f"/admin/v1/models/{MODEL}/route").json()
    policy = server.admin("GET", f"/admin/v1/models/{MODEL}/policy").json()
    return {
        "digests": {version["version"]: version["digest"] for version in versions},
        "route": {name: route[name] for name in ROUTE},
        "policy": {name: policy[name] for name in POLICY},
    }


def count_captured(server: Server) -> int:
    """How many requests are captured, of both versions."""
    return sum(
        server.admin("GET", f"/admin/v1/models/{MODEL}/monitor?version={version}").json()["capture"]["captured"]
        for version in ("1", "2")
    )


def use(server: Server) -> Facts:
    """Leave something of everything: versions, an alias, a route, a policy, a key, captures, answers and labels."""
    for version, factor in (("1", 2.0), ("2", 3.0)):
        graph = zoo.affine(factor, 1.0, ("n", 3)).SerializeToString()
        reply = server.push(MODEL, version, graph)
        assert reply.status == 201, reply.body
    changes: list[tuple[str, dict[str, Any]]] = [
        ("aliases/champion", {"version": "1", "reason": "first"}),
        ("policy", {**POLICY, "reason": "watch"}),
        ("route", {**ROUTE, "reason": "canary"}),
    ]
    for name, document in changes:
        reply = server.as_owner("PUT", f"/admin/v1/models/{MODEL}/{name}", document)
        assert reply.status in (200, 201), reply.body
    assert {predict(server, number) for number in range(CALLS)} == {200}
    assert send_labels(server, range(LABELLED))["accepted"] == LABELLED
    wait_until(lambda: count_captured(server) >= CALLS, PATIENCE_S, "captured requests")
    made = harness.run_command("keys", "create", "app", "--role", "caller", folder=server.home.parent)
    assert made.returncode == 0, made.stderr
    return Facts(__version__, "", **read_facts(server))


def write(folder: Path) -> Path:
    """Run a gateway of this release in ``folder``, use it, stop it, and store its home."""
    with harness.running(None, folder) as server:
        facts = use(server)
    document = {**asdict(facts), "revision": REVISIONS[-1]}
    home = folder / "home"
    (home / "facts.json").write_text(json.dumps(document, indent=1))
    HOMES.mkdir(exist_ok=True)
    archive = HOMES / f"{__version__}.tar.xz"
    with tarfile.open(archive, "w:xz", preset=9) as file:
        for path in sorted(home.rglob("*")):
            name = path.relative_to(home)
            if path.is_file() and name.parts[0] not in LEFT_OUT:
                file.add(path, str(name), filter=_anonymous)
    return archive


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def unpack(archive: Path, home: Path) -> Facts:
    """Put a stored home there; what it was left with."""
    home.mkdir(mode=0o700, parents=True)
    with tarfile.open(archive) as file:
        file.extractall(home, filter="data")
    facts = Facts(**json.loads((home / "facts.json").read_text()))
    (home / "facts.json").unlink()
    return facts


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        print(write(Path(temporary)), file=sys.stderr)  # noqa: T201
