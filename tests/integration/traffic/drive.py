"""Versions to roll out, and callers that say who answered them."""

import json
import random
import socket
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from penstock.core.owner_only import owner_only_of_rollout
from tests import zoo
from tests.harness import PATIENCE_S, Reply, Server, wait_until

FEATURES = 4
SECONDS = PATIENCE_S


def scorer(sign: float = 1.0, work: int = 0, breaks: bool = False) -> onnx.ModelProto:
    """Softmax over three classes; -1 as ``sign`` turns the classes round, ``work`` makes a run long by idle products.

    With ``breaks`` a row whose first feature is above one is looked up beyond the end of a table.
    """
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["score"])]
    numbers = [zoo.constant("weight", sign * zoo.weights(FEATURES, 3, scale=2.0))]
    last = "score"
    if work:
        numbers += [
            zoo.constant("wide", np.zeros((FEATURES, work), np.float32)),
            zoo.constant("square", np.full((work, work), 1 / work, np.float32)),
            zoo.constant("narrow", np.zeros((work, 3), np.float32)),
        ]
        nodes.append(helper.make_node("MatMul", ["x", "wide"], ["w0"]))
        nodes += [helper.make_node("MatMul", [f"w{turn}", "square"], [f"w{turn + 1}"]) for turn in range(8)]
        nodes += [
            helper.make_node("MatMul", ["w8", "narrow"], ["idle"]),
            helper.make_node("Add", [last, "idle"], ["s"]),
        ]
        last = "s"
    if breaks:
        numbers += [zoo.constant("table", np.zeros(2, np.float32)), zoo.constant("first", np.array([0], np.int64))]
        nodes += [
            helper.make_node("Gather", ["x", "first"], ["column"], axis=1),
            helper.make_node("Relu", ["column"], ["positive"]),
            helper.make_node("Cast", ["positive"], ["place"], to=onnx.TensorProto.INT64),
            helper.make_node("Mul", ["place", "far"], ["beyond"]),
            helper.make_node("Gather", ["table", "beyond"], ["nothing"]),
            helper.make_node("Add", [last, "nothing"], ["t"]),
        ]
        numbers.append(zoo.constant("far", np.array(100, np.int64)))
        last = "t"
    nodes.append(helper.make_node("Softmax", [last], ["y"], axis=1))
    inputs, outputs = [zoo.value("x", "FP32", ("n", FEATURES))], [zoo.value("y", "FP32", ("n", 3))]
    return zoo.model(nodes, inputs, outputs, numbers)


PAUSE_S = 0.005
"""Between two requests of a caller: verdicts wait for the gateway, and more requests would only cost processor time."""

ERRORS = {"metric": "errors", "max_increase": 0.05}
"""What a version that is promoted is held to: some hundred requests prove this bound, and thousands the default."""

GOOD, SAME, SLOW, TURNED, BREAKING = "1", "2", "3", "4", "5"


def models(root: Path, *versions: str) -> Path:
    """A folder with one model, which has these versions or all: two sound ones, a slow one, one that answers otherwise,
    one that breaks. Each is examined, loaded and warmed up at the start of a gateway.
    """
    made = {
        GOOD: scorer(),
        SAME: scorer(),
        SLOW: scorer(work=600),
        TURNED: scorer(sign=-1.0),
        BREAKING: scorer(breaks=True),
    }
    zoo.place(root, "m", {version: made[version] for version in versions or made})
    return root


class Asker:
    """One connection; asks with made-up rows and remembers who answered: (version, route, status).

    It reads answers itself, in a third of the time of http.client: a rollout is decided by thousands of them.
    """

    def __init__(self, server: Server, seed: int = 0, model: str = "m") -> None:
        self._model = model
        self._address = server.http
        self._answers: BufferedReader | None = None
        self._random = random.Random(seed)
        self.seen: Counter[tuple[str, str, int]] = Counter()
        self.ids: list[tuple[str, str]] = []

    def ask(self, headers: Mapping[str, str] | None = None, version: str = "") -> tuple[str, str, int]:
        path = f"/v2/models/{self._model}" + (f"/versions/{version}" if version else "") + "/infer"
        row = [round(self._random.gauss(0, 1), 3) for _ in range(FEATURES)]
        body = {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": row}]}
        status, answered = self._exchange(path, json.dumps(body).encode(), headers or {})
        reported = answered["penstock-model-version"], answered["penstock-route"], status
        self.seen[reported] += 1
        self.ids.append((answered["x-request-id"], reported[0]))
        return reported

    def _exchange(self, path: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str]]:
        """Send a request; the status and the headers of its answer, whose body is left out."""
        if self._answers is None:
            host, _, port = self._address.rpartition(":")
            self._socket = socket.create_connection((host, int(port)), PATIENCE_S)
            self._answers = self._socket.makefile("rb")
        stated = {"host": self._address, "content-length": str(len(body)), **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in stated.items())
        self._socket.sendall(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1") + body)
        first = self._answers.readline()
        if not first:
            raise ConnectionResetError("the connection was closed before an answer")
        answered: dict[str, str] = defaultdict(str)
        while line := self._answers.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            answered[name.lower()] = value.strip()
        self._answers.read(int(answered["content-length"]))
        if answered["connection"] == "close":
            self.close()
        return int(first.split()[1]), answered

    def close(self) -> None:
        if self._answers is not None:
            self._answers.close()
            self._socket.close()
            self._answers = None


def ask_many(
    server: Server, count: int, threads: int = 4, headers: Callable[[int], Mapping[str, str]] | None = None
) -> Counter[tuple[str, str, int]]:
    """So many requests on several connections; who answered."""
    askers = [Asker(server, seed) for seed in range(threads)]

    def work(asker: Asker, first: int) -> None:
        for number in range(first, count, threads):
            asker.ask(headers(number) if headers else None)
        asker.close()

    running = [threading.Thread(target=work, args=(asker, index)) for index, asker in enumerate(askers)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(SECONDS)
    return sum((asker.seen for asker in askers), Counter())


@contextmanager
def traffic(*servers: Server, threads: int = 3, model: str = "m", pause: float = PAUSE_S) -> Iterator[list[Asker]]:
    """Callers that ask again and again, for the time of a block, ``pause`` seconds after each answer."""
    askers, over = [Asker(server, seed, model) for server in servers for seed in range(threads)], threading.Event()

    def work(asker: Asker) -> None:
        while not over.wait(pause):
            asker.ask()
        asker.close()

    running = [threading.Thread(target=work, args=(asker,), daemon=True) for asker in askers]
    for thread in running:
        thread.start()
    try:
        yield askers
    finally:
        over.set()
        for thread in running:
            thread.join(PATIENCE_S)


def set_route(server: Server, **route: Any) -> dict[str, Any]:
    """Set the model's route; what is answered."""
    reply = server.admin("PUT", "/admin/v1/models/m/route", route)
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.json()
    assert found["acknowledged"]
    return found


def begin(server: Server, model: str = "m", **asked: Any) -> dict[str, Any]:
    """Start a rollout with quick steps."""
    usual = {"steps": [1000, 5000, 10000], "min_step_seconds": 0.5, "guards": [ERRORS]}
    ask = server.as_owner if owner_only_of_rollout(asked) else server.admin
    reply = ask("POST", f"/admin/v1/models/{model}/rollouts", {**usual, **asked})
    assert reply.status == 201, reply
    found: dict[str, Any] = reply.json()
    return found


def look(server: Server, trial: Mapping[str, Any], kind: str = "rollouts") -> dict[str, Any]:
    """How a trial stands; a database that does not answer soon on a busy machine is asked again."""
    reply = patiently(lambda: server.admin("GET", f"/admin/v1/models/{trial['model']}/{kind}/{trial['id']}"))
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.json()
    return found


def patiently(call: Callable[[], Reply]) -> Reply:
    """The reply to a call that may be repeated: the first one that does not say that something took too long."""
    replies: list[Reply] = []

    def has_answered() -> bool:
        replies.append(call())
        return replies[-1].status not in (503, 504)

    wait_until(has_answered, PATIENCE_S, "an answer")
    return replies[-1]


def until(server: Server, trial: Mapping[str, Any], *states: str, seconds: float = SECONDS) -> dict[str, Any]:
    """Wait until a rollout is in one of these states."""
    last: dict[str, Any] = {}

    def there() -> bool:
        last.update(look(server, trial))
        return last["state"] in states

    try:
        wait_until(there, seconds, f"a rollout that is {' or '.join(states)}")
    except AssertionError as delayed:
        raise AssertionError(f"{delayed}: {json.dumps(last)}") from None
    return last


def promote_champion(server: Server, version: str, model: str = "m") -> None:
    """Lead the champion somewhere."""
    path = f"/admin/v1/models/{model}/aliases/champion"
    repeat_until_in_time(lambda: server.admin("PUT", path, {"version": version}), 200)


def push_version(server: Server, version: str, graph: onnx.ModelProto, model: str = "m") -> None:
    """Push a version; the same content again is the same push."""
    repeat_until_in_time(lambda: server.push(model, version, graph.SerializeToString()), 201)


def repeat_until_in_time(change: Callable[[], Reply], expected: int) -> None:
    """Ask again while a busy machine is too slow for the deadlines of users (503); for what may be repeated."""
    replies: list[Reply] = []

    def is_answered() -> bool:
        replies.append(change())
        return replies[-1].status != 503

    wait_until(is_answered, PATIENCE_S, lambda: f"an answer in time: {replies[-1]}")
    assert replies[-1].status == expected, replies[-1]


def champion(server: Server) -> str:
    """Where the champion leads."""
    versions = server.admin("GET", "/admin/v1/models/m").json()["versions"]
    return next((str(version["version"]) for version in versions if "champion" in version["aliases"]), "")


def serve(servers: Sequence[Server], last: str, graph: onnx.ModelProto) -> None:
    """Push a good version, the champion, and the last one to the first gateway; wait until each has the last one."""
    for version, model in ((GOOD, scorer()), (last, graph)):
        push_version(servers[0], version, model)
    promote_champion(servers[0], GOOD)
    path = f"/v2/models/m/versions/{last}/ready"
    for server in servers:
        wait_until(partial(_is_ready, server, path), PATIENCE_S, "the versions")


def _is_ready(server: Server, path: str) -> bool:
    return server.rest("GET", path).status == 200
