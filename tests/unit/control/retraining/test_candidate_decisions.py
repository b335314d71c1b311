"""A person refuses a candidate with a reason; the request stays open, and the version is not rolled out."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from penstock.core.desired import Desired
from penstock.core.errors import Conflict, NotFound
from penstock.core.triggers.state import InFlight, RuleState, candidate_version, decode_rule_state, encode_rule_state
from penstock.registry.records import AdmissionReport, Author, Content, Document, VersionRecord
from tests.unit.control.retraining.test_candidates import DELAYED, Setup

ANN = Author("ann", "it is slow")


@pytest.fixture
def setup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Setup:
    setup = Setup(tmp_path, monkeypatch)
    setup.marks = 0.9
    return setup


def refuse(setup: Setup, version: str) -> list[Document]:
    found: list[Document] = asyncio.run(setup.candidates.refuse("m", version, ANN))["candidates"]
    return found


def state_of(setup: Setup) -> RuleState:
    return decode_rule_state(setup.outbox.rule_state("m")[0])


def test_a_refused_candidate_is_shown_with_the_reason_and_no_candidate_any_more(setup: Setup) -> None:
    assert setup.step("2")["state"] == "waits_for_approval"
    (shown,) = refuse(setup, "2")
    assert (shown["version"], shown["state"], shown["reasons"]) == ("2", "refused", ["ann: it is slow"])
    state = state_of(setup)
    assert state.in_flight is not None
    assert candidate_version(state, "1", {"2": 9.0}, ()) is None
    assert candidate_version(state, "1", {"2": 9.0, "3": 8.0}, ()) == "3"
    *_, event = setup.world.traffic.events("m")
    assert (event["type"], event["data"]["actor"]) == ("io.penstock.candidate.refused.v1", "ann")
    assert [entry.action for entry in setup.world.store.audit("m")][-1] == "candidate.refuse"


def change(setup: Setup, **values: Any) -> None:
    stored, revision = setup.outbox.rule_state("m")
    setup.outbox.commit("m", revision, encode_rule_state(replace(decode_rule_state(stored), **values)))


def test_an_approval_is_shown_and_the_version_that_asked_waits_for_none(setup: Setup) -> None:
    def shown() -> tuple[str, bool]:
        (found,) = asyncio.run(setup.candidates.to_api("m"))["candidates"]
        return found["state"], found["approved"]

    setup.step("2")
    assert shown() == ("waits_for_approval", False)
    change(setup, approved=("2",))
    assert shown() == ("passed", True)
    change(setup, approved=(), in_flight=InFlight("2", 1.0))
    assert shown() == ("passed", False)


def test_a_version_without_a_verdict_is_shown_too(setup: Setup) -> None:
    (shown,) = refuse(setup, "3")
    assert shown == {
        "version": "3",
        "against": "",
        "state": "refused",
        "reasons": ["ann: it is slow"],
        "exam": None,
        "approved": False,
        "rows": None,
    }


def test_an_approval_takes_a_refusal_back_and_a_refusal_an_approval(setup: Setup) -> None:
    refuse(setup, "2")
    asyncio.run(setup.candidates.approve("m", "2", ANN))
    assert (state_of(setup).approved, dict(state_of(setup).refused)) == (("2",), {})
    refuse(setup, "2")
    assert (state_of(setup).approved, dict(state_of(setup).refused)) == ((), {"2": "ann: it is slow"})
    assert [event["type"].split(".")[3] for event in setup.world.traffic.events("m")] == [
        "refused",
        "approved",
        "refused",
    ]


def test_what_cannot_be_refused(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound):
        refuse(setup, "9")
    with pytest.raises(Conflict, match="asked for retraining"):
        refuse(setup, "1")

    async def tried(_: str) -> set[str]:
        return {"2"}

    monkeypatch.setattr(setup, "versions_tried", tried)
    setup.open()
    with pytest.raises(Conflict, match="abort it instead"):
        refuse(setup, "2")
    setup.outbox.commit("m", 1, encode_rule_state(RuleState()))
    with pytest.raises(Conflict, match="no request"):
        refuse(setup, "3")


def test_an_approval_that_finds_another_state_writes_nothing(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    version = VersionRecord("m", "2", Content("sha256:0", 1, "onnx", ()), DELAYED, "me", report=AdmissionReport())
    setup.world.store.add_version(version, Author("me"))
    approve = setup.outbox.approve_version

    def overtaken(*asked: Any) -> None:
        change(setup, requests=(5.0,))  # as rules do at the same moment
        approve(*asked)

    monkeypatch.setattr(setup.outbox, "approve_version", overtaken)
    with pytest.raises(Conflict, match="has changed"):
        asyncio.run(setup.candidates.approve("m", "2", ANN))
    monkeypatch.setattr(setup.outbox, "approve_version", approve)
    assert not setup.world.store.model("m").versions["2"].approvers
    assert "ann" not in [entry.actor for entry in setup.world.store.audit("m")]
    for _ in range(2):  # a person tries it again: one approval, one decision
        asyncio.run(setup.candidates.approve("m", "2", ANN))
    assert state_of(setup).approved == ("2",)
    lines = [entry.action for entry in setup.world.store.audit("m") if entry.actor == "ann"]
    assert lines == ["version.approve", "candidate.approve"]


@pytest.mark.parametrize("verb", ["approve", "refuse"])
def test_what_is_decided_is_not_answered_by_a_refusal(setup: Setup, monkeypatch: pytest.MonkeyPatch, verb: str) -> None:
    def vanishes(name: str) -> None:
        write = getattr(setup.outbox, name)

        def written(*asked: Any, **more: Any) -> Any:
            done = write(*asked, **more)
            setup.world.fleet.desired = Desired(2, ())  # no gateway serves the model any more
            return done

        monkeypatch.setattr(setup.outbox, name, written)

    vanishes({"approve": "approve_version", "refuse": "commit"}[verb])
    shown = asyncio.run(getattr(setup.candidates, verb)("m", "2", ANN))
    assert shown["in_flight"] == {"version": "1", "since": 0.0}
