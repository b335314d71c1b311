"""The demo's last part: the digits change, and the gateway requests, examines and rolls out a new version."""

import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from penstock.cli.admin_api_client import AdminApiClient
from penstock.cli.client import Document, RestClient
from penstock.cli.demo.gateway import DemoGateway
from penstock.cli.demo.traffic import ROLLOUT_PAUSE_SECONDS, CallingThread, RestTransport, drive
from penstock.cli.demo.training import MODEL, SIDE, DigitRows
from penstock.cli.demo.training_command import VERSION
from penstock.cli.upload import read_upload
from penstock.core.tensors import Array

ROWS_A_CALL = 3
LABELLED_CALLS = 20
"""Requests whose labels are sent in one call."""

LABELS_WANTED = 1200
HELD_OUT = 0.2
CALL_SECONDS = 10.0
TRAINED_SECONDS = 180.0
ROLLOUT_SECONDS = 180.0
CALLERS = 3
POLL_SECONDS = 0.2
MOST_EVENTS = 200

RequestOf = Callable[[Array], Document]


def shift_digits(rows: Array) -> Array:
    """Return the digits one pixel further right, as from a scanner whose paper guide has moved."""
    moved = np.roll(rows.reshape(-1, SIDE, SIDE), 1, axis=2)
    moved[:, :, 0] = 0
    return moved.reshape(len(rows), -1)


def make_policy(ops: str) -> Document:
    """Return the policy of the demo: request training when the digits drift and enough labels have arrived."""
    errors = {"metric": "errors", "max_increase": 0.01}
    rollout = {"steps": [2500, 10_000], "min_step_seconds": 1, "guards": [errors]}
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
                "command": {
                    "argv": [sys.executable, "-m", "penstock.cli.demo.training_command", ops],
                    "timeout_seconds": 60,
                }
            }
        },
        "reason": "the demo",
    }


class Loop:
    """Runs this part; ``sent`` counts predictions by version and protocol, ``request_of`` makes a request of rows."""

    def __init__(
        self,
        console: Console,
        gateway: DemoGateway,
        digits: DigitRows,
        sent: Counter[tuple[str, str]],
        request_of: RequestOf,
    ) -> None:
        self.console = console
        self.gateway = gateway
        self.registry = AdminApiClient(gateway.owner)
        self.digits = digits
        self.sent = sent
        self.request_of = request_of
        self.began = time.monotonic()
        self.seen = max((event["sequence"] for event in self.registry.events(MODEL, None, MOST_EVENTS)), default=0)
        self.drifting: list[str] = []
        self.over = False

    def run(self, folder: Path) -> bool:
        """Run every step and print events as they happen; return whether the new version answers in the end."""
        reference = folder / "train.npz"
        np.savez(reference, pixels=self.digits.train_rows, label=self.digits.train_labels)
        self.registry.set_reference(MODEL, "2", read_upload(reference), lambda _done, _total: None)
        self.registry.set_policy(MODEL, make_policy(f"unix:{self.gateway.owner}"))
        self.say(f"version 2 has a reference of {len(self.digits.train_rows)} training rows; every request is captured")
        self.send_and_label()
        until = time.monotonic() + TRAINED_SECONDS
        while not self.rolling() and time.monotonic() < until:
            self.follow()
            time.sleep(POLL_SECONDS)
        if not self.rolling():
            return False
        rows = shift_digits(self.digits.test_rows)
        callers = [
            CallingThread(
                f"REST {index}",
                "rest",
                RestTransport(self.gateway.http, "", *map(self.request_of, rows[index::CALLERS, None])),
                "",
                ROLLOUT_PAUSE_SECONDS,
            )
            for index in range(CALLERS)
        ]
        drive(callers, ROLLOUT_SECONDS, lambda _: self.follow())
        for caller in callers:
            for version, calls in caller.versions.items():
                self.sent[version, caller.protocol] += calls
        with RestClient(self.gateway.http, CALL_SECONDS) as client:
            version = client.infer(MODEL, "", self.request_of(rows[:1])).version
        self.sent[version, "rest"] += 1
        return version == VERSION

    def send_and_label(self) -> None:
        """Send every digit once, and after some requests their true labels."""
        rows = shift_digits(np.concatenate([self.digits.train_rows, self.digits.test_rows]))
        labels = np.concatenate([self.digits.train_labels, self.digits.test_labels])
        right = 0
        with RestClient(self.gateway.http, CALL_SECONDS) as client:
            for first in range(0, len(rows), ROWS_A_CALL * LABELLED_CALLS):
                feedback: list[Document] = []
                for start in range(first, min(len(rows), first + ROWS_A_CALL * LABELLED_CALLS), ROWS_A_CALL):
                    part, truth = rows[start : start + ROWS_A_CALL], labels[start : start + ROWS_A_CALL]
                    right += int((self.classify(client, f"scan-{start}", part) == truth).sum())
                    feedback.append({"id": f"scan-{start}", "label": truth.tolist()})
                client.feedback(MODEL, feedback)
                self.follow()
        self.say(
            f"{len(rows)} digits arrived shifted by one pixel: version 2 got {right / len(rows):.1%} of them right"
        )

    def classify(self, client: RestClient, call_id: str, rows: Array) -> Array:
        """Send rows in one request; return the class of each by whichever version answers."""
        reply = client.infer(MODEL, "", {**self.request_of(rows), "id": call_id})
        self.sent[reply.version, "rest"] += 1
        [scores] = [output for output in reply.document["outputs"] if output["name"] == "probabilities"]
        classes: Array = np.array(scores["data"]).reshape(len(rows), -1).argmax(axis=1)
        return classes

    def rolling(self) -> bool:
        """Whether the rollout of the new version has started."""
        return any(trial["to"] == VERSION for trial in self.registry.trials(MODEL, "rollouts"))

    def follow(self) -> bool:
        """Print new events; return whether the rollout of the new version is over."""
        for event in self.registry.events(MODEL, self.seen, MOST_EVENTS):
            self.seen = event["sequence"]
            self.print_event(event["type"].removeprefix("io.penstock."), event["data"])
        return self.over

    def print_event(self, kind: str, data: Document) -> None:
        """Print one event in a line; of the many pixels that drift only the first."""
        if kind == "drift.detected.v1":
            if not self.drifting:
                self.say(f"drift: {data.get('name') or data.get('feature', 'a feature')}")
            self.drifting.append(str(data))
        elif kind == "retraining.requested.v1":
            conditions = [
                f"{condition['statistic']} {condition['value']} (at least {condition['threshold']})"
                for condition in data["conditions"]
            ]
            self.say(f"rule {data['rule']} requests retraining: {', '.join(conditions)}; the training command runs")
        elif kind.startswith("candidate."):
            scores = (data["exam"] or {}).get("whole") or {}
            reasons = "; ".join(data["reasons"]) or "it may be rolled out"
            figures = f"{scores['candidate']:.1%} against {scores['champion']:.1%}" if scores else "no exam"
            self.say(f"version {data['version']} on {scores.get('rows', 0)} held-out rows: {figures}; {reasons}")
        elif kind == "rollout.finished.v1":
            self.over = True
            self.say(f"rollout of version {VERSION}: {data.get('state')}")

    def say(self, text: str) -> None:
        """Print a line with the seconds since the start."""
        self.console.print(f"{time.monotonic() - self.began:5.1f} s  {text}", soft_wrap=True)
