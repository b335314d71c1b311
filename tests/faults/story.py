"""Who takes part in the story of a fleet: callers that remember who answered them, gateways, and what these counted."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.control.monitoring.fleet_evidence import region_counts
from penstock.control.monitoring.publication import CountsLayout, layout_id, sum_published
from penstock.core.policies import MonitorPolicy
from penstock.monitor.reference import Reference, decode_reference
from penstock.monitor.rows import RegionCounts, RegionLayout
from penstock.registry.db.database import open_database
from penstock.registry.stores.evidence import EvidenceStore
from tests import harness
from tests.haproxy import GATEWAY
from tests.harness import Server, wait_until
from tests.integration.control.watch import metric
from tests.ports import free_port

MODEL = "m"
ROWS = 10
"""Of a request."""

CALLERS = 3
WHO = "f3"
"""The feature that says who asks."""

LABELS_S = 2.0
"""A gateway whose control process is frozen takes no labels: callers try another one after so many seconds."""

INFER = f"/v2/models/{MODEL}/infer"
FEEDBACK = f"/v2/models/{MODEL}/feedback"

Floats = NDArray[np.float64]


def truth(numbers: Floats, weights: Floats) -> list[int]:
    """What should be answered: the world is as it was, whatever the first feature shows of it."""
    found: list[int] = (numbers @ weights).argmax(axis=1).tolist()
    return found


@dataclass(frozen=True, slots=True)
class Request:
    """Ten rows of one caller with what should be answered; its numbers go up from 0, its id stays at each attempt."""

    caller: int
    number: int
    id: str
    rows: Floats
    labels: Sequence[int]

    def body(self) -> bytes:
        """The request as REST has it."""
        data = [round(value, 6) for value in self.rows.ravel().tolist()]
        tensor = {"name": "x", "shape": list(self.rows.shape), "datatype": "FP32", "data": data}
        return json.dumps({"id": self.id, "inputs": [tensor]}).encode()


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered a request: the gateway as the proxy calls it, and the version; ``at`` is of the monotonic clock."""

    request: Request
    gateway: str
    version: str
    at: float


@dataclass(slots=True)
class Caller:
    """One client with its own rows, on one connection: it repeats what fails until it is answered.

    The last feature says who asks, in the first row of each request, so counts tell one caller's requests from
    others': not in all rows, since rows that are like their neighbours count for less.
    """

    number: int
    address: str
    weights: Floats
    name: str = "caller"
    answers: list[Answer] = field(default_factory=list)
    repeated: list[Request] = field(default_factory=list)
    _made: int = 0
    _connection: HTTPConnection | None = None

    def make(self, drifted: bool) -> Request:
        """The next request; drift squeezes the first feature into a part of where it was."""
        generator = np.random.default_rng((self.number, self._made))
        rows = generator.uniform(-1, 1, (ROWS, 4))
        rows[:, 3] = 0
        rows[0, 3] = 1 + self.number
        labels = truth(rows, self.weights)
        if drifted:
            rows[:, 0] = 0.6 + 0.4 * rows[:, 0]
        self._made += 1
        return Request(self.number, self._made - 1, f"{self.name} {self.number}-{self._made - 1}", rows, labels)

    def ask(self, drifted: bool = False) -> Answer:
        """Send the next request until it is answered."""
        request = self.make(drifted)
        while (answer := self.attempt(request)) is None:
            self.repeated.append(request)
            time.sleep(0.05)
        self.answers.append(answer)
        return answer

    def attempt(self, request: Request) -> Answer | None:
        """Send a request once; None where it was not answered well."""
        try:
            status, headers, _ = self.post(INFER, request.body())
        except (OSError, HTTPException):
            return None
        if status != 200:
            return None
        return Answer(request, headers.get(GATEWAY, ""), headers["penstock-model-version"], time.monotonic())

    def label(self, answers: Sequence[Answer]) -> None:
        """Tell what should have been answered, until somebody takes it."""
        reported = {"feedback": [{"id": answer.request.id, "label": list(answer.request.labels)} for answer in answers]}
        while not self._reported(json.dumps(reported).encode()):
            time.sleep(0.05)

    def _reported(self, body: bytes) -> bool:
        try:
            status, _, answer = self.post(FEEDBACK, body, LABELS_S)
        except (OSError, HTTPException):
            return False
        assert status in (202, 429, 502, 503), answer  # calls to a frozen control process pile up and are turned away
        return status == 202

    def post(self, path: str, body: bytes, seconds: float = 30.0) -> tuple[int, Mapping[str, str], bytes]:
        """One call; the connection is made anew after a failure."""
        if self._connection is None:
            self._connection = HTTPConnection(self.address, timeout=seconds)
        try:
            if self._connection.sock is not None:
                self._connection.sock.settimeout(seconds)
            self._connection.request("POST", path, body)
            answer = self._connection.getresponse()
            return answer.status, {name.lower(): text for name, text in answer.getheaders()}, answer.read()
        except (OSError, HTTPException):
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None


def together(works: Sequence[Callable[[], object]], seconds: float) -> None:
    """Do everything at the same time, each on a thread of its own; the first failure is raised."""
    failures: list[BaseException] = []

    def guarded(work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    end = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    assert not any(thread.is_alive() for thread in threads), f"not done within {seconds} s"
    if failures:
        raise failures[0]


class Gateways:
    """Gateways by name, each on a home and a REST port of its own which it has again when it is started again."""

    def __init__(self, workspace: Path, names: Sequence[str], env: Mapping[str, str], stack: ExitStack) -> None:
        self._workspace, self._env, self._stack = workspace, dict(env), stack
        self._ports = {name: free_port() for name in names}
        self.servers: dict[str, Server] = {}
        together([partial(self.start, name) for name in names], 120)

    @property
    def addresses(self) -> dict[str, str]:
        """The REST addresses."""
        return {name: f"127.0.0.1:{port}" for name, port in self._ports.items()}

    def start(self, name: str) -> None:
        """Start a gateway, also one that was killed."""
        options = ("--workers", "1", "--http-port", str(self._ports[name]))
        server = harness.launch(None, self._workspace / name, *options, env=self._env)
        self._stack.callback(server.kill)
        self.servers[name] = server

    def other_than(self, name: str) -> Server:
        """Another one than this."""
        return next(server for item, server in self.servers.items() if item != name)

    def id(self, name: str) -> str:
        """What the fleet calls one of them; another name once it is started again."""
        return str(self.servers[name].admin("GET", "/admin/v1/fleet").json()["asked"])

    def leader(self) -> str:
        """The name of the one that leads, "" while nobody does."""
        leads = [name for name, server in self.servers.items() if metric(server, "penstock_leader")]
        return leads[0] if len(leads) == 1 else ""


def monitor(server: Server, version: str, scope: str = "fleet") -> dict[str, Any]:
    """What a gateway shows of a version."""
    reply = server.admin("GET", f"/admin/v1/models/{MODEL}/monitor?version={version}&scope={scope}")
    assert reply.status == 200, reply
    found: dict[str, Any] = reply.json()
    return found


def counted_rows(server: Server, version: str, scope: str) -> int:
    """How many rows of a version were counted."""
    return int(monitor(server, version, scope).get("rows", {}).get("counted", 0))


def columns(shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is shown of each input and output, and of all numbers together."""
    return [feature for feature in (*shown["features"], *shown["outputs"], shown["joint"]) if feature]


def states(server: Server, version: str) -> dict[str, str]:
    """The verdict on each column."""
    return {column["name"]: column["state"] for column in columns(monitor(server, version))}


def accuracy(server: Server, version: str) -> float:
    """The share of all labelled rows that a version answered rightly."""
    return float(monitor(server, version)["performance"]["accuracy"])


def events(server: Server) -> list[dict[str, Any]]:
    """All that was told of the model, oldest first."""
    found: list[dict[str, Any]] = server.admin("GET", f"/admin/v1/events?model={MODEL}").json()["events"]
    return found


class Evidence:
    """Reads from the fleet's database what was published of a version, as the gateway that leads does."""

    def __init__(self, url: str, home: Path, digest: str) -> None:
        self._database = open_database(url.replace("postgresql://", "postgresql+psycopg://"), 10)
        self._store = EvidenceStore(self._database)
        file = home / "references" / f"{digest.removeprefix('sha256:')}.json"
        self.reference: Reference = decode_reference(json.loads(file.read_text()))
        self._shape = CountsLayout(layout_id(digest, ()), RegionLayout.of(self.reference))

    def counted(self, version: str, gateway: str = "") -> RegionCounts:
        """What all gateways have published of a version, or one of them."""
        key = (MODEL, version)
        rows = [row for row in self._store.published() if gateway in ("", row.gateway)]
        return region_counts(self.reference, MonitorPolicy(), sum_published(rows, {key: self._shape})[key])

    def requests(self, version: str, gateway: str) -> list[int]:
        """How many requests of each caller a gateway has published."""
        [place] = [index for index, feature in enumerate(self.reference.inputs) if feature.bins.name == WHO]
        counts = self.counted(version, gateway).counts[place]
        edges = self.reference.inputs[place].bins.edges
        return [counts[int(np.searchsorted(edges, 1 + caller, "right"))] for caller in range(CALLERS)]

    def labels(self, version: str) -> Counter[str]:
        """How many labelled rows each gateway has published."""
        found: Counter[str] = Counter()
        for batch in self._store.labels_of(MODEL, version):
            found[batch.gateway] += batch.number
        return found

    def close(self) -> None:
        """Let the database go."""
        self._database.close()

    def bins(self, counted: RegionCounts) -> Iterator[tuple[str, list[int]]]:
        """The counts of each column by bin."""
        for feature, counts in zip(self.reference.features, counted.counts, strict=True):
            yield feature.bins.name, list(counts)


def until(check: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait, also over answers that fail while the database is away."""

    def tried() -> bool:
        try:
            return check()
        except (OSError, HTTPException, AssertionError, KeyError, ValueError):
            return False

    wait_until(tried, seconds, what)
