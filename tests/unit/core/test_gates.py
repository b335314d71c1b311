"""Gates as a table: what lets a version through, and the reason of each refusal."""

from typing import Any

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.errors import InvalidInput
from penstock.core.gates import CandidateFacts, Exam, ExamScores, Gates, check_exam, check_gates
from penstock.core.policies import parse_policy

SIGNATURE = {"inputs": [{"name": "x"}]}


def version(
    size: int = 1000, accuracy: float | None = 0.9, card: dict[str, Any] | None = None, **facts: Any
) -> CandidateFacts:
    metadata: dict[str, Any] = {"card": card} if card else {}
    if accuracy is not None:
        metadata["metrics"] = {"accuracy": accuracy, "mae": 1 - accuracy}
    return CandidateFacts(size, metadata, {"signature": SIGNATURE, "p50_us": 20.0, "memory_bytes": 5000, **facts})


def gates(**stated: Any) -> Gates:
    found = parse_policy({"retraining": {"gates": stated}}, parse_schedule).limits.gates
    assert isinstance(found, Gates)
    return found


@pytest.mark.parametrize(
    ("asked", "candidate", "reason"),
    [
        ({}, version(), ""),
        ({}, version(signature={}), "inputs or outputs"),
        ({"same_signature": False}, version(signature={}), ""),
        ({"max_bytes": 999}, version(), "it takes 1000 bytes; the limit is 999"),
        ({"max_memory_bytes": 4000}, version(), "bytes of memory"),
        ({"max_run_us": 10}, version(), "a run takes 20 microseconds; the limit is 10"),
        ({"max_memory_bytes": 4000}, version(memory_bytes=None), "did not measure how many bytes of memory it takes"),
        ({"max_run_us": 10}, version(p50_us=None), "did not measure how many microseconds a run takes"),
        ({"max_slower": 1.5}, version(p50_us=None), "did not measure how long a run takes"),
        ({"max_slower": 1.5}, version(p50_us=31.0), "1.55 times as long"),
        ({"max_slower": 1.5}, version(p50_us=29.0), ""),
        ({"card": ["summary"]}, version(), "nothing of 'summary'"),
        ({"card": ["summary"]}, version(card={"summary": "adds"}), ""),
        ({"beats": {"metric": "accuracy", "by": 0.01}}, version(accuracy=0.92), ""),
        ({"beats": {"metric": "accuracy", "by": 0.05}}, version(accuracy=0.92), "a margin of 0.05 is required"),
        ({"beats": {"metric": "mae", "by": 0.01, "lower": True}}, version(accuracy=0.92), ""),
        ({"beats": {"metric": "f1"}}, version(), "without the metric 'f1'"),
    ],
)
def test_gates_pass_or_give_a_reason(asked: dict[str, Any], candidate: CandidateFacts, reason: str) -> None:
    found = check_gates(gates(**asked), candidate, version())
    assert (reason in "; ".join(found)) if reason else found == []


def test_without_a_champion_nothing_is_compared() -> None:
    assert check_gates(gates(max_slower=1.0), version(signature={}), None) == []
    assert check_gates(gates(beats={"metric": "accuracy"}), version(accuracy=None), None) != []
    assert check_gates(gates(beats={"metric": "accuracy"}), version(), version(accuracy=None)) == []


@pytest.mark.parametrize(
    "stated", [3, {"moon": 1}, {"max_bytes": 0}, {"card": "summary"}, {"same_signature": 1}, {"beats": {"by": 1}}]
)
def test_faulty_gates_are_refused(stated: Any) -> None:
    with pytest.raises(InvalidInput, match=r"retraining\.gates"):
        parse_policy({"retraining": {"gates": stated}}, parse_schedule)


def probed(*outputs: dict[str, Any]) -> dict[str, Any]:
    return {"probes": {"form": 1, "cases": [{"inputs": "zeros", "deterministic": True, "outputs": list(outputs)}]}}


def output(sample: list[Any], shape: list[int], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": "y", "datatype": datatype, "shape": shape, "sha256": "", "sample": sample}


PROBABILITIES = probed(output([0.2, 0.8], [1, 2]))


@pytest.mark.parametrize(
    ("candidate", "champion", "reason"),
    [
        (probed(output([0.3, 0.7], [1, 2])), PROBABILITIES, ""),
        (probed(output(["nan", 0.7], [1, 2])), PROBABILITIES, "contains a value that is not a number"),
        (probed(output(["nan", 0.7], [1, 2])), probed(output(["inf", 0.7], [1, 2])), ""),
        (probed(output(["nan"], [1, 1], "BYTES")), {}, ""),
        (probed(output(["nan"], [1, 1])), {}, "contains a value that is not a number"),
        (probed(output([0.3], [1, 1])), PROBABILITIES, "has the shape [1, 1], not [1, 2]"),
        (probed(output([0.3, 0.9], [1, 2])), PROBABILITIES, "is not a probability"),
        (probed(output([3.0, -2.0], [1, 2])), probed(output([2.0, 1.0], [1, 2])), ""),
        ({}, PROBABILITIES, ""),
    ],
)
def test_answers_to_made_up_inputs_have_to_be_sane(
    candidate: dict[str, Any], champion: dict[str, Any], reason: str
) -> None:
    found = check_gates(gates(), version(**candidate), version(**champion))
    assert (reason in "; ".join(found)) if reason else found == []
    assert check_gates(gates(sane=False), version(**candidate), version(**champion)) == []


def test_three_reasons_are_enough() -> None:
    answers = [output(["nan"], [1, 1])] * 4
    assert len(check_gates(gates(), version(**probed(*answers)), version())) == 3


EXAM = Exam(ExamScores(200, 0.9, 0.8))


@pytest.mark.parametrize(
    ("asked", "exam", "reason"),
    [
        ({}, EXAM, ""),
        ({"by": 0.1}, EXAM, ""),
        ({"by": 0.11}, EXAM, "is 0.9, the answering version's 0.8; a margin of 0.11"),
        ({"by": -0.05}, Exam(ExamScores(200, 0.8, 0.84)), ""),
        ({}, Exam(ExamScores(200, None, 0.8)), "cannot be computed"),
        ({"by": 0.5}, Exam(ExamScores(200, 0.9, None)), ""),
        ({"metric": "mae", "by": 0.1}, Exam(ExamScores(200, 0.7, 0.8)), ""),
        ({"metric": "mae"}, EXAM, "mae on 200 held-out rows"),
        ({}, Exam(ExamScores(200, 0.9, 0.8), broken=3), "3 of 200 held-out rows with a value that is not a number"),
        (
            {"slices": {"columns": ["site"], "floor": 0.7}},
            Exam(EXAM.whole, {"site is 1": ExamScores(40, 0.6, 0.5)}),
            "where site is 1 (40 held-out rows)",
        ),
        (
            {"slices": {"columns": ["site"], "floor": 0.7}},
            Exam(EXAM.whole, {"site is 1": ExamScores(29, 0.1, 0.5)}),
            "",
        ),
        (
            {"slices": {"columns": ["site"], "fall_by": 0.1}},
            Exam(EXAM.whole, {"site is 1": ExamScores(40, 0.6, 0.8)}),
            "the answering version's 0.8; the limit is a loss of 0.1",
        ),
        ({"noise": {"sd": 0.1, "fall_by": 0.05}}, Exam(EXAM.whole, noised=0.86), ""),
        ({"noise": {"sd": 0.1, "fall_by": 0.05}}, Exam(EXAM.whole, noised=0.8), "with noise of 0.1"),
        (
            {"metric": "mae", "noise": {"sd": 0.1, "fall_by": 0.05}},
            Exam(ExamScores(9, 0.1, 0.2), noised=0.2),
            "with noise",
        ),
    ],
)
def test_exams_are_marked(asked: dict[str, Any], exam: Exam, reason: str) -> None:
    held_out = gates(held_out={"metric": "accuracy", **asked}).held_out
    assert held_out is not None
    found = check_exam(held_out, exam)
    assert (reason in "; ".join(found)) if reason else found == []


@pytest.mark.parametrize(
    "stated",
    [
        3,
        {},
        {"metric": "luck"},
        {"metric": "accuracy", "moon": 1},
        {"metric": "accuracy", "by": "much"},
        {"metric": "accuracy", "share": 1.0},
        {"metric": "accuracy", "min_rows": 50.5},
        {"metric": "accuracy", "slices": {"floor": 0.5}},
        {"metric": "accuracy", "slices": {"columns": "site"}},
        {"metric": "accuracy", "slices": 3},
        {"metric": "accuracy", "noise": {"sd": 11}},
    ],
)
def test_faulty_exams_are_refused(stated: Any) -> None:
    with pytest.raises(InvalidInput, match=r"retraining\.gates\.held_out"):
        parse_policy({"retraining": {"gates": {"held_out": stated}}}, parse_schedule)
