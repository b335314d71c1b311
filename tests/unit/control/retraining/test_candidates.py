"""Candidates: every exam against a champion counts, also those before a restart, and is made once."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.control.monitoring.schedules import parse_schedule
from penstock.control.retraining import candidates as module
from penstock.control.retraining.candidate_decisions import CandidateVerdict
from penstock.control.retraining.candidates import Candidates
from penstock.control.retraining.row_source import AvailableRows, RowSource
from penstock.core.errors import Conflict, NotReady
from penstock.core.gates import Exam, ExamScores, Gates
from penstock.core.policies import MonitorPolicy, parse_policy
from penstock.core.tensors import Tensor
from penstock.core.triggers.state import InFlight, RuleState, decode_rule_state, encode_rule_state
from penstock.monitor.captured_rows import LabelledRows
from penstock.registry.records import AdmissionReport, Author, Content, Document, ModelRecord, VersionRecord
from penstock.registry.stores.outbox import Outbox
from tests.harness import PATIENCE_S
from tests.unit.control.trials import World

DELAYED = "2027-01-01T00:00:00+00:00"


class Setup:
    """Candidates over a real database; ``marks`` is what each exam finds, ``tries`` what exams were told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.world = folder, World(folder)
        self.outbox = Outbox(self.world.database, self.world.traffic, self.world.clock)
        self.policy = parse_policy(
            {"retraining": {"auto_rollout": {}, "approval": True, "gates": {"held_out": {"metric": "accuracy"}}}},
            parse_schedule,
        )
        self.marks: float | Exception = 0.5
        self.tries: list[int] = []
        monkeypatch.setattr(module, "run_exam", self._examine)
        rows = LabelledRows([Tensor("x", "FP32", np.zeros((200, 1), np.float32))], np.zeros(200))
        monkeypatch.setattr(RowSource, "labelled", lambda *_: (rows, AvailableRows(len(rows.labels), {}, {})))
        document = encode_rule_state(RuleState(in_flight=InFlight("1", 0.0)))
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
        record = VersionRecord("m", "1", Content("sha256:0", 1, "onnx", ()), DELAYED, "me", report=AdmissionReport())
        return ModelRecord("m", 1, versions=dict.fromkeys(("1", "2", "3"), record))

    def step(self, version: str) -> Document:
        """Take a candidate as far as its exam, and show it."""

        async def act() -> Document:
            spec = self.world.fleet.desired.models[0]
            versions = self._record("m").versions
            self.candidates._has_passed(spec, versions, version, "1", self.policy.limits.gates)
            await asyncio.gather(*self.candidates._exams.values())
            shown = await self.candidates.to_api("m")
            found: Document = next(candidate for candidate in shown["candidates"] if candidate["version"] == version)
            return found

        return asyncio.run(act())


def test_every_exam_counts_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)
    assert setup.step("2")["state"] == "refused"
    setup.open()
    again = setup.step("2")
    assert (again["state"], again["reasons"]) == ("refused", setup.step("2")["reasons"])
    assert setup.tries == [1]  # what the process before found is remembered
    setup.marks = 0.9
    assert setup.step("3")["state"] == "waits_for_approval"
    assert setup.tries == [1, 2]
    setup.open()
    assert setup.step("3")["state"] == "waits_for_approval"
    assert setup.tries == [1, 2]


def test_an_exam_whose_process_ended_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)
    setup.marks = RuntimeError("killed half way")
    assert setup.step("2")["state"] == "waiting"
    setup.open()
    setup.marks = 0.5
    assert setup.step("2")["state"] == "refused"
    assert setup.tries == [1, 2]


def test_what_rules_write_meanwhile_does_not_lose_an_exam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)
    leader = setup.candidates._leader
    commit = leader.commit

    def delayed(model: str, revision: int, document: Document, *more: Any, **keywords: Any) -> int:
        monkeypatch.setattr(leader, "commit", commit)
        kept, now = setup.outbox.rule_state(model)
        commit(model, now, {**kept, "requests": [5.0]})
        return commit(model, revision, document, *more, **keywords)

    monkeypatch.setattr(leader, "commit", delayed)
    assert setup.step("2")["state"] == "refused"
    version_state = decode_rule_state(setup.outbox.rule_state("m")[0])
    assert (version_state.requests, version_state.exams.count) == ((5.0,), 1)


def test_a_database_that_is_away_makes_it_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)

    def away(*_: Any) -> None:
        raise NotReady("the database is away")

    monkeypatch.setattr(setup.outbox, "rule_state", away)
    verdict = asyncio.run(
        setup.candidates._after_exam(
            setup.world.fleet.desired.models[0],
            CandidateVerdict(setup.policy.limits.gates, "1", 0.0),
            "2",
            setup.policy.limits.gates.held_out or pytest.fail("no exam"),
        )
    )
    assert (verdict.waits, setup.tries) == (True, [])


def test_exams_hold_up_no_step_of_other_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup, go, under_way = Setup(tmp_path, monkeypatch), threading.Event(), threading.Semaphore(0)

    def hang(*_: Any, **__: Any) -> Exam:
        under_way.release()
        assert go.wait(PATIENCE_S)
        return Exam(ExamScores(200, 0.9, 0.8))

    async def act() -> None:
        monkeypatch.setattr(module, "run_exam", hang)
        spec, versions = setup.world.fleet.desired.models[0], setup._record("m").versions
        for version in ("2", "3"):
            setup.candidates._has_passed(spec, versions, version, "1", setup.policy.limits.gates)
        async with asyncio.timeout(PATIENCE_S):
            for _ in range(module.EXAMS):
                await asyncio.to_thread(under_way.acquire)
            await setup.candidates.step(spec, "1")  # both threads of exams are taken, and it needs none of them
            assert len((await setup.candidates.to_api("m"))["candidates"]) == 0
            go.set()
            await asyncio.gather(*setup.candidates._exams.values())

    asyncio.run(act())
    setup.candidates.close()


def test_an_exam_waits_for_enough_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)
    monkeypatch.setattr(RowSource, "labelled", lambda *_: (None, AvailableRows(0, {}, {})))
    found = setup.step("2")
    assert (found["state"], setup.tries) == ("waiting", [])
    assert "0 held-out rows have one" in found["reasons"][0]


def test_an_exam_that_cannot_be_counted_is_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)

    def conflict(*_: Any, **__: Any) -> int:
        raise Conflict("the rules were written meanwhile")

    monkeypatch.setattr(setup.candidates._leader, "commit", conflict)
    found = setup.step("2")
    assert (found["state"], setup.tries) == ("waiting", [])
    assert found["reasons"] == ["the exam could not be counted; the next step retries it"]


def test_an_exam_under_way_ends_with_the_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = Setup(tmp_path, monkeypatch)

    async def act() -> None:
        spec, versions = setup.world.fleet.desired.models[0], setup._record("m").versions
        setup.candidates._has_passed(spec, versions, "2", "1", setup.policy.limits.gates)
        [exam] = setup.candidates._exams.values()
        setup.candidates.close()
        with pytest.raises(asyncio.CancelledError):
            await exam
        assert setup.tries == []

    asyncio.run(act())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (AvailableRows(0, {}, {}), [1, 2, 4, 8, 16, 26, 36, 46]),
        (AvailableRows(0, {"b": 0}, {}), [1, 2, 4, 8, 16, 32, 62]),
        (None, [10, 20, 30, 40]),
    ],
)
def test_labels_are_looked_for_soon_and_then_seldom(rows: AvailableRows | None, expected: list[int]) -> None:
    verdict, checks = CandidateVerdict(Gates(), "1", 0.0, waits=True, rows=rows), list[int]()
    for now in range(1, expected[-1] + 1):
        if verdict.is_due(now):
            checks.append(now)
            verdict = CandidateVerdict(Gates(), "1", now, waits=True, rows=rows).following(verdict)
    assert checks == expected
    assert not CandidateVerdict(Gates(), "1", 0.0, rows=rows).is_due(100)
    assert CandidateVerdict(Gates(), "2", 50.0, waits=True, rows=rows).following(verdict).since is None
