"""The cases of Triton's own tests of its dynamic batcher: what runs at once, what waits, and what shares a run.

As there, sizes 2 and 6 are preferred of at most 8. The delay is a minute: what runs while these tests do did not wait.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic_ns

import numpy as np
import pytest
from onnx import helper

from penstock.core.batching import RowProof
from penstock.core.labels import Protocol, Route
from penstock.core.tensors import Tensor
from penstock.engine import model as engine
from penstock.monitor.counters.slot import Slot
from penstock.registry.config import model_config
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.requested_outputs import RequestedOutput
from penstock.serving.version_info import VersionIdentity
from tests import zoo
from tests.harness import PATIENCE_S

DELAY_NS = 60_000_000_000
BATCHING = {"preferred_batch_size": [2, 6], "max_queue_delay_microseconds": DELAY_NS // 1000}


@dataclass(frozen=True)
class Asked:
    """A request of so many rows, for all outputs or some."""

    rows: int
    outputs: tuple[str, ...] | None = None
    columns: int = 3


@dataclass
class Case:
    """Requests that come one after the other, the sizes of the runs that must follow at once, and how many wait."""

    requests: Sequence[Asked]
    runs: Sequence[int]
    waiting: int = 0


CASES = {
    "static batch of a preferred size": Case([Asked(2)], [2]),
    "static batch of the largest preferred size": Case([Asked(6)], [6]),
    "static batch less than any preferred size": Case([Asked(1)], [], 1),
    "static batch of no preferred size": Case([Asked(3)], [], 1),
    "static batch greater than the largest preferred size": Case([Asked(7)], [7]),
    "static batch of the maximum": Case([Asked(8)], [8]),
    "two that make up a preferred size": Case([Asked(1), Asked(1)], [2]),
    "two that make up the largest": Case([Asked(3), Asked(3)], [6]),
    "two that make up none": Case([Asked(1), Asked(3)], [], 2),
    "the second is greater than the largest": Case([Asked(3), Asked(7)], [3, 7]),
    "the second does not fit the largest": Case([Asked(3), Asked(4)], [3], 1),
    "the second does not fit the maximum": Case([Asked(5), Asked(5)], [5], 1),
    "the same output": Case([Asked(1, ("sum",)), Asked(1, ("sum",))], [2]),
    "different outputs": Case([Asked(1, ("sum",)), Asked(1, ("twice",))], [2]),
    "different orders of outputs": Case([Asked(1, ("twice", "sum")), Asked(1)], [2]),
    "another shape": Case([Asked(1), Asked(1, columns=2)], [1], 1),
}


class World:
    def __init__(self, folder: Path) -> None:
        nodes = [helper.make_node("Mul", ["x", "two"], ["twice"]), helper.make_node("Add", ["x", "one"], ["sum"])]
        constants = [zoo.constant("two", np.array(2, np.float32)), zoo.constant("one", np.array(1, np.float32))]
        outputs = [zoo.value(name, "FP32", ("n", "m")) for name in ("sum", "twice")]
        zoo.save(zoo.model(nodes, [zoo.value("x", "FP32", ("n", "m"))], outputs, constants), folder / "model.onnx")
        options = model_config.read(json.dumps({"max_batch_size": 8, "dynamic_batching": BATCHING}), folder)
        model = engine.load(folder / "model.onnx", options, 1, RowProof(True))
        self.version = LoadedVersion(VersionIdentity("m", "1"), model, options, {}, Slot.in_process().block(1))
        self.ended: list[InferCall] = []
        self.changed = asyncio.Event()

    def call(self, number: int, asked: Asked) -> InferCall:
        now = monotonic_ns()
        requested = None if asked.outputs is None else [RequestedOutput(name) for name in asked.outputs]
        data = np.full((asked.rows, asked.columns), number, np.float32)
        tensors = [Tensor("x", "FP32", data)]
        return InferCall(
            self.version, Route.STABLE, Protocol.GRPC, str(number), tensors, requested, now + 2 * DELAY_NS, now
        )

    def on_done(self, call: InferCall) -> None:
        self.ended.append(call)
        self.changed.set()

    async def until_ended(self, number: int) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while len(self.ended) < number:
                self.changed.clear()
                await self.changed.wait()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_what_tritons_batcher_does(tmp_path: Path, case: Case) -> None:
    async def story() -> None:
        world = World(tmp_path)
        calls = [world.call(number, asked) for number, asked in enumerate(case.requests)]
        cancels = []
        for call in calls:
            assert not world.version.prepare_inline(call)
            cancels.append(world.version.enqueue(call, world.on_done))
        await world.until_ended(len(calls) - case.waiting)
        runs = [call.run_rows for call in sorted(world.ended, key=lambda item: item.started_ns) if call.run_rows > 0]
        assert runs == list(case.runs)
        for call, asked in zip(calls, case.requests, strict=True):
            if call in world.ended:
                names = asked.outputs or ("sum", "twice")
                value = float(call.id)
                expected = {"sum": value + 1, "twice": 2 * value}
                answer = [(output.name, output.data.tolist()) for output in call.outputs]
                assert answer == [(name, [[expected[name]] * asked.columns] * asked.rows) for name in names]
        assert world.version.limiter.in_system == case.waiting
        for cancel in cancels:
            cancel()
        await world.version.close()

    asyncio.run(story())
