"""The drift report of a file: the monitor's verdicts, over all rows of it."""

import numpy as np
import pytest

from penstock.core.errors import NotFound
from penstock.core.signature import Signature, TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.columns import input_columns, output_columns
from penstock.monitor.reference import TRAINING, encode_reference
from penstock.monitor.reference_builder import build
from penstock.scoring.drift import BatchDrift

SIGNATURE = Signature([TensorSpec("x", "FP32", (-1, 3))], [TensorSpec("p", "FP32", (-1, 2))], batching=True)
NAMES = ("a", "b", "c")
RNG = np.random.default_rng(5)


def rows(count: int, shift: float = 0.0) -> tuple[list[Tensor], list[Tensor]]:
    x = RNG.standard_normal((count, 3))
    x[:, 1] += shift
    p = 1 / (1 + np.exp(-x[:, 0]))
    outputs = np.stack([1 - p, p], axis=1).astype(np.float32)
    return [Tensor("x", "FP32", x.astype(np.float32))], [Tensor("p", "FP32", outputs)]


def reference() -> dict[str, object]:
    inputs, outputs = rows(12_000)
    columns = (input_columns(SIGNATURE.inputs, True, NAMES), output_columns(SIGNATURE.outputs, True))
    names = [[*side.numbers, *side.labels] for side in columns]
    seen = columns[0](inputs)
    assert seen is not None
    times = np.linspace(0.0, 12_000 * 300.0, 12_000)  # hours that differ would be baselines of their own
    return encode_reference(build((names[0], names[1]), seen, columns[1](outputs), TRAINING, times))


REFERENCE = reference()


@pytest.mark.parametrize(("shift", "drifting"), [(0.0, []), (0.5, ["b"])])
def test_columns_that_differ_from_the_reference_are_named(shift: float, drifting: list[str]) -> None:
    drift = BatchDrift(REFERENCE, SIGNATURE, NAMES, "m:1")
    for _ in range(3):
        drift.add(*rows(2500, shift))
    drift.add([], [])
    document = drift.document()
    assert (document["source"], document["drifting"], document["violated"]) == ("batch", drifting, [])
    assert document["window"] == {"rows": 7500}
    assert document["rows"]["counted"] == 7500  # and not a sample of them


def test_wide_rows_are_all_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.scoring.drift.MOST_VALUES", 30)
    drift = BatchDrift(REFERENCE, SIGNATURE, NAMES, "m:1")
    drift.add(*rows(95))
    assert drift.document()["rows"]["counted"] == 95


def test_a_version_needs_a_reference() -> None:
    with pytest.raises(NotFound, match="m:1 has no reference"):
        BatchDrift(None, SIGNATURE, NAMES, "m:1")
