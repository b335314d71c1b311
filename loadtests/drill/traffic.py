"""The drill's clients: paced requests of one row, each answer judged and remembered, and labels for them."""

import http.client
import json
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from loadtests.drill.gateway import CANARY, MODEL
from loadtests.drill.graphs import CLASSES, FEATURES, MARK, expected_answers
from loadtests.drill.templates import Interval

THREADS = 6
WAIT_S = 5.0
NOISE = 0.1
"""Share of rows whose true class is another than the sound model says."""

LABELS_AT_A_TIME = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """One request: when it ended (monotonic seconds), who answered ("" for nobody), the status (0 without an answer),
    how long it took, whether the class was the sound model's, and whether the row was marked."""

    at: float
    version: str
    status: int
    seconds: float
    right: bool
    marked: bool

    @property
    def failed(self) -> bool:
        """Whether the server or the model is to blame for there being no answer."""
        return self.status == 0 or self.status >= http.client.INTERNAL_SERVER_ERROR or not self.right

    @property
    def harmed(self) -> bool:
        """Whether the caller got no answer or a wrong one, or one that the canary's fault has touched."""
        return self.failed or (self.marked and self.version == CANARY)


@dataclass(slots=True)
class Plan:
    """How the clients behave; ``marked`` is the share of marked rows at this moment, which the drill moves.

    ``labels``: answers are labelled soon; while ``hold`` is set they go to ``old`` instead, for a late batch.
    ``garbage``: one client more sends what cannot be answered.
    """

    rate: float
    marked: float = 0.0
    labels: bool = False
    garbage: bool = False
    hold: bool = False
    seen: list[Answered] = field(default_factory=list)
    old: list[tuple[str, int]] = field(default_factory=list)


class Clients:
    """Callers on threads; ``address`` gives the gateway's REST address at each moment."""

    def __init__(self, plan: Plan, address: Callable[[], str]) -> None:
        self._plan, self._address = plan, address
        self._over = threading.Event()
        self._labels: list[tuple[str, int]] = []
        self._lock = threading.Lock()
        works: list[Callable[[int], None]] = [self._ask] * THREADS
        works += [self._garble] if plan.garbage else []
        works += [self._send_labels_often] if plan.labels else []
        self._threads = [threading.Thread(target=work, args=(n,), daemon=True) for n, work in enumerate(works)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End."""
        self._over.set()
        for thread in self._threads:
            thread.join(2 * WAIT_S)

    def _ask(self, seed: int) -> None:
        chance, connection = random.Random(seed), self._connected()
        pause, due = THREADS / self._plan.rate, time.monotonic()
        while not self._over.is_set():
            due = max(due + pause, time.monotonic() - 5 * pause)
            time.sleep(max(0.0, due - time.monotonic()))
            row = [round(chance.gauss(0, 1), 3) for _ in range(FEATURES)]
            marked = chance.random() < self._plan.marked
            row[-1] = MARK if marked else 0.0
            if not self._one(connection, row, marked, chance):
                connection.close()
                connection = self._connected()
        connection.close()

    def _one(
        self, connection: http.client.HTTPConnection, row: list[float], marked: bool, chance: random.Random
    ) -> bool:
        """One request; whether the connection is still good."""
        began = time.monotonic()
        wanted = int(expected_answers(np.array([row], np.float32))[0])
        body = {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}]}
        try:
            connection.request("POST", f"/v2/models/{MODEL}/infer", json.dumps(body))
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._note(Answered(time.monotonic(), "", 0, time.monotonic() - began, False, marked))
            time.sleep(0.02)
            return False
        taken, version = time.monotonic() - began, answer.headers.get("penstock-model-version", "")
        right = answer.status == http.client.OK and _class_of(content) == wanted
        self._note(Answered(time.monotonic(), version, answer.status, taken, right, marked))
        if self._plan.labels and answer.status == http.client.OK:
            self._label(answer.headers.get("x-request-id", ""), wanted, chance)
        return True

    def _label(self, name: str, wanted: int, chance: random.Random) -> None:
        """Note the label of an answer, to be sent; a delayed label is always right, which flatters the control."""
        truth = wanted if chance.random() >= NOISE else (wanted + 1) % CLASSES
        with self._lock:
            if self._plan.hold:
                self._plan.old.append((name, wanted))
            else:
                self._labels.append((name, truth))

    def _note(self, answer: Answered) -> None:
        with self._lock:
            self._plan.seen.append(answer)

    def _garble(self, _: int) -> None:
        """A client that sends nothing but what cannot be answered."""
        bodies = [
            "{",
            json.dumps({"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}),
            json.dumps({"inputs": [{"name": "z", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}),
            json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "INT8", "data": [1, 2, 3, 4]}]}),
        ]
        while not self._over.is_set():
            for body in bodies:
                connection = self._connected()
                try:
                    connection.request("POST", f"/v2/models/{MODEL}/infer", body)
                    connection.getresponse().read()
                except (OSError, http.client.HTTPException):
                    time.sleep(0.1)
                finally:
                    connection.close()
            time.sleep(0.01)

    def _send_labels_often(self, _: int) -> None:
        """Send the labels of answers, a few times a second."""
        while not self._over.wait(0.2):
            with self._lock:
                labels, self._labels = self._labels, []
            self.send_labels(labels)

    def send_labels(self, labels: Sequence[tuple[str, int]]) -> None:
        """Send labels by request id."""
        for first in range(0, len(labels), LABELS_AT_A_TIME):
            feedback = [{"id": name, "label": label} for name, label in labels[first : first + LABELS_AT_A_TIME]]
            connection = self._connected()
            try:
                connection.request("POST", f"/v2/models/{MODEL}/feedback", json.dumps({"feedback": feedback}))
                connection.getresponse().read()
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
            finally:
                connection.close()

    def _connected(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self._address(), timeout=WAIT_S)


def _class_of(content: bytes) -> int:
    """The class that an answer gives, -1 where it gives none."""
    try:
        data = json.loads(content)["outputs"][0]["data"]
        return int(np.argmax(data)) if np.isfinite(data).all() else -1
    except (ValueError, KeyError, IndexError, TypeError):
        return -1


def count_intervals(answers: Sequence[Answered], began: float, ended: float, length_s: float) -> list[Interval]:
    """The canary's counts by interval between two moments; a request that nobody answered counts as the canary's where
    its row was marked."""
    own = [answer for answer in answers if answer.version == CANARY or (not answer.version and answer.marked)]
    found, start = [], began
    while start + length_s <= ended:
        part = [answer for answer in own if start <= answer.at < start + length_s]
        bad = sum(answer.status == 0 or answer.status >= http.client.INTERNAL_SERVER_ERROR for answer in part)
        p99 = float(np.quantile([answer.seconds for answer in part], 0.99)) * 1000 if part else 0.0
        found.append(Interval(len(part), bad, round(p99, 1)))
        start += length_s
    return found
