"""Shared runs that are repeated call by call: which, how they are compared, and what a difference leads to."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest

from penstock.core.batching import BATCHING, RowProof
from penstock.core.labels import Protocol, Route
from penstock.core.options import ModelOptions
from penstock.core.signature import Feeds, Signature
from penstock.core.tensors import Array, Tensor
from penstock.engine import model as engine
from penstock.monitor.counters.slot import Slot
from penstock.monitor.counters.totals import Totals
from penstock.serving.batch_run_check import EVERY, LARGEST_BYTES, PAUSE_NS, BatchRunCheck, compare_alone
from penstock.serving.infer_call import InferCall
from penstock.serving.loaded_version import LoadedVersion
from penstock.serving.version_info import VersionIdentity
from tests.unit.engine.row_independence.cases import Case

CLAIMED = ModelOptions(independent_rows=True, asks_for_batching=True)
BEYOND_TRIALS = """(float[N, 3] x) => (float[N, 3] y) <float many = {1e9}> {
    top = ReduceMax<keepdims = 0>(x) large = Greater(top, many) less = Div(x, many) y = Where(large, less, x)
}"""
"""A rule over the whole run that no trial comes upon."""


def loaded(folder: Path, graph: str, options: ModelOptions = CLAIMED) -> engine.Model:
    path = folder / "model.onnx"
    path.write_bytes(Case("", graph, 17).model().SerializeToString())
    return engine.load(path, options, 1, RowProof(False, "it is not proven"))


class Bench:
    """A check whose work the test runs step by step."""

    def __init__(self) -> None:
        self.now = 10**12
        self.work: list[Callable[[], None]] = []
        self.mismatches: list[str] = []
        self.check = BatchRunCheck(self.work.append, self.mismatches.append, Random(1), lambda: self.now)

    def wait(self) -> int:
        """How many runs go by until one is due."""
        return next(number for number in range(1, 3 * EVERY) if self.check.is_due())


def test_one_run_in_a_thousand_is_due_at_random() -> None:
    gaps = [Bench().wait(), *(bench.wait() for bench in [Bench()] for _ in range(200))]
    assert len(set(gaps)) > 100
    assert 0.85 * EVERY < sum(gaps) / len(gaps) < 1.15 * EVERY


def test_one_run_is_kept_at_a_time_and_then_there_is_a_pause(tmp_path: Path) -> None:
    bench, model = Bench(), loaded(tmp_path, "(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }")
    rows = np.ones((2, 3), np.float32)
    bench.wait()
    bench.check.take(model, ["y"], {"x": rows}, [rows + rows], [1, 1])
    assert not any(bench.check.is_due() for _ in range(5 * EVERY))
    bench.work.pop()()
    assert not any(bench.check.is_due() for _ in range(5 * EVERY))
    bench.now += PAUSE_NS
    assert any(bench.check.is_due() for _ in range(5 * EVERY))
    assert bench.mismatches == []


def test_large_runs_are_not_kept(tmp_path: Path) -> None:
    bench, model = Bench(), loaded(tmp_path, "(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }")
    rows = np.ones((LARGEST_BYTES // 16, 3), np.float32)
    bench.check.take(model, ["y"], {"x": rows}, [rows], [1] * len(rows))
    assert bench.work == []


def test_a_difference_is_reported(tmp_path: Path) -> None:
    bench, model = Bench(), loaded(tmp_path, BEYOND_TRIALS)
    rows = np.array([[1, 2, 3], [4e9, 5, 6]], np.float32)
    bench.check.take(model, ["y"], {"x": rows}, model.run({"x": rows}, ["y"]), [1, 1])
    bench.work.pop()()
    assert bench.mismatches == ["rows got different answers together than alone"]
    model.close()
    bench.check.take(model, ["y"], {"x": rows}, [rows], [1, 1])
    bench.work.pop()()  # unloaded meanwhile: nothing to compare
    assert len(bench.mismatches) == 1


def rounding(mixes: bool) -> engine.Model:
    """A model of labels that tip over with the size of a run, as sums that round otherwise do; or with others in it."""

    def run(outputs: Sequence[str], feeds: Feeds, _: Any) -> list[Array]:
        x = feeds["x"]
        tipped = x[:, 0] + (x[:, 0].max() if mixes else 1e-7 * len(x))
        return [x * 2, (tipped > 1).astype(np.int64)]

    return engine.Model(run, Signature((), ()))


@pytest.mark.parametrize("mixes", [False, True])
def test_labels_that_tip_over_with_the_size_of_a_run_are_no_difference(mixes: bool) -> None:
    model = rounding(mixes)
    feeds: Feeds = {"x": np.array([[1 - 2.5e-7], [0.2], [0.7]])}
    outputs = model.run(feeds, ["a", "b"])
    alone = [model.run({"x": feeds["x"][row : row + 1]}, ["a", "b"])[1][0] for row in range(3)]
    assert alone != outputs[1].tolist()
    difference = compare_alone(model, ["a", "b"], feeds, outputs, [1, 1, 1])
    assert difference == ("rows got different answers together than alone" if mixes else "")


def call_of(version: LoadedVersion, row: list[float]) -> InferCall:
    now = monotonic_ns()
    tensors = [Tensor("x", "FP32", np.array([row], np.float32))]
    return InferCall(version, Route.STABLE, Protocol.REST, "id", tensors, None, now + 10**10, now)


def run_together(version: LoadedVersion, rows: list[list[float]]) -> list[list[float]]:
    calls = [call_of(version, row) for row in rows]
    version._executor._off_loop_until_ns = 0  # on a busy machine a run may have looked long
    assert all(version.prepare_inline(call) for call in calls)
    version.run_inline(calls)
    return [call.outputs[0].data[0].tolist() for call in calls]


def test_a_difference_ends_shared_runs_of_the_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    model, slot, work = loaded(tmp_path, BEYOND_TRIALS), Slot.in_process(), list[Callable[[], None]]()
    config = {"parameters": {"mine": {"string_value": "1"}, BATCHING: {"string_value": model.sharing.text}}}
    rows = [[1.0, 2.0, 3.0], [4e9, 5.0, 6.0]]

    async def story() -> None:
        version = LoadedVersion(VersionIdentity("m", "1"), model, CLAIMED, config, slot.block(1))
        version.check_batch_runs(work.append)
        assert version.sharing.shared
        while not work:
            assert run_together(version, rows)[0] != rows[0]  # what nobody knows yet
        with caplog.at_level(logging.ERROR):
            work.pop()()
            await asyncio.sleep(0)
        assert not version.sharing.shared
        assert version.config["parameters"]["mine"] == {"string_value": "1"}
        mismatches = version.config["parameters"][BATCHING]["string_value"]
        assert mismatches.startswith("every request runs alone: rows got different answers together than alone")
        assert f"model m version 1: {mismatches}" in caplog.text
        for _ in range(3 * EVERY):
            assert run_together(version, rows)[0] == rows[0]
        assert work == []

    asyncio.run(story())
    assert Totals.of([slot], 1).joint_run_mismatches == 1


def test_runs_of_one_call_and_sound_ones_change_nothing(tmp_path: Path) -> None:
    model = loaded(tmp_path, "(float[N, 3] x) => (float[N, 3] y) { y = Add(x, x) }")
    slot, work = Slot.in_process(), list[Callable[[], None]]()

    async def story() -> None:
        version = LoadedVersion(VersionIdentity("m", "1"), model, CLAIMED, {}, slot.block(1))
        version.check_batch_runs(work.append)
        for _ in range(3 * EVERY):
            run_together(version, [[1.0, 2.0, 3.0]])
        assert work == []
        while not work:
            run_together(version, [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
        work.pop()()
        await asyncio.sleep(0)
        assert version.sharing.shared

    asyncio.run(story())
    assert Totals.of([slot], 1).joint_run_mismatches == 0


def test_a_difference_ends_shared_runs_on_one_core_as_well(tmp_path: Path) -> None:
    model, on_one_core = loaded(tmp_path, BEYOND_TRIALS), loaded(tmp_path, BEYOND_TRIALS)
    model.single_threaded = on_one_core
    assert all(item.batch_cost is not None for item in (model, on_one_core))
    version = LoadedVersion(VersionIdentity("m", "1"), model, CLAIMED, {}, Slot.in_process().block(1))

    async def story() -> None:
        version.check_batch_runs(lambda work: work())
        version._stop_sharing("rows differ")

    asyncio.run(story())
    assert all(item.batch_cost is None for item in (model, on_one_core))
    assert version.sharing.reason.startswith("rows differ, in a repeated run")
