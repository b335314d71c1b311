"""Changes of a registry that never stop while its control process is killed, each with a reason of its own."""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any

from penstock.registry.contents.archive import pack
from tests import harness
from tests.harness import PATIENCE_S, Reply, Server
from tests.integration.traffic.drive import scorer

MODEL = "/admin/v1/models/m"
KEPT = 2
"""Versions that are in use at a time."""

OPEN = {"running", "paused", "held"}
"""States of rollouts that have not ended."""


@dataclass(slots=True)
class Change:
    """One change that was asked for, by its reason; ``status`` is None where nobody heard the answer."""

    reason: str
    action: str
    version: str = ""
    status: int | None = None
    answer: Any = None

    @property
    def acknowledged(self) -> bool:
        return self.status is not None and self.status < 300

    @property
    def changed_nothing(self) -> bool:
        """Whether it was acknowledged as what is so already, of which the audit need not tell."""
        return self.answer.get("before") == self.version or (self.action == "route.set" and not self.version)


@dataclass(slots=True)
class Changes:
    """Asks for changes of every kind from three threads, each with a reason of its own; ``ops`` is where now."""

    folder: Path
    ops: str
    seed: int = 1
    asked: list[Change] = field(default_factory=list)
    _numbers: int = 10
    _over: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Without pause for the time of a block."""
        self._over.clear()
        works = (self.push_and_retire, self.route, self.retrain)
        threads = [threading.Thread(target=self._work, args=(work, self.seed + n)) for n, work in enumerate(works)]
        self.seed += len(threads)
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join(PATIENCE_S)
            assert not any(thread.is_alive() for thread in threads)

    def wait_for(self, action: str, acknowledged: bool) -> None:
        """Until one more change of this kind was acknowledged, or else asked for."""
        begun = len(self.asked)

        def seen() -> bool:
            return any(item.action == action and item.acknowledged >= acknowledged for item in self.asked[begun:])

        harness.wait_until(seen, PATIENCE_S, action)

    def _work(self, change: Callable[[random.Random], None], seed: int) -> None:
        rng = random.Random(seed)
        while not self._over.wait(0.02):
            change(rng)

    def ask(self, change: Change, method: str, path: str, body: bytes | Mapping[str, Any] | None) -> Reply | None:
        """One call; None where the control process was not there to the end of it."""
        with self._lock:
            self.asked.append(change)
        content = json.dumps(body).encode() if isinstance(body, Mapping) else body
        try:
            reply = harness.call(self.ops, method, path, content, {"penstock-reason": change.reason}, PATIENCE_S)
        except (OSError, HTTPException):
            return None
        change.status, change.answer = reply.status, reply.json()
        return reply

    def next(self, action: str) -> tuple[str, int]:
        """A reason of its own for a change, and its number."""
        with self._lock:
            self._numbers += 1
            return f"{action} {self._numbers}", self._numbers

    def push_and_retire(self, rng: random.Random) -> None:
        """Push a graph, or a graph with its configuration, and retire what is old."""
        reason, number = self.next("push")
        content = scorer(1.0 + number / 1000).SerializeToString()
        if rng.random() < 0.5:
            content = self.packed(content, number)
        change = Change(reason, "version.add", str(number))
        self.ask(change, "PUT", f"{MODEL}/versions/{number}", content)
        if rng.random() < 0.2:
            self._collect()
        old = self.added()[:-KEPT]
        for version in old[-1:]:
            reason, _ = self.next("retire")
            self.ask(Change(reason, "version.retire", version), "DELETE", f"{MODEL}/versions/{version}", None)

    def packed(self, graph: bytes, number: int) -> bytes:
        """A tar of a graph with a configuration."""
        folder = self.folder / "packed"
        folder.mkdir(exist_ok=True)
        (folder / "model.onnx").write_bytes(graph)
        (folder / "config.pbtxt").write_text(f"max_batch_size: {number}")
        return b"".join(pack({path.name: path for path in folder.iterdir()}))

    def _collect(self) -> None:
        self.ask(Change("", "collect"), "POST", "/admin/v1/registry/collect", {})

    def added(self) -> list[str]:
        """Versions whose push was acknowledged, and whose retirement was not answered."""
        with self._lock:
            gone = {item.version for item in self.asked if item.action == "version.retire" and item.status is not None}
            return [
                item.version
                for item in self.asked
                if item.action == "version.add" and item.acknowledged and item.version not in gone
            ]

    def route(self, rng: random.Random) -> None:
        """Move the champion, set and drop the route, begin, promote and abort rollouts, change settings and policy."""
        versions = self.added()
        version = rng.choice(versions) if versions else "1"
        kind = rng.choice(("alias.move", "route.set", "route.drop", "rollout", "model.configure"))
        reason, _ = self.next(kind)
        if kind == "alias.move":
            self.ask(
                Change(reason, kind, version), "PUT", f"{MODEL}/aliases/champion", {"version": version, "force": True}
            )
        elif kind == "route.set":
            self.ask(Change(reason, kind, version), "PUT", f"{MODEL}/route", {"split": {"1": 9000, version: 1000}})
        elif kind == "route.drop":
            self.ask(Change(reason, "route.set"), "DELETE", f"{MODEL}/route", None)
        elif kind == "model.configure":
            body = {"keep_warm_seconds": rng.randrange(10, 300)}
            self.ask(Change(reason, kind), "PUT", f"{MODEL}/settings", body)
        else:
            self._roll_out(reason, version, rng.choice(("promote", "abort")))

    def _roll_out(self, reason: str, version: str, verb: str) -> None:
        begun = Change(reason, "rollout.start", version)
        body = {"to": version, "steps": [1000, 10_000], "min_step_seconds": 300}
        self.ask(begun, "POST", f"{MODEL}/rollouts", body)
        if begun.acknowledged:
            self._end(begun.answer["id"], verb)
        elif begun.status == HTTPStatus.CONFLICT:  # a start whose acknowledgement a kill took is in the way
            listed = Change("", "rollout.list")
            self.ask(listed, "GET", f"{MODEL}/rollouts", None)
            if listed.acknowledged:
                for rollout in (rollout for rollout in listed.answer["rollouts"] if rollout["state"] in OPEN):
                    self._end(rollout["id"], "abort")

    def _end(self, rollout: int, verb: str) -> None:
        reason, _ = self.next(verb)
        self.ask(Change(reason, f"rollout.{verb}"), "POST", f"{MODEL}/rollouts/{rollout}/{verb}", {})

    def retrain(self, rng: random.Random) -> None:
        """Ask for retraining."""
        reason, _ = self.next("retrain")
        self.ask(Change(reason, "retraining.request"), "POST", f"{MODEL}/retrain", {"version": "1", "reason": reason})
        time.sleep(rng.random() * 0.1)

    def events(self) -> set[str]:
        """Those that requests for retraining were acknowledged with."""
        return {
            item.answer["event"] for item in self.asked if item.action == "retraining.request" and item.acknowledged
        }


def audit_of(server: Server) -> list[dict[str, Any]]:
    """The whole audit, oldest first."""
    found: list[dict[str, Any]] = []
    while part := server.admin("GET", f"/admin/v1/audit?after={found[-1]['seq'] if found else 0}").json()["entries"]:
        found += part
    return found
