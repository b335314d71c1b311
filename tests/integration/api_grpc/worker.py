"""A data plane with a gRPC front in this process, on a loop and a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import onnx
import uvloop

from penstock.api.grpc.http2_server import Http2Server
from penstock.api.grpc.services import GrpcOptions
from penstock.core.desired import ModelSpec, ReadyState, VersionStatus
from penstock.core.errors import unknown_model
from penstock.core.options import ModelOptions
from penstock.engine import model as engine
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.monitor.feedback import Feedback, FeedbackResult
from penstock.registry.admission.inspection import proof_of
from penstock.serving.data_plane import DataPlane
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.routing_table import ModelEntry, RoutingTable, build_model_entry
from penstock.serving.version_info import VersionIdentity
from tests import zoo
from tests.grpc_oracle import OracleServer
from tests.harness import PATIENCE_S, wait_until

Result = TypeVar("Result")
Kind = type[OracleServer] | type[Http2Server]
CALL_SECONDS = PATIENCE_S

MODELS: dict[str, dict[str, Callable[[], onnx.ModelProto]]] = {
    **{f"identity_{name.lower()}": {"1": partial(zoo.identity, name)} for name in zoo.ONNX_TYPES},
    "classifier": {"1": zoo.classifier},
    "divide": {"1": partial(zoo.binary, "Div", "INT32")},
    "gather": {"1": zoo.gather},
    "mixed": {"1": zoo.mixed},
    "pair": {"1": partial(zoo.versioned, 1), "2": partial(zoo.versioned, 2)},
    "scalar": {"1": partial(zoo.affine, 2.0, 1.0, ())},
    "slow": {"1": partial(zoo.looping, zoo.SLOW_STEPS)},
    "steps": {"1": partial(zoo.looping, None)},
    "wide": {"1": partial(zoo.widening, 250_000)},
}
CONFIG = {"name": "any", "backend": "onnxruntime", "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": ["3"]}]}


class Layout:
    """A repository that knows one model and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, str | None]] = []

    async def load(self, model: str, config: str | None, author: object = None) -> None:
        """Remember it."""
        self._check("load", model, config)

    async def unload(self, model: str, author: object = None) -> None:
        """Remember it."""
        self._check("unload", model, None)

    async def feedback(self, model: str, reported: Sequence[Feedback]) -> FeedbackResult:
        """Find nothing."""
        return FeedbackResult()

    def _check(self, verb: str, model: str, config: str | None) -> None:
        if model != "pair":
            raise unknown_model(model)
        self.asked.append((verb, model, config))


class Worker:
    """What tests may ask of the running worker; ``address`` is where it listens."""

    def __init__(self, folder: Path, options: GrpcOptions, kind: Kind) -> None:
        self.kind = kind
        self.slot = Slot.in_process()
        self.layout = Layout()
        self.address = ""
        self._folder = folder
        self._options = options
        self._blocks = {
            (name, version): 1 + index
            for index, (name, version) in enumerate((name, version) for name in MODELS for version in MODELS[name])
        }
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="worker", daemon=True)
        self._thread.start()
        self.run(self._start())

    async def _start(self) -> None:
        self.plane = DataPlane(self.slot, lambda block: Totals.of([self.slot], block), self.layout, 30_000_000_000)
        self.plane.publish(RoutingTable({name: self._entry(name) for name in MODELS} | _LOADING), self._blocks)
        self.plane.mark_ready()
        self.server = self.kind(self.plane, self._options)
        self.address = f"127.0.0.1:{await self.server.start('127.0.0.1', 0)}"

    async def _stop(self) -> None:
        await self.server.stop(0)
        served = {answer[0] for entry in self.plane.routing_table.models.values() for answer in entry.routes.values()}
        self.plane.publish(RoutingTable(), {})
        await asyncio.gather(*[item.close() for item in served])

    def _entry(self, name: str) -> ModelEntry:
        served, statuses = {}, {}
        for version in MODELS[name]:
            path = self._folder / name / version / "model.onnx"
            model = engine.load(path, ModelOptions(), 1, proof_of(path))
            block = self.slot.block(self._blocks[name, version])
            served[version] = LoadedVersion(VersionIdentity(name, version), model, ModelOptions(), CONFIG, block)
            statuses[version] = VersionStatus(name, version, ReadyState.READY)
        return build_model_entry(ModelSpec(name), served, statuses)

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Await something on the worker's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CALL_SECONDS)

    def call(self, work: Callable[[], Result]) -> Result:
        """Call something on the worker's loop."""

        async def called() -> Result:
            return work()

        return self.run(called())

    def outcomes(self, model: str = "", version: str = "1") -> dict[str, int]:
        """How requests for a version ended, so far; without a model, those that reached no version."""
        block = self._blocks[model, version] if model else 0
        counts: dict[str, int] = {}
        for _, _, outcome, count in Totals.of([self.slot], block).requests():
            counts[outcome] = counts.get(outcome, 0) + count
        return counts

    def awaits(
        self, *expected: Mapping[str, int], model: str = "", version: str = "1", since: Mapping[str, int] | None = None
    ) -> None:
        """Wait until just one of these outcomes came in beyond ``since``: a call is counted after its answer."""
        earlier = since or {}

        def arrived() -> bool:
            added = {kind: count - earlier.get(kind, 0) for kind, count in self.outcomes(model, version).items()}
            return {kind: count for kind, count in added.items() if count} in expected

        wait_until(arrived, CALL_SECONDS, f"{expected} is counted")

    def settles(self, model: str, seconds: float = CALL_SECONDS) -> None:
        """Wait until no request of a model's version 1 is under way."""
        wait_until(lambda: self.totals(model).inflight == 0, seconds, "nothing is under way")

    def begun(self, model: str) -> int:
        """Requests for a model's version 1 that run or have ended: it only grows, so that no look comes too late."""
        return self.totals(model).inflight + sum(self.outcomes(model).values())

    def totals(self, model: str, version: str = "1") -> Totals:
        """All counts of a version."""
        return Totals.of([self.slot], self._blocks[model, version])

    def close(self) -> None:
        """Stop at once."""
        self.run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CALL_SECONDS)
        self._loop.close()


_LOADING = {
    "loading": build_model_entry(ModelSpec("loading"), {}, {"1": VersionStatus("loading", "1", ReadyState.LOADING)})
}


def build(folder: Path) -> Path:
    """Write the models."""
    for name, versions in MODELS.items():
        zoo.place(folder, name, {version: make() for version, make in versions.items()})
    return folder


@contextmanager
def running(folder: Path, options: GrpcOptions | None = None, kind: Kind = Http2Server) -> Iterator[Worker]:
    """A worker, stopped at the end."""
    worker = Worker(folder, options or GrpcOptions(), kind)
    try:
        yield worker
    finally:
        worker.close()


def facts(metadata: object) -> Mapping[str, str]:
    """Metadata as a mapping."""
    return dict(metadata or ())  # type: ignore[call-overload,no-any-return]
