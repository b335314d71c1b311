"""The rollout drill: bad kinds and a good one through the whole server, its graphs, and the templates beside it."""

import math

import numpy as np
import onnxruntime as ort
import pytest

from loadtests.drill.graphs import (
    BROKEN,
    CLASSES,
    FEATURES,
    MARK,
    build_classifier,
    expected_answers,
    fails,
    loops,
    not_a_number,
    stuck,
    turned,
)
from loadtests.drill.kinds import KINDS
from loadtests.drill.run import drill
from loadtests.drill.templates import PROMOTED, ROLLED_BACK, UNDECIDED, Interval, judge_by_argo, judge_by_flagger
from loadtests.drill.traffic import Answered, count_intervals

GOOD, BAD = Interval(100, 0, 5.0), Interval(100, 20, 5.0)


@pytest.mark.parametrize(
    "name",
    [
        "errors at once",
        "crashing the worker",
        "identical",
        pytest.param("errors late, a fleet's leader frozen", marks=pytest.mark.slow),
    ],
)
def test_bad_kinds_and_a_good_one(name: str) -> None:
    """Leaders of fleets that freeze are in tests/integration/traffic/test_leadership.py at each change."""
    kind = next(kind for kind in KINDS if kind.name == name)
    outcome = drill(kind, lambda _: None)
    assert outcome.right, outcome
    assert (outcome.harmed > 0) is kind.bad
    assert outcome.requests > outcome.harmed


def test_there_are_ten_bad_and_five_good_kinds_and_one_each_of_a_fleet() -> None:
    for fleet, numbers in ((False, [10, 5]), (True, [1, 1])):
        assert [sum(kind.bad is bad for kind in KINDS if kind.fleet is fleet) for bad in (True, False)] == numbers
    assert len({kind.name for kind in KINDS}) == len(KINDS)


def run(content: bytes, rows: np.ndarray) -> np.ndarray:
    found: np.ndarray = ort.InferenceSession(content, providers=["CPUExecutionProvider"]).run(None, {"x": rows})[0]
    return found


def rows(marked: bool) -> np.ndarray:
    made = np.random.default_rng(3).normal(size=(50, FEATURES)).astype(np.float32)
    made[:, -1] = MARK if marked else 0.0
    return made


@pytest.mark.parametrize("fault", [None, fails, loops(2), turned, stuck, not_a_number])
def test_what_is_not_marked_is_answered_as_by_the_sound_model(fault: object) -> None:
    found = run(build_classifier(fault), rows(marked=False))  # type: ignore[arg-type]
    assert np.argmax(found, axis=1).tolist() == expected_answers(rows(marked=False)).tolist()


def test_what_is_marked_is_answered_otherwise() -> None:
    marked = rows(marked=True)
    right = expected_answers(marked)
    with pytest.raises(Exception, match="division by zero"):
        run(build_classifier(fails), marked)
    assert (
        np.argmax(run(build_classifier(turned), marked), axis=1).tolist() == ((right + CLASSES - 1) % CLASSES).tolist()
    )
    assert set(np.argmax(run(build_classifier(stuck), marked), axis=1).tolist()) == {0}
    assert np.isnan(run(build_classifier(not_a_number), marked)).all()
    assert np.argmax(run(build_classifier(loops(2)), marked), axis=1).tolist() == right.tolist()
    with pytest.raises(Exception, match=r"(?i)protobuf"):
        run(BROKEN, marked)


@pytest.mark.parametrize(
    ("seen", "by_argo", "by_flagger"),
    [
        ([GOOD], (PROMOTED, 10), (PROMOTED, 5)),
        ([BAD], (ROLLED_BACK, 4), (ROLLED_BACK, 5)),
        ([GOOD, GOOD, BAD], (ROLLED_BACK, 6), (ROLLED_BACK, 7)),
        ([GOOD] * 20 + [BAD], (PROMOTED, 10), (PROMOTED, 5)),
        ([BAD, GOOD], (PROMOTED, 10), (PROMOTED, 6)),
        ([Interval(100, 5, 5.0)], (PROMOTED, 10), (ROLLED_BACK, 5)),
        ([Interval(100, 1, 5.0)], (PROMOTED, 10), (PROMOTED, 5)),
        ([Interval(100, 0, 501.0)], (PROMOTED, 10), (ROLLED_BACK, 5)),
        ([Interval(0, 0, 0.0)], (PROMOTED, 10), (ROLLED_BACK, 5)),
        ([], (UNDECIDED, 0), (UNDECIDED, 0)),
    ],
)
def test_templates_decide_as_their_projects_document(
    seen: list[Interval], by_argo: tuple[str, int], by_flagger: tuple[str, int]
) -> None:
    assert judge_by_argo(seen) == by_argo
    assert judge_by_flagger(seen) == by_flagger


def test_intervals_count_what_the_canary_did() -> None:
    def one(at: float, version: str = "2", status: int = 200, marked: bool = False, right: bool = True) -> Answered:
        return Answered(at, version, status, 0.01, right, marked)

    seen = [
        one(0.1),
        one(0.2, status=500),
        one(0.3, version="1", status=500),
        one(0.4, version="", status=0, marked=True),
        one(0.5, version="", status=0),
        one(0.6, status=400),
        one(1.5, right=False),
        one(2.5),
    ]
    assert count_intervals(seen, 0.0, 2.9, 1.0) == [Interval(4, 2, 10.0), Interval(1, 0, 10.0)]
    assert [answered.harmed for answered in seen] == [False, True, True, True, True, False, True, False]
    assert not math.isnan(Interval(0, 0, 0.0).success)
