"""The demo's last chapter: the digits change, and the gateway asks for a new version, has it trained, examined and
rolled out; nobody is asked."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document, RestClient
from penstock.cli.demo.again import VERSION
from penstock.cli.demo.gateway import Gateway
from penstock.cli.demo.traffic import Caller, RestRoad, drive
from penstock.cli.demo.training import MODEL, SIDE, Digits
from penstock.cli.upload import upload
from penstock.core.tensors import Array

ROWS_A_CALL = 3
LABELS_WANTED = 1200
HELD_OUT = 0.2
CALL_SECONDS = 10.0
TRAINED_SECONDS = 60.0
ROLLOUT_SECONDS = 40.0
CALLERS = 3
POLL_SECONDS = 0.2
MOST_EVENTS = 200

Ask = Callable[[Array], Document]


def slipped(rows: Array) -> Array:
    """The same digits one pixel further to the right, as from a scanner whose paper guide has moved."""
    moved = np.roll(rows.reshape(-1, SIDE, SIDE), 1, axis=2)
    moved[:, :, 0] = 0
    return moved.reshape(len(rows), -1)


def policy(ops: str) -> Document:
    """What the demo wants watched: ask for training when the digits drift and enough labels came to train on."""
    rollout = {"steps": [2500, 10_000], "min_step_seconds": 1, "guards": [{"metric": "errors"}]}
    return {
        "capture": {"sample": 1.0},
        "triggers": [
            {
                "name": "digits-drifted",
                "when": {"all": [{"drift": {"scope": "features"}}, {"labels": {"new_at_least": LABELS_WANTED}}]},
                "send": ["train"],
            }
        ],
        "retraining": {
            "quality_veto": False,  # pixels that were always blank hold ink now, which looks like a broken feed
            "gates": {
                "card": ["summary", "training_data"],
                "held_out": {
                    "metric": "accuracy",
                    "by": 0.02,
                    "share": HELD_OUT,
                    "noise": {"sd": 0.05, "fall_by": 0.05},
                },
            },
            "auto_rollout": rollout,
        },
        "sinks": {
            "train": {
                "command": {"argv": [sys.executable, "-m", "penstock.cli.demo.again", ops], "timeout_seconds": 60}
            }
        },
        "reason": "the demo",
    }


class Loop:
    """One run of it; ``sent`` counts predictions asked for by version and protocol, ``ask`` makes a request of rows."""

    def __init__(
        self, console: Console, gateway: Gateway, digits: Digits, sent: Counter[tuple[str, str]], ask: Ask
    ) -> None:
        self.console = console
        self.gateway = gateway
        self.registry = AdminApiClient(gateway.ops)
        self.digits = digits
        self.sent = sent
        self.ask = ask
        self.began = time.monotonic()
        self.seen = max((one["sequence"] for one in self.registry.events(MODEL, None, MOST_EVENTS)), default=0)
        self.drifting: list[str] = []
        self.over = False

    def run(self, room: Path) -> bool:
        """Every step, told as it happens; whether the new version answers in the end."""
        reference = room / "train.npz"
        np.savez(reference, pixels=self.digits.train_rows, label=self.digits.train_labels)
        self.registry.set_reference(MODEL, "2", upload(reference), lambda _done, _total: None)
        self.registry.set_policy(MODEL, policy(self.gateway.ops))
        self.say(f"version 2 is measured by its {len(self.digits.train_rows)} training rows; every request is kept")
        self.send_and_label()
        until = time.monotonic() + TRAINED_SECONDS
        while not self.rolling() and time.monotonic() < until:
            self.follow()
            time.sleep(POLL_SECONDS)
        if not self.rolling():
            return False
        rows = slipped(self.digits.test_rows)
        callers = [
            Caller(
                f"REST {index}", "rest", RestRoad(self.gateway.http, "", *map(self.ask, rows[index::CALLERS, None])), ""
            )
            for index in range(CALLERS)
        ]
        drive(callers, ROLLOUT_SECONDS, lambda _: self.follow())
        for caller in callers:
            for version, calls in caller.versions.items():
                self.sent[version, caller.protocol] += calls
        with RestClient(self.gateway.http, CALL_SECONDS) as client:
            version = client.infer(MODEL, "", self.ask(rows[:1])).version
        self.sent[version, "rest"] += 1
        return version == VERSION

    def send_and_label(self) -> None:
        """Every digit once, each request followed by what its digits really were."""
        rows = slipped(np.concatenate([self.digits.train_rows, self.digits.test_rows]))
        labels = np.concatenate([self.digits.train_labels, self.digits.test_labels])
        right = 0
        with RestClient(self.gateway.http, CALL_SECONDS) as client:
            for start in range(0, len(rows), ROWS_A_CALL):
                part, truth = rows[start : start + ROWS_A_CALL], labels[start : start + ROWS_A_CALL]
                call_id = f"scan-{start}"
                reply = client.infer(MODEL, "", {**self.ask(part), "id": call_id})
                self.sent[reply.version, "rest"] += 1
                [scores] = [one for one in reply.document["outputs"] if one["name"] == "probabilities"]
                right += int((np.array(scores["data"]).reshape(len(part), -1).argmax(axis=1) == truth).sum())
                client.feedback(MODEL, [{"id": call_id, "label": truth.tolist()}])
                self.follow()
        self.say(
            f"{len(rows)} digits came one pixel further right: version 2 had {right / len(rows):.1%} of them right"
        )

    def rolling(self) -> bool:
        """Whether the new version's rollout has begun."""
        return any(one["to"] == VERSION for one in self.registry.trials(MODEL, "rollouts"))

    def follow(self) -> bool:
        """OnProgress what has happened since; whether the new version's rollout is over."""
        for event in self.registry.events(MODEL, self.seen, MOST_EVENTS):
            self.seen = event["sequence"]
            self.tell(event["type"].removeprefix("io.penstock."), event["data"])
        return self.over

    def tell(self, kind: str, data: Document) -> None:
        """One event in a line; many pixels drift, so that only the first is told."""
        if kind == "drift.detected.v1":
            if not self.drifting:
                self.say(f"drift: {data.get('name') or data.get('feature', 'a feature')}")
            self.drifting.append(str(data))
        elif kind == "retraining.requested.v1":
            found = [f"{one['statistic']} {one['value']} (at least {one['threshold']})" for one in data["conditions"]]
            self.say(f"rule {data['rule']} asks for retraining: {', '.join(found)}; the training command runs")
        elif kind.startswith("candidate."):
            marks = (data["exam"] or {}).get("whole") or {}
            told = "; ".join(data["reasons"]) or "it may be rolled out"
            figures = f"{marks['candidate']:.1%} against {marks['champion']:.1%}" if marks else "no exam"
            self.say(f"version {data['version']} on {marks.get('rows', 0)} held-out rows: {figures}; {told}")
        elif kind == "rollout.finished.v1":
            self.over = True
            self.say(f"rollout of version {VERSION}: {data.get('state')}")

    def say(self, text: str) -> None:
        """A line with the seconds since the chapter began."""
        self.console.print(f"{time.monotonic() - self.began:5.1f} s  {text}", soft_wrap=True)
