"""Candidates: every exam against a champion counts, also those before a restart, and is made once."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.control.monitoring.schedules import schedule_in
from penstock.control.retraining import candidates as module
from penstock.control.retraining.candidates import Candidates
from penstock.control.retraining.row_source import AvailableRows, RowSource
from penstock.core.errors import NotReady
from penstock.core.gates import Exam, ExamScores
from penstock.core.policies import MonitorPolicy, policy_in
from penstock.core.tensors import Tensor
from penstock.core.triggers.state import InFlight, RuleState, rule_state_in, rule_state_out
from penstock.monitor.captured_rows import LabelledRows
from penstock.registry.records import AdmissionReport, Author, Content, Document, ModelRecord, VersionRecord
from penstock.registry.stores.outbox import Outbox
from tests.harness import PATIENCE_S
from tests.unit.control.trials import World

LATE = "2027-01-01T00:00:00+00:00"


class Room:
    """Candidates over a real database; ``marks`` is what each exam finds, ``tries`` what exams were told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.world = folder, World(folder)
        self.outbox = Outbox(self.world.database, self.world.traffic, self.world.clock)
        self.policy = policy_in(
            {"retraining": {"auto_rollout": {}, "approval": True, "gates": {"held_out": {"metric": "accuracy"}}}},
            schedule_in,
        )
        self.marks: float | Exception = 0.5
        self.tries: list[int] = []
        monkeypatch.setattr(module, "run_exam", self._examine)
        rows = LabelledRows([Tensor("x", "FP32", np.zeros((200, 1), np.float32))], np.zeros(200))
        monkeypatch.setattr(RowSource, "labelled", lambda *_: (rows, AvailableRows(len(rows.labels), {}, {})))
        document = rule_state_out(RuleState(in_flight=InFlight("1", 0.0)))
        self.outbox.commit("m", 0, document)
        self.open()

    def _examine(self, *_: Any, tries: int, names: tuple[str, ...]) -> Exam:
        assert names == ("age", "income")
        self.tries.append(tries)
        if isinstance(self.marks, Exception):
            raise self.marks
        return Exam(ExamScores(200, self.marks, 0.8), tries=tries)

    def open(self) -> None:
        """As another process does."""
        self.candidates = Candidates(
            self.outbox, self._record, self.world.fleet, self, self, RowSource(self.folder), self.world.clock
        )

    def policy_of(self, _: str) -> MonitorPolicy:
        return self.policy

    def feature_names(self, _: tuple[str, str]) -> tuple[str, ...]:
        return ("age", "income")

    async def begin_as_leader(self, _model: str, _document: Document, _by: Author) -> Document:
        raise AssertionError("nobody has approved")

    async def versions_tried(self, _: str) -> set[str]:
        return set()

    def _record(self, _: str) -> ModelRecord:
        record = VersionRecord("m", "1", Content("sha256:0", 1, "onnx", ()), LATE, "me", report=AdmissionReport())
        return ModelRecord("m", 1, versions=dict.fromkeys(("1", "2", "3"), record))

    def step(self, version: str) -> Document:
        """Take a candidate as far as its exam, and show it."""

        async def act() -> Document:
            spec = self.world.fleet.desired.models[0]
            versions = self._record("m").versions
            self.candidates._has_passed(spec, versions, version, "1", self.policy.limits.gates)
            await asyncio.gather(*self.candidates._exams.values())
            shown = await self.candidates.to_api("m")
            found: Document = next(one for one in shown["candidates"] if one["version"] == version)
            return found

        return asyncio.run(act())


def test_every_exam_counts_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(tmp_path, monkeypatch)
    assert room.step("2")["state"] == "refused"
    room.open()
    again = room.step("2")
    assert (again["state"], again["reasons"]) == ("refused", room.step("2")["reasons"])
    assert room.tries == [1]  # what the process before found is remembered
    room.marks = 0.9
    assert room.step("3")["state"] == "waits_for_approval"
    assert room.tries == [1, 2]
    room.open()
    assert room.step("3")["state"] == "waits_for_approval"
    assert room.tries == [1, 2]


def test_an_exam_whose_process_ended_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(tmp_path, monkeypatch)
    room.marks = RuntimeError("killed half way")
    assert room.step("2")["state"] == "waiting"
    room.open()
    room.marks = 0.5
    assert room.step("2")["state"] == "refused"
    assert room.tries == [1, 2]


def test_what_rules_write_meanwhile_does_not_lose_an_exam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(tmp_path, monkeypatch)
    leader = room.candidates._leader
    commit = leader.commit

    def late(model: str, revision: int, document: Document, *more: Any, **named: Any) -> int:
        monkeypatch.setattr(leader, "commit", commit)
        kept, now = room.outbox.rule_state(model)
        commit(model, now, {**kept, "requests": [5.0]})
        return commit(model, revision, document, *more, **named)

    monkeypatch.setattr(leader, "commit", late)
    assert room.step("2")["state"] == "refused"
    standing = rule_state_in(room.outbox.rule_state("m")[0])
    assert (standing.requests, standing.exams.count) == ((5.0,), 1)


def test_a_database_that_is_away_makes_it_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = Room(tmp_path, monkeypatch)

    def away(*_: Any) -> None:
        raise NotReady("the database is away")

    monkeypatch.setattr(room.outbox, "rule_state", away)
    verdict = asyncio.run(
        room.candidates._after_exam(
            room.world.fleet.desired.models[0],
            module.CandidateVerdict(room.policy.limits.gates, "1", 0.0),
            "2",
            room.policy.limits.gates.held_out or pytest.fail("no exam"),
        )
    )
    assert (verdict.waits, room.tries) == (True, [])


def test_exams_hold_up_no_step_of_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room, go, under_way = Room(tmp_path, monkeypatch), threading.Event(), threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> Exam:
        under_way.release()
        assert go.wait(PATIENCE_S)
        return Exam(ExamScores(200, 0.9, 0.8))

    async def act() -> None:
        monkeypatch.setattr(module, "run_exam", hang)
        spec, versions = room.world.fleet.desired.models[0], room._record("m").versions
        for version in ("2", "3"):
            room.candidates._has_passed(spec, versions, version, "1", room.policy.limits.gates)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(module.EXAMS):
                await asyncio.to_thread(under_way.acquire)
            await room.candidates.step(spec, "1")  # both threads of exams are taken, and it needs none of them
            assert len((await room.candidates.to_api("m"))["candidates"]) == 0
            go.set()
            await asyncio.gather(*room.candidates._exams.values())

    asyncio.run(act())
    room.candidates.close()
