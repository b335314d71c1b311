"""The checkpoint of a run: what is read back, what is cut off, and when it is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.core.errors import Conflict, DataLoss
from penstock.core.tensors import Tensor
from penstock.scoring.checkpoint import ScoringCheckpoint
from penstock.scoring.rows import ScoredRows

IDENTITY = {"input": "sha256:1", "model": ["sha256:2"]}


def scored(number: int) -> ScoredRows:
    texts = np.empty((2, 1), object)
    texts[:] = [["é"], [str(number)]]
    outputs = [Tensor("y", "FP32", np.full((2, 3), number, np.float32)), Tensor("t", "BYTES", texts)]
    explained = [Tensor("attribution_1", "FP64", np.array([number, -0.5]))]
    return ScoredRows(3, outputs, {1: "no number"}, [0], 0.5, explained=explained)


def write(target: Path, count: int) -> Path:
    with ScoringCheckpoint(target, IDENTITY) as checkpoint:
        assert list(checkpoint.open(resume=False)) == []
        for number in range(count):
            checkpoint.append(scored(number))
    return target.with_name(target.name + ".checkpoint")


def read(target: Path) -> list[ScoredRows]:
    with ScoringCheckpoint(target, IDENTITY) as checkpoint:
        return list(checkpoint.open(resume=True))


def test_results_come_back_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", 2)
    found = read(tmp_path / "out.csv")
    assert len(found) == 2
    for number, item in enumerate(found):
        made = scored(number)
        assert (item.rows, item.faults, item.disagreeing, item.max_abs_diff) == (3, {1: "no number"}, [0], 0.5)
        found_tensors, made_tensors = (*item.outputs, *item.explained), (*made.outputs, *made.explained)
        assert len(item.explained) == 1
        for one, other in zip(found_tensors, made_tensors, strict=True):
            assert (one.name, one.datatype, one.data.dtype) == (other.name, other.datatype, other.data.dtype)
            assert one.data.tolist() == other.data.tolist()


def test_a_new_run_forgets_earlier_results(tmp_path: Path) -> None:
    write(tmp_path / "out.csv", 3)
    write(tmp_path / "out.csv", 1)
    assert len(read(tmp_path / "out.csv")) == 1


@given(cut=st.integers(0, 400), flips=st.booleans())
@settings(max_examples=30)
def test_a_torn_end_is_cut_off(tmp_path_factory: pytest.TempPathFactory, cut: int, flips: bool) -> None:
    target = tmp_path_factory.mktemp("torn") / "out.csv"
    file = write(target, 3)
    data = file.read_bytes()
    kept = data[: len(data) - cut] if cut else data
    file.write_bytes(kept[:-1] + bytes([kept[-1] ^ 255]) if flips and kept else kept)
    before = read(target)
    assert [item.outputs[0].data[0, 0] for item in before] == list(range(len(before)))
    with ScoringCheckpoint(target, IDENTITY) as checkpoint:
        assert len(list(checkpoint.open(resume=True))) == len(before)
        checkpoint.append(scored(7))
    after = read(target)
    assert [item.outputs[0].data[0, 0] for item in after] == [*range(len(before)), 7]


@pytest.mark.parametrize("other", [{"input": "sha256:9"}, {"model": ["sha256:9"]}])
def test_another_input_or_model_is_refused(tmp_path: Path, other: dict[str, object]) -> None:
    write(tmp_path / "out.csv", 1)
    with ScoringCheckpoint(tmp_path / "out.csv", {**IDENTITY, **other}) as checkpoint, pytest.raises(DataLoss):
        checkpoint.open(resume=True)


def test_two_runs_do_not_write_one_result(tmp_path: Path) -> None:
    with ScoringCheckpoint(tmp_path / "out.csv", IDENTITY) as checkpoint:
        checkpoint.open(resume=False)
        with ScoringCheckpoint(tmp_path / "out.csv", IDENTITY) as second, pytest.raises(Conflict):
            second.open(resume=True)


def test_a_complete_result_needs_none(tmp_path: Path) -> None:
    with ScoringCheckpoint(tmp_path / "out.csv", IDENTITY) as checkpoint:
        checkpoint.open(resume=False)
        checkpoint.remove()
    assert list(tmp_path.iterdir()) == []
