"""Gates as a table: what lets a version through, and the reason of each refusal."""

from typing import Any

import pytest

from penstock.core.errors import InvalidInput
from penstock.core.gates import Candidate, Gates, judge
from penstock.core.policies import policy_in

SIGNATURE = {"inputs": [{"name": "x"}]}


def version(
    size: int = 1000, accuracy: float | None = 0.9, card: dict[str, Any] | None = None, **facts: Any
) -> Candidate:
    metadata: dict[str, Any] = {"card": card} if card else {}
    if accuracy is not None:
        metadata["metrics"] = {"accuracy": accuracy, "mae": 1 - accuracy}
    return Candidate(size, metadata, {"signature": SIGNATURE, "p50_us": 20.0, "memory_bytes": 5000, **facts})


def gates(**stated: Any) -> Gates:
    found = policy_in({"retraining": {"gates": stated}}).limits.gates
    assert isinstance(found, Gates)
    return found


@pytest.mark.parametrize(
    ("asked", "candidate", "reason"),
    [
        ({}, version(), ""),
        ({}, version(signature={}), "inputs or outputs"),
        ({"same_signature": False}, version(signature={}), ""),
        ({"max_bytes": 999}, version(), "it takes 1000 bytes; 999 may"),
        ({"max_memory_bytes": 4000}, version(), "bytes of memory"),
        ({"max_run_us": 10}, version(), "a run takes 20 microseconds; 10 may"),
        ({"max_slower": 1.5}, version(p50_us=31.0), "1.55 times as long"),
        ({"max_slower": 1.5}, version(p50_us=29.0), ""),
        ({"card": ["summary"]}, version(), "nothing of 'summary'"),
        ({"card": ["summary"]}, version(card={"summary": "adds"}), ""),
        ({"beats": {"metric": "accuracy", "by": 0.01}}, version(accuracy=0.92), ""),
        ({"beats": {"metric": "accuracy", "by": 0.05}}, version(accuracy=0.92), "a margin of 0.05 is asked"),
        ({"beats": {"metric": "mae", "by": 0.01, "lower": True}}, version(accuracy=0.92), ""),
        ({"beats": {"metric": "f1"}}, version(), "without the metric 'f1'"),
    ],
)
def test_gates(asked: dict[str, Any], candidate: Candidate, reason: str) -> None:
    found = judge(gates(**asked), candidate, version())
    assert (reason in "; ".join(found)) if reason else found == []


def test_without_a_champion_nothing_is_compared() -> None:
    assert judge(gates(max_slower=1.0), version(signature={}), None) == []
    assert judge(gates(beats={"metric": "accuracy"}), version(accuracy=None), None) != []
    assert judge(gates(beats={"metric": "accuracy"}), version(), version(accuracy=None)) == []


@pytest.mark.parametrize(
    "stated", [3, {"moon": 1}, {"max_bytes": 0}, {"card": "summary"}, {"same_signature": 1}, {"beats": {"by": 1}}]
)
def test_faulty_gates_are_refused(stated: Any) -> None:
    with pytest.raises(InvalidInput, match=r"retraining\.gates"):
        policy_in({"retraining": {"gates": stated}})
