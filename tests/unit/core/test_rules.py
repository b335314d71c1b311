"""The small pure rules: deadlines, placement, histogram edges, the classification extension, the fault tables."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.classification import top_classes
from penstock.core.deadlines import deadline_ns
from penstock.core.errors import KINDS, Fault, InvalidInput
from penstock.core.labels import GRPC_STATUS, HTTP_STATUS, OUTCOMES
from penstock.core.placement import Parallelism, choose_parallelism, runs_inline
from penstock.core.tensors import Tensor


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [([], 1_060), ([None], 1_060), ([None, 20], 1_020), ([30, 20], 1_020), ([200], 1_200), ([0], 1_000)],
)
def test_the_smallest_stated_limit_wins(timeouts: list[int | None], expected: int) -> None:
    assert deadline_ns(1_000, timeouts, 60) == expected


@pytest.mark.parametrize(
    ("run_ns", "elements", "measured", "inline"),
    [
        (None, 30, 30, False),
        (20_000, 30, 30, True),
        (20_000, 30 * 24, 30, True),
        (20_000, 30 * 26, 30, False),
        (600_000, 0, 30, False),
        (600_000, 30, 30, False),
    ],
)
def test_short_runs_stay_on_the_loop(run_ns: int | None, elements: int, measured: int, inline: bool) -> None:
    assert runs_inline(run_ns, elements, measured, budget_ns=500_000) is inline


@pytest.mark.parametrize(
    ("waiting", "wide", "narrow", "cores", "expected"),
    [
        (1, 0, 0, 4, Parallelism.MULTI_THREADED),
        (3, 0, 0, 4, Parallelism.MULTI_THREADED),
        (4, 0, 0, 4, Parallelism.SINGLE_THREADED),
        (9, 1, 0, 4, None),
        (1, 0, 3, 4, Parallelism.SINGLE_THREADED),
        (1, 0, 2, 4, None),
        (2, 0, 2, 4, Parallelism.SINGLE_THREADED),
        (1, 0, 0, 2, Parallelism.MULTI_THREADED),
        (1, 0, 1, 2, Parallelism.SINGLE_THREADED),
    ],
)
def test_runs_stay_on_a_core_each_once_there_are_enough(
    waiting: int, wide: int, narrow: int, cores: int, expected: Parallelism | None
) -> None:
    assert choose_parallelism(waiting, wide, narrow, cores) is expected


@given(st.integers(2, 8), st.lists(st.integers(0, 3), min_size=1, max_size=200))
def test_no_run_waits_for_ever_and_none_runs_beside_a_wide_one(cores: int, steps: list[int]) -> None:
    """``steps``: 0 and 1 let a run come, 2 one end, 3 two come."""
    waiting = wide = narrow = 0
    for step in [*steps, *[2] * (2 * len(steps) + cores)]:
        waiting += (1, 1, 0, 2)[step]
        if step == 2:
            wide, narrow = (0, narrow) if wide else (0, max(0, narrow - 1))
        while waiting and (found := choose_parallelism(waiting, wide, narrow, cores)) is not None:
            waiting -= 1
            wide, narrow = (wide + 1, narrow) if found is Parallelism.MULTI_THREADED else (wide, narrow + 1)
            assert wide + narrow <= cores
            assert not wide or wide + narrow == 1
        assert not waiting or wide or narrow
    assert not waiting


def test_every_fault_has_a_place_in_both_tables() -> None:
    kinds = {kind.kind for kind in KINDS}
    assert set(HTTP_STATUS) == set(GRPC_STATUS) == set(OUTCOMES) == {"ok"} | kinds
    faults, found = [Fault], set()
    while faults:
        faults = [fault for item in faults for fault in item.__subclasses__() if fault.__module__ == Fault.__module__]
        found |= set(faults)
    assert {fault for fault in found if "kind" in vars(fault)} == set(KINDS)


def test_top_classes_of_a_batch() -> None:
    scores = Tensor("p", "FP32", np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], "<f4"))
    strings = top_classes(scores, 2, ("cat", "dog"), batching=True)
    assert strings.data.tolist() == [["0.700000:1:dog", "0.200000:2"], ["0.500000:0:cat", "0.250000:1:dog"]]


def test_more_classes_than_there_are() -> None:
    strings = top_classes(Tensor("p", "INT64", np.array([3, 5])), 9, (), batching=False)
    assert strings.data.tolist() == ["5:1", "3:0"]


@pytest.mark.parametrize(("datatype", "count"), [("BYTES", 1), ("FP32", 0)])
def test_impossible_classifications_are_refused(datatype: str, count: int) -> None:
    with pytest.raises(InvalidInput):
        top_classes(Tensor("p", datatype, np.zeros((1, 2), "<f4")), count, (), batching=True)
