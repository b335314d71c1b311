"""Three gateways on PostgreSQL and an S3 server: captured rows of all reach training and judge a candidate."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from penstock.monitor.captured_rows import is_held_out
from tests import harness, postgres, s3
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.control.watch import metric
from tests.integration.traffic.drive import GOOD, SAME, Asker, promote_champion, scorer

ASKED = {"a": 40, "b": 70, "c": 30}
LOOKS = 20
SHARE = 0.4
TRAIN = """
import json, os, shutil, sys
event = json.load(sys.stdin)
shutil.copy(os.environ["PENSTOCK_ROWS"], os.path.join(sys.argv[1], event["id"] + ".part"))
with open(os.path.join(sys.argv[1], event["id"] + ".json"), "w") as file:
    json.dump(event, file)
os.rename(os.path.join(sys.argv[1], event["id"] + ".part"), os.path.join(sys.argv[1], event["id"] + ".parquet"))
"""


class Fleet:
    """Three gateways that were asked ``ASKED`` times each; ``ids`` are those of the requests, all labelled."""

    def __init__(self, workspace: Path, stack: ExitStack) -> None:
        database, bucket = stack.enter_context(postgres.running()), stack.enter_context(s3.running())
        env = {**bucket.environment, "PENSTOCK_BLOBS": f"s3://{bucket.name}/fleet"}
        options = ("--registry", database.create("fleet"), "--workers", "1")
        self.settings = {**env, "PENSTOCK_REGISTRY": options[1]}
        self.bucket, self.trained, self.servers = bucket, workspace / "trained", dict[str, Server]()
        self.trained.mkdir()
        for name in ASKED:
            self.servers[name] = harness.launch(None, workspace / name, *options, env=env)
            stack.callback(self.servers[name].kill)
        self.names = {name: self.admin(name, "fleet")["asked"] for name in ASKED}
        (workspace / "train.py").write_text(TRAIN)
        self._serve([sys.executable, str(workspace / "train.py"), str(self.trained)])
        self.ids = {name: self._ask(name) for name in ASKED}
        self._label()

    def _serve(self, command: list[str]) -> None:
        first = self.servers["a"]
        assert first.push("m", GOOD, scorer().SerializeToString()).status == 201
        promote_champion(first, GOOD)
        least = self.held_out(*(f"{name}-{number}" for name, count in ASKED.items() for number in range(count)))
        exam = {"metric": "accuracy", "min_rows": len(least), "share": SHARE}
        policy = {
            "capture": {"sample": 1.0},
            "retraining": {"gates": {"held_out": exam}, "approval": True, "auto_rollout": {}},
            "sinks": {"train": {"command": {"argv": command}}},
        }
        assert first.as_owner("PUT", "/admin/v1/models/m/policy", policy).status == 200
        for name, server in self.servers.items():
            wait_until(partial(captures, server), PATIENCE_S, f"a capture at {name}")

    def _ask(self, name: str) -> list[str]:
        asker, before = Asker(self.servers[name]), metric(self.servers[name], "penstock_captured_requests_total")
        ids = [f"{name}-{number}" for number in range(ASKED[name])]
        for id_ in ids:
            assert asker.ask({"x-request-id": id_})[2] == 200
        asker.close()
        server, wanted = self.servers[name], before + len(ids)
        wait_until(
            lambda: metric(server, "penstock_captured_requests_total") == wanted, PATIENCE_S, f"the rows of {name}"
        )
        return ids

    def _label(self) -> None:
        """Tell one gateway the labels of all, as a load balancer may."""
        reported = [{"id": id_, "label": 1} for ids in self.ids.values() for id_ in ids]
        reply = self.servers["b"].rest("POST", "/v2/models/m/feedback", {"feedback": reported})
        assert reply.status == 202, reply
        wait_until(lambda: self._joined() == ASKED, PATIENCE_S, "the labels at the gateways that answered")

    def _joined(self) -> dict[str, float]:
        return {
            name: metric(server, "penstock_labels_total", outcome="joined") for name, server in self.servers.items()
        }

    def held_out(self, *ids: str) -> set[str]:
        return {id_ for id_, out in zip(ids, is_held_out("m", ids, SHARE).tolist(), strict=True) if out}

    def admin(self, name: str, path: str) -> Any:
        return self.servers[name].admin("GET", f"/admin/v1/{path}").json()

    def leader(self) -> str:
        leads = self.admin(next(iter(self.servers)), "fleet")["leader"]
        return next(name for name in self.servers if self.names[name] == leads)

    def retrain(self, name: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """The rows and the event that the command gets after a request at this gateway."""
        reply = self.servers[name].admin("POST", "/admin/v1/models/m/retrain", {"reason": "try"})
        assert reply.status == 201, reply
        event = reply.json()["event"]
        file = self.trained / f"{event}.parquet"
        wait_until(file.exists, PATIENCE_S, "the training command")
        return parquet.read_table(file).to_pylist(), json.loads((self.trained / f"{event}.json").read_text())

    def events(self, name: str, kind: str) -> list[dict[str, Any]]:
        found = self.admin(name, "events?model=m")["events"]
        return [item["data"] for item in found if item["type"] == f"io.penstock.{kind}.v1"]

    def leftovers(self) -> list[str]:
        """Objects of the bucket beside the contents of versions."""
        keys = self.bucket.call("GET", f"/{self.bucket.name}?list-type=2").decode().split("<Key>")[1:]
        kept = {version["digest"].removeprefix("sha256:") for version in self.admin("a", "models/m")["versions"]}
        return [key for key in keys if key.partition("<")[0].rpartition("/")[2] not in kept]


def captures(server: Server) -> bool:
    """Whether one more request is captured now."""
    before = metric(server, "penstock_captured_requests_total")
    asker = Asker(server)
    asker.ask({"x-request-id": f"probe-{before}"})
    asker.close()
    for _ in range(LOOKS):  # a row is captured a moment after its answer; the next probe must not hide it
        if metric(server, "penstock_captured_requests_total") > before:
            return True
        time.sleep(0.1)
    return False


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with ExitStack() as stack:
        yield Fleet(tmp_path, stack)


def test_rows_of_all_gateways_reach_training_and_judge_a_candidate(fleet: Fleet, tmp_path: Path) -> None:
    asked = {id_ for ids in fleet.ids.values() for id_ in ids}
    wanted = asked - fleet.held_out(*asked)
    other = next(name for name in ASKED if name != fleet.leader())
    rows, event = fleet.retrain(other)
    assert {row["id"] for row in rows} - wanted <= {row["id"] for row in rows if row["id"].startswith("probe-")}
    own = [row for row in rows if row["id"] in wanted]
    assert sorted(item["id"] for item in own) == sorted(wanted)
    assert {item["label"] for item in own} == {1.0}
    reported = event["data"]["rows"]
    assert (reported["rows"], reported["missing"], set(reported["gateways"])) == (
        len(rows),
        {},
        set(fleet.names.values()),
    )
    for name, ids in fleet.ids.items():
        assert reported["gateways"][fleet.names[name]] >= len(set(ids) & wanted)
    [shown] = fleet.events(other, "retraining.rows")
    assert {name: shown[name] for name in reported} == reported

    table = tmp_path / "fleet.parquet"
    done = harness.run_command("capture", f"m:{GOOD}", "-o", str(table), "--fleet", folder=tmp_path, env=fleet.settings)
    assert done.returncode == 0, done.stderr
    assert asked <= set(parquet.read_table(table).column("id").to_pylist())

    assert fleet.servers["a"].push("m", SAME, scorer().SerializeToString()).status == 201
    wait_until(lambda: bool(fleet.events("a", "candidate.passed")), PATIENCE_S, "the exam")
    [passed] = fleet.events("a", "candidate.passed")
    assert passed["exam"]["whole"]["rows"] == passed["rows"]["rows"] == len(fleet.held_out(*asked))
    assert set(passed["rows"]["gateways"]) == set(fleet.names.values())
    wait_until(lambda: not fleet.leftovers(), PATIENCE_S, "the end of what was handed over")

    lost = next(name for name in ASKED if name != fleet.leader())
    fleet.servers.pop(lost).kill()
    rows, event = fleet.retrain(next(iter(fleet.servers)))
    left = {id_ for name in fleet.servers for id_ in fleet.ids[name]} & wanted
    assert {row["id"] for row in rows if not row["id"].startswith("probe-")} == left
    [reason] = event["data"]["rows"]["missing"].values()
    assert set(event["data"]["rows"]["missing"]) == {fleet.names[lost]}
    assert "silent" in reason
    assert fleet.events(next(iter(fleet.servers)), "retraining.rows")[-1]["missing"] == {fleet.names[lost]: reason}
