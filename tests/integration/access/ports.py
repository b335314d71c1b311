"""Both data ports over one data plane in this process, on a loop and a thread of its own, with API keys."""

import asyncio
import http.client
import socket
import threading
import uuid
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import time
from typing import Any, TypeVar

import uvloop

from penstock import __version__
from penstock.api.grpc.http2_server import Http2Server
from penstock.api.grpc.services import GrpcOptions
from penstock.api.http1.limits import HttpLimits
from penstock.api.rest.server import NO_DIALECTS, DialectOptions, RestServer
from penstock.api.tls import TlsContexts
from penstock.control.access.authenticator import Authenticator
from penstock.core.access.keys import digest_of, write_key
from penstock.core.access.table import AccessTable, KeyRecord
from penstock.core.desired import ModelSpec, ReadyState, VersionStatus
from penstock.core.options import ModelOptions
from penstock.engine import model as engine
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.registry.admission.inspection import proof_of
from penstock.serving.data_plane import DataPlane
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.routing_table import RoutingTable, build_model_entry
from penstock.serving.shared_memory import SharedRegions
from penstock.serving.version_info import VersionIdentity
from tests import zoo
from tests.harness import PATIENCE_S

Result = TypeVar("Result")
MODELS = ("digits", "fraud")
INFER = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}


class Repository:
    """Remembers what it was asked to change."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str]] = []

    async def load(self, model: str, config: str | None, author: object = None) -> None:
        """Remember it."""
        self.changes.append(("load", model))

    async def unload(self, model: str, author: object = None) -> None:
        """Remember it."""
        self.changes.append(("unload", model))

    async def feedback(self, model: str, entries: Sequence[Feedback]) -> FeedbackResult:
        """Remember it."""
        self.changes.append(("feedback", model))
        return FeedbackResult()


@dataclass(frozen=True)
class Answer:
    """The answer to a request over REST."""

    status: int
    body: bytes
    fields: Mapping[str, str]


class DataPorts:
    """Several workers' worth of ports: ``rest`` and ``grpc`` are the addresses of each."""

    def __init__(
        self,
        folder: Path,
        workers: int = 1,
        clock: Callable[[], float] = time,
        tls: TlsContexts | None = None,
        dialects: DialectOptions = NO_DIALECTS,
    ) -> None:
        self._dialects = dialects
        self._tls = tls
        self.keys: dict[str, str] = {}
        self.table = AccessTable(1, enabled=True)
        self.slots = [Slot.in_process() for _ in range(workers)]
        self.repository = Repository()
        self.rest: list[tuple[str, int]] = []
        self.grpc: list[str] = []
        self.planes: list[DataPlane] = []
        self._clock = clock
        self._folder = folder
        self._servers: list[RestServer | Http2Server] = []
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="ports", daemon=True)
        self._thread.start()
        self.run(self._start())

    async def _start(self) -> None:
        for slot in self.slots:
            await self._start_worker(slot)

    async def _start_worker(self, slot: Slot) -> None:
        plane = DataPlane(
            slot,
            lambda block: Totals.of(self.slots, block),
            self.repository,
            30_000_000_000,
            SharedRegions(("penstock-test-*",), self._folder / f"regions-{uuid.uuid4().hex}.json"),
            authenticator=Authenticator(self._clock),
            other_slots=[other for other in self.slots if other is not slot],
        )
        entries, blocks = {}, {}
        for number, name in enumerate(MODELS, 1):
            path = self._folder / f"{name}.onnx"
            model = engine.load(path, ModelOptions(), 1, proof_of(path))
            loaded = LoadedVersion(
                VersionIdentity(name, "1"), model, ModelOptions(), {"name": name}, slot.block(number)
            )
            ready = {"1": VersionStatus(name, "1", ReadyState.READY)}
            entries[name], blocks[name, "1"] = build_model_entry(ModelSpec(name), {"1": loaded}, ready), number
        plane.publish(RoutingTable(entries), blocks)
        plane.mark_ready()
        plane.callers.use(self.table)
        self.planes.append(plane)
        await self._listen(plane)

    async def _listen(self, plane: DataPlane) -> None:
        sock = socket.create_server(("127.0.0.1", 0))
        tls = self._tls
        rest = RestServer(plane, __version__, HttpLimits(), None if tls is None else tls.http, dialects=self._dialects)
        grpc = Http2Server(plane, GrpcOptions(tls=None if tls is None else tls.grpc, dialects=frozenset({"tfs"})))
        await rest.start(sock)
        self.rest.append(sock.getsockname())
        self.grpc.append(f"127.0.0.1:{await grpc.start('127.0.0.1', 0)}")
        self._servers += [rest, grpc]

    async def _stop(self) -> None:
        for server in self._servers:
            await server.stop(0)
        for plane in self.planes:
            loaded = [route[0] for entry in plane.routing_table.models.values() for route in entry.routes.values()]
            plane.publish(RoutingTable(), {})
            await asyncio.gather(*[item.close() for item in set(loaded)])
            plane.offload.close()

    # Access.

    def add_key(self, name: str, *roles: str, models: tuple[str, ...] = ("*",), **more: Any) -> str:
        """Return a new key of a caller."""
        key_id = f"{len(self.keys):012d}"
        key = write_key(key_id, key_id.encode() * 2)
        self.keys[name] = key
        record = KeyRecord(key_id, name, digest_of(key), roles, models, **more)
        self.publish(replace(self.table, keys=(*self.table.keys, record)))
        return key

    def revoke(self, name: str) -> None:
        """Revoke the keys of a caller."""
        self.publish(replace(self.table, keys=tuple(key for key in self.table.keys if key.name != name)))

    def publish(self, table: AccessTable) -> None:
        """Give every worker the next access table."""
        self.table = replace(table, epoch=self.table.epoch + 1)

        async def publish() -> None:
            for plane in self.planes:
                plane.callers.use(self.table)

        self.run(publish())

    def refusals(self) -> dict[str, int]:
        """The counted refusals of all workers by reason."""
        counts: dict[str, int] = {}
        for slot in self.slots:
            for (reason, dry_run), count in slot.auth_refusals.items():
                name = f"{reason} (dry run)" if dry_run else reason
                counts[name] = counts.get(name, 0) + count
        return {name: count for name, count in counts.items() if count}

    # Running.

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await something on the loop of the ports."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def connect(self, worker: int = 0) -> http.client.HTTPConnection:
        """A connection to the REST port of a worker."""
        host, port = self.rest[worker]
        return http.client.HTTPConnection(host, port, timeout=PATIENCE_S)

    def close(self) -> None:
        """Stop at once."""
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    target: str,
    key: str | None = None,
    body: bytes = b"",
    fields: Sequence[tuple[str, str]] = (),
) -> Answer:
    """Send one request, with the target as it is given."""
    connection.putrequest(method, target, skip_accept_encoding=True)
    if key is not None:
        connection.putheader("authorization", f"Bearer {key}")
    for name, value in fields:
        connection.putheader(name, value)
    connection.putheader("content-length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    return Answer(response.status, response.read(), {name.lower(): value for name, value in response.getheaders()})


def build(folder: Path) -> Path:
    """Write the models."""
    for name in MODELS:
        zoo.save(zoo.affine(2.0, 1.0, ("n", 3)), folder / f"{name}.onnx")
    return folder


@contextmanager
def running(
    folder: Path,
    workers: int = 1,
    clock: Callable[[], float] = time,
    tls: TlsContexts | None = None,
    dialects: DialectOptions = NO_DIALECTS,
) -> Iterator[DataPorts]:
    """Ports that are closed at the end."""
    ports = DataPorts(folder, workers, clock, tls, dialects)
    try:
        yield ports
    finally:
        ports.close()
