"""Masks where calls are observed: samples of shadows show nothing masked, and masked outputs are not remembered."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from time import monotonic_ns
from typing import Any

import numpy as np
import pytest

from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.engine.model import RunInterrupt
from penstock.monitor.answer_segments import AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.counters.slot import Slot
from penstock.monitor.feedback import Feedback
from penstock.monitor.rows import InputsAndOutputs
from penstock.monitor.value_masks import RequestMask, request_mask
from penstock.serving.infer_call import InferCall
from penstock.serving.memory_budget import MemoryBudget
from penstock.serving.observers.row_sampler import RowSampler
from penstock.serving.observers.shadow import ShadowExecutor
from penstock.serving.version_info import VersionIdentity
from tests.calls import answered
from tests.harness import reached

COLUMNS = (
    input_columns([TensorSpec("x", "FP32", (-1, 2)), TensorSpec("who", "BYTES", (-1, 1))], True),
    output_columns([TensorSpec("y", "FP32", (-1, 1)), TensorSpec("z", "FP32", (-1, 1))], True),
)


def call() -> InferCall:
    who = np.empty((1, 1), object)
    who[0, 0] = "from ann@example.org"
    inputs = [Tensor("x", "FP32", np.array([[1, 2]], "<f4")), Tensor("who", "BYTES", who)]
    outputs = [Tensor(name, "FP32", np.array([[number]], "<f4")) for name, number in (("y", 3), ("z", 4))]
    return answered(outputs, "r1", inputs, 1)


def samples(*masks: RequestMask) -> list[dict[str, Any]]:
    """What a shadow shows after a call on which it disagrees, and then with more masks."""

    def rerun(_: InferCall, __: RunInterrupt) -> tuple[list[Tensor], int]:
        return [Tensor(name, "FP32", np.array([[9]], "<f4")) for name in "yz"], 1

    async def story() -> list[dict[str, Any]]:
        slot, memory = Slot.in_process(), MemoryBudget(1 << 20)
        shadow = ShadowExecutor(VersionIdentity("m", "2"), slot.block(1), rerun, memory, lambda: 0.0)
        shadow.set_mask(masks[0])
        one = call()
        one.started_ns = one.ran_ns = monotonic_ns()
        shadow.offer(one)
        await reached(lambda: shadow.ended == 1)
        for mask in masks[1:]:
            shadow.set_mask(mask)
        shadow.close()
        return [sample.request for sample in shadow.worst()]

    return asyncio.run(story())


def shown(sample: dict[str, Any], side: str) -> dict[str, Any]:
    return {tensor["name"]: tensor["data"] for tensor in sample[side]}


def test_samples_of_a_shadow() -> None:
    [sample] = samples(request_mask(COLUMNS, ["x", "z"], ["email"]))
    assert shown(sample, "inputs") == {"who": ["from ***"]}
    assert shown(sample, "outputs") == {"y": [3.0]} and shown(sample, "shadow_outputs") == {"y": [9.0]}


def test_another_mask_drops_earlier_samples() -> None:
    assert samples(request_mask(COLUMNS, [], []), request_mask(COLUMNS, ["who"], [])) == []


class Uncounted:
    def count(self, exchanges: Sequence[InputsAndOutputs]) -> None: ...

    def drop(self, rows: int) -> None: ...


@pytest.mark.parametrize(("hidden", "answer"), [((), 3.0), (("y",), 4.0), (("y", "z"), None)])
def test_masked_outputs_are_not_remembered(tmp_path: Path, hidden: tuple[str, ...], answer: float | None) -> None:
    async def story() -> None:
        sampler = RowSampler(Uncounted(), True, AnswerWriter(tmp_path, "m", "1"), hidden=hidden)
        sampler.offer(call())
        sampler.flush()

    asyncio.run(story())
    joined = AnswerStore(tmp_path).join_feedback("m", [Feedback("r1", 1)], 0.0, 1e12).joined
    assert [row.answer for row in joined] == ([] if answer is None else [answer])
