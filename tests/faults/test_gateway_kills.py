"""A whole gateway whose control process is killed over and over, while all kinds of changes and deliveries go on.

Nothing acknowledged is lost, nothing half done stays, every event arrives, the audit tells all, and callers notice
nothing.
"""

import asyncio
import json
import os
import random
import signal
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import nats
import pytest

from penstock.engine.scratch import is_scratch
from tests import harness
from tests.faults.changes import MODEL, OPEN, Changes, audit_of
from tests.harness import PATIENCE_S, Server, wait_until
from tests.integration.traffic.drive import FEATURES, promote_champion, scorer
from tests.integration.traffic.test_real_sinks import process
from tests.integration.traffic.test_retraining import Receiver, receiving
from tests.ports import free_port

BODY = json.dumps({"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [0] * FEATURES}]})
KINDS = ("version.add", "version.retire", "rollout.start", "retraining.request")
"""Changes that kills wait for by turns."""


class Stream:
    """A stream of a NATS server that keeps what it is sent."""

    def __init__(self, port: int) -> None:
        self.url = f"nats://127.0.0.1:{port}"

    async def _add(self) -> None:
        client = await nats.connect(self.url, connect_timeout=PATIENCE_S)
        await client.jetstream().add_stream(name="events", subjects=["penstock.*"])
        await client.close()

    def is_there(self) -> bool:
        """Whether the stream could be made."""
        try:
            asyncio.run(self._add())
        except (nats.errors.Error, OSError):
            return False
        return True

    async def _all(self) -> list[dict[str, Any]]:
        client = await nats.connect(self.url, connect_timeout=PATIENCE_S)
        jetstream = client.jetstream()
        count = (await jetstream.stream_info("events")).state.messages
        found = await jetstream.subscribe("penstock.*", stream="events", ordered_consumer=True)
        messages = [json.loads((await found.next_msg(timeout=PATIENCE_S)).data) for _ in range(count)]
        await client.close()
        return messages

    def events(self) -> list[dict[str, Any]]:
        """Everything in it."""
        return asyncio.run(self._all())


@dataclass
class Gateway:
    """One that is killed and started again in the same workspace, and what it sends its events to."""

    workspace: Path
    hook: Receiver
    stream: Stream
    server: Server
    changes: Changes
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.workspace / "home"

    def wait_killed(self) -> None:
        """Until the control process has ended."""
        assert self.server.process.wait(PATIENCE_S) == -signal.SIGKILL

    def kill(self) -> None:
        self.server.process.kill()
        self.wait_killed()

    def close(self) -> None:
        """End the one that runs now."""
        self.server.kill()

    def start_again(self) -> None:
        self.server = launch(self.workspace, self.environment)
        self.changes.ops = self.server.ops

    def got(self) -> dict[str, list[dict[str, Any]]]:
        """What each sink has, in the order in which it came."""
        names = {"log": self.home / "log.jsonl", "train": self.workspace / "trained.jsonl"}
        lines = {sink: file.read_text().splitlines() if file.exists() else [] for sink, file in names.items()}
        found = {sink: [json.loads(line) for line in text if line] for sink, text in lines.items()}
        return {**found, "hook": self.hook.events(), "stream": self.stream.events()}


def launch(workspace: Path, environment: Mapping[str, str]) -> Server:
    return harness.launch(None, workspace, "--workers", "1", env=environment)


def policy(workspace: Path, hook: Receiver, stream: Stream) -> dict[str, Any]:
    sinks = {
        "hook": {"webhook": {"url": hook.url}},
        "log": {"file": {"path": "log.jsonl"}},
        "train": {
            "command": {
                "argv": ["sh", "-c", f"cat >> {workspace / 'trained.jsonl'}; echo >> {workspace / 'trained.jsonl'}"]
            }
        },
        "stream": {"nats": {"url": stream.url, "subject": "penstock.m"}},
    }
    return {"triggers": [{"name": "now", "when": {"schedule": "0 0 1 1 *"}, "send": list(sinks)}], "sinks": sinks}


@contextmanager
def opened(workspace: Path, environment: Mapping[str, str]) -> Iterator[Gateway]:
    """A gateway with a model, a champion and sinks, for the time of a block."""
    port = free_port()
    command = ("nats-server", "-js", "-a", "127.0.0.1", "-p", str(port), "-sd", str(workspace / "jetstream"))
    with ExitStack() as stack:
        stack.enter_context(process(workspace, *command))
        hook, stream = stack.enter_context(receiving()), Stream(port)
        wait_until(stream.is_there, PATIENCE_S, "NATS")
        server = launch(workspace, environment)
        made = Gateway(workspace, hook, stream, server, Changes(workspace, server.ops), environment)
        stack.callback(made.close)
        assert server.push("m", "1", scorer().SerializeToString()).status == 201
        promote_champion(server, "1")
        assert server.as_owner("PUT", f"{MODEL}/policy", policy(workspace, hook, stream)).status == 200
        wait_until(lambda: server.rest("GET", "/v2/models/m/ready").status == 200, PATIENCE_S, "the model")
        yield made


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with opened(tmp_path_factory.mktemp("kills"), {}) as made:
        yield made


class Caller:
    """Keeps one connection to a worker and calls without pause."""

    def __init__(self, address: str) -> None:
        self.succeeded, self.failed = 0, Counter[str]()
        self._address = address
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def _work(self) -> None:
        connection = HTTPConnection(self._address, timeout=PATIENCE_S)
        while not self._over.wait(0.02):
            try:
                connection.request("POST", "/v2/models/m/infer", BODY)
                answer = connection.getresponse()
                text = answer.read()
            except (OSError, HTTPException) as error:
                self.failed[repr(error)] += 1
                connection.close()
                continue
            if answer.status == 200:
                self.succeeded += 1
            else:
                self.failed[f"{answer.status} {text[:200]!r}"] += 1
        connection.close()

    def __enter__(self) -> "Caller":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(PATIENCE_S)


def check_changes(gateway: Gateway) -> None:
    """Everything acknowledged is there, what was refused is not, and the audit tells how all that is there came."""
    audit = audit_of(gateway.server)
    model = gateway.server.admin("GET", MODEL).json()
    reported = Counter((entry["reason"], entry["action"]) for entry in audit)
    for change in gateway.changes.asked:
        if not change.reason:  # what the audit does not record
            continue
        count = reported[change.reason, change.action]
        if change.acknowledged:
            assert count >= 1 or change.changed_nothing, change
        elif change.status is not None and change.status < 500:
            assert not count, change
    versions = {version["version"]: version for version in model["versions"]}
    digests = {
        entry["subject"].rpartition("/")[2]: entry["after"]["digest"]
        for entry in audit
        if entry["action"] == "version.add"
    }
    assert {version: item["digest"] for version, item in versions.items()} == digests
    for change in gateway.changes.asked:
        if change.action == "version.add" and change.acknowledged:
            assert digests[change.version] == change.answer["digest"]
    retired = {entry["subject"].rpartition("/")[2] for entry in audit if entry["action"] == "version.retire"}
    assert {version for version, item in versions.items() if item["state"] == "RETIRED"} == retired
    promoted = [entry["after"] for entry in audit if entry["subject"].endswith("/aliases/champion")][-1]
    assert model["aliases"]["champion"] == promoted["version"]
    routes = [entry["after"] for entry in audit if entry["subject"] == "models/m/route"]
    route = gateway.server.admin("GET", f"{MODEL}/route").json()
    assert route["set"] == (bool(routes) and routes[-1] is not None)
    if route["set"]:
        assert route["split"] == routes[-1]["split"]
    begun = {entry["subject"].rpartition("/")[2] for entry in audit if "/rollouts/" in entry["subject"]}
    rollouts = gateway.server.admin("GET", f"{MODEL}/rollouts").json()["rollouts"]
    assert {rollout["id"] for rollout in rollouts} <= begun
    assert sum(rollout["state"] in OPEN for rollout in rollouts) <= 1


def deliveries(gateway: Gateway) -> list[dict[str, Any]]:
    """All of them, from the database: people are shown the newest hundred."""
    with closing(sqlite3.connect(gateway.home / "registry.db", timeout=PATIENCE_S)) as raw:
        raw.row_factory = sqlite3.Row
        return [dict(row) for row in raw.execute("SELECT event, sink, state, error FROM outbox")]


def check_deliveries(gateway: Gateway) -> None:
    """Each event is at each sink at least once, in order; commands ran once, or are told to be unfinished."""
    events = gateway.changes.events()
    wait_until(
        lambda: all(delivery["state"] != "pending" for delivery in deliveries(gateway)),
        PATIENCE_S,
        "the end of all deliveries",
    )
    dead = {
        (delivery["event"], delivery["sink"]): delivery
        for delivery in deliveries(gateway)
        if delivery["state"] == "dead"
    }
    assert all(sink == "train" and "before it finished" in item["error"] for (_, sink), item in dead.items()), dead
    for sink, got in gateway.got().items():
        ids = [item["id"] for item in got]
        if sink == "train":
            assert max(Counter(ids).values()) == 1
            assert events - set(ids) <= {event for event, at in dead if at == sink}
        else:
            assert events <= set(ids), sink
        first = [item["sequence"] for index, item in enumerate(got) if item["id"] not in ids[:index]]
        assert first == sorted(first), sink


def left_over(gateway: Gateway) -> list[str]:
    """What lies in the home and belongs to no change that was finished."""
    files = [path for path in gateway.home.rglob("*") if path.is_file()]
    names = [str(path.relative_to(gateway.home)) for path in files]
    known = (
        "registry.db",
        "gateway.json",
        "ops.sock",
        "mask.key",
        "audit.key",
        "audit-checkpoints",
        "last-",
        "log.jsonl",
        "references/",
        "retraining/",
        "answers/",
        "captures/",
    )
    blobs = {
        version["digest"].removeprefix("sha256:") for version in gateway.server.admin("GET", MODEL).json()["versions"]
    }
    scratch = [name for name in names if any(map(is_scratch, Path(name).parts))]
    rest = [name for name in names if not name.startswith(known)]
    return scratch + [item for item in rest if not any(blob in item for blob in blobs)]


def check_leftovers(gateway: Gateway) -> None:
    """Ten minutes and an hour later nothing is left of what was under way when the control process was killed."""
    assert gateway.server.push("m", "9", scorer(0.5).SerializeToString()).status in {200, 201}
    past = time.time() - 7200
    for blob in (gateway.home / "blobs" / "sha256").glob("??/*"):
        os.utime(blob, (past, past))
    raw = sqlite3.connect(gateway.home / "registry.db", timeout=PATIENCE_S)
    with raw:
        raw.execute("UPDATE leases SET until = 0")
    assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    collected = gateway.server.admin("POST", "/admin/v1/registry/collect", {})
    assert collected.status == 200, collected
    assert raw.execute("SELECT (SELECT count(*) FROM leases) + (SELECT count(*) FROM condemned)").fetchone() == (0,)
    raw.close()
    wait_until(lambda: not left_over(gateway), PATIENCE_S, "a home without leftovers")
    verified = gateway.server.admin("POST", "/admin/v1/registry/verify", {})
    assert verified.status == 200, verified


def check(gateway: Gateway) -> None:
    check_changes(gateway)
    check_deliveries(gateway)
    check_leftovers(gateway)


def kill_at_random(gateway: Gateway, points: int, seed: int) -> None:
    rng = random.Random(seed)
    with Caller(gateway.server.http) as caller:
        for point in range(points):
            with gateway.changes.running():
                gateway.changes.wait_for(KINDS[point % len(KINDS)], acknowledged=point < len(KINDS))
                time.sleep(rng.random() ** 2 * 0.4)
                gateway.kill()
            gateway.start_again()
    assert caller.succeeded > 100
    assert not caller.failed
    acknowledged = Counter(item.action for item in gateway.changes.asked if item.acknowledged)
    assert set(KINDS) <= set(acknowledged)
    refused = [item for item in gateway.changes.asked if item.action == "version.add" and item.status == 422]
    assert not refused, refused[0].answer
    check(gateway)


def test_kills_at_random_points(gateway: Gateway) -> None:
    kill_at_random(gateway, 8, seed=7)
