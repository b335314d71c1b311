"""Candidates on their way to a rollout: what came of a request, its gates, approvals, and what is tried once only."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.core.desired import Desired
from penstock.core.errors import Conflict, NotFound, Refused
from penstock.core.policies import parse_policy
from penstock.registry.records import (
    AdmissionReport,
    Author,
    Content,
    Document,
    ModelRecord,
    VersionRecord,
    VersionState,
)
from tests.unit.control.retraining.test_rules import Setup
from tests.unit.control.trials import ME


class Pushed(Setup):
    """Version 2 answers by its alias, 3 was pushed after the request for training, 1 before; ``bytes`` is how large
    3 is, ``begun`` the rollouts, ``refusal`` why none can begin."""

    def __init__(self, folder: Path, **retraining: Any) -> None:
        self.bytes, self.begun, self.read = 1, list[Document](), 0
        self.refusal = ""
        super().__init__(folder)
        self.policy = parse_policy({"retraining": {"auto_rollout": {"steps": [10_000]}, **retraining}}, parse_schedule)
        self.world.promote_champion("2")
        self.act(lambda: self.rules.ask("m", {}, ME))

    async def begin_as_leader(self, _model: str, document: Document, by: Author) -> Document:
        if self.refusal:
            raise Refused(self.refusal)
        self.begun.append({**document, "by": by.actor})
        return document

    async def versions_tried(self, _: str) -> set[str]:
        self.read += 1
        return {item["to"] for item in self.begun}

    def _record(self, model: str) -> ModelRecord:
        return ModelRecord(model, 1, versions={version: self._version(version) for version in ("1", "2", "3")})

    def _version(self, version: str) -> VersionRecord:
        at = datetime.fromtimestamp(1_000_000.0 + (5 if version == "3" else -5), UTC).isoformat()
        size = self.bytes if version == "3" else 1
        return VersionRecord("m", version, Content("sha256:0", size, "onnx", ()), at, "me", report=AdmissionReport())

    def go(self) -> list[tuple[str, str]]:
        """Two steps: gates are judged beside the first; the rollouts begun so far."""
        spec = self.world.fleet.desired.models[0]

        async def act() -> None:
            for _ in range(2):
                await self.rules.candidates.step(spec, "2")
                await asyncio.gather(*self.rules.candidates._exams.values())

        asyncio.run(act())
        return [(item["from"], item["to"]) for item in self.begun]

    def state(self) -> list[tuple[str, str]]:
        [shown] = self.act(lambda: self.rules.candidates.to_api("m"))
        return [(candidate["version"], candidate["state"]) for candidate in shown["candidates"]]


def test_the_version_that_came_of_a_request_is_rolled_out_once(tmp_path: Path) -> None:
    setup = Pushed(tmp_path)
    assert setup.go() == [("2", "3")]
    assert (setup.begun[0]["by"], setup.begun[0]["steps"]) == ("rules", [10_000])
    assert setup.go() == [("2", "3")]
    assert setup.state() == [("3", "passed")]


def test_what_is_not_ready_waits(tmp_path: Path) -> None:
    setup = Pushed(tmp_path)
    setup.world.fleet.loading = {"3"}
    assert setup.go() == []
    assert setup.read == 0
    setup.world.fleet.loading = set()
    assert setup.go() == [("2", "3")]


def test_what_does_not_pass_its_gates_is_not_rolled_out(tmp_path: Path) -> None:
    setup = Pushed(tmp_path, gates={"max_bytes": 10})
    setup.bytes = 11
    assert setup.go() == []
    assert setup.state() == [("3", "refused")]
    assert "io.penstock.candidate.refused.v1" in {event["type"] for event in setup.world.traffic.events("m")}


def test_an_exam_that_is_asked_for_is_not_left_out_while_a_version_is_not_served(tmp_path: Path) -> None:
    setup = Pushed(tmp_path, gates={"held_out": {"metric": "accuracy"}})

    def without_the_new_one(desired: Desired) -> Desired:
        model = desired.models[0]
        served = tuple(version for version in model.versions if version.version != "3")
        return replace(desired, models=(replace(model, versions=served),))

    setup.world.fleet.decorate = without_the_new_one
    setup.world.fleet.renew()
    assert setup.go() == []
    [shown] = setup.act(lambda: setup.rules.candidates.to_api("m"))
    assert [candidate["reasons"] for candidate in shown["candidates"]] == [
        ["its exam waits until versions 3 and 2 are served"]
    ]
    assert "io.penstock.candidate.passed.v1" not in {event["type"] for event in setup.world.traffic.events("m")}


def test_a_person_agrees_first_where_the_policy_wants_that(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    setup = Pushed(tmp_path, approval=True)
    assert setup.go() == []
    assert setup.state() == [("3", "waits_for_approval")]
    assert caplog.text.count("waits for a person's approval") == 1
    setup.act(lambda: setup.rules.candidates.approve("m", "3", ME))
    assert setup.go() == [("2", "3")]


def test_a_rollout_that_cannot_begin_is_tried_again_and_reported_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Pushed(tmp_path)
    setup.refusal = "another rollout is open"
    assert setup.go() == setup.go() == []
    assert caplog.text.count("another rollout is open") == 1
    setup.refusal = ""
    assert setup.go() == [("2", "3")]


def test_what_cannot_be_approved(tmp_path: Path) -> None:
    setup = Pushed(tmp_path)
    with pytest.raises(NotFound):
        setup.act(lambda: setup.rules.candidates.approve("m", "9", ME))
    with pytest.raises(NotFound):
        setup.act(lambda: setup.rules.candidates.to_api("n"))
    (tmp_path / "other").mkdir()
    quiet = Setup(tmp_path / "other")
    with pytest.raises(Conflict):
        quiet.act(lambda: quiet.rules.candidates.approve("m", "3", ME))


def test_a_second_approval_of_a_version_emits_no_event(tmp_path: Path) -> None:
    setup = Pushed(tmp_path, approval=True)
    for _ in range(2):
        setup.act(lambda: setup.rules.candidates.approve("m", "3", ME))
    kinds = [event["type"] for event in setup.world.traffic.events("m")]
    assert kinds.count("io.penstock.candidate.approved.v1") == 1


def test_a_verdict_goes_with_its_version(tmp_path: Path) -> None:
    setup = Pushed(tmp_path, gates={"max_bytes": 10})
    setup.bytes = 11
    setup.go()
    assert setup.state() == [("3", "refused")]
    retired = replace(setup._version("3"), state=VersionState.RETIRED)

    async def judge_another() -> None:
        versions = {"2": setup._version("2"), "3": retired}
        await setup.rules.candidates._judge(
            setup.world.fleet.desired.models[0], versions, "2", "1", setup.policy.limits.gates
        )

    asyncio.run(judge_another())
    assert "3" not in {version for version, _ in setup.state()}
