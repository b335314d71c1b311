"""The overview of all models: rows of what is in memory, and the newest event of each model."""

import asyncio
from collections.abc import Sequence
from typing import Any

from penstock.control.delivery.trial import UNREADABLE
from penstock.control.plane.overview import ModelOverview, NewestEvents
from penstock.core.desired import Desired, ModelSpec, ReadyState, VersionSpec, VersionStatus
from penstock.core.errors import NotReady
from penstock.core.routing import RouteSpec
from penstock.core.versions import VersionKey
from penstock.registry.records import Document
from penstock.registry.stores.traffic import Trial

READY, BAD = ReadyState.READY, ReadyState.UNAVAILABLE
WATCHED = {"drift": {"state": "drift", "columns": 1}, "quality": {"state": "ok", "columns": 0}}


class Serving:
    """A gateway that serves a split model, a plain one and a broken one."""

    def __init__(self) -> None:
        versions = (VersionSpec("1", "a"), VersionSpec("2", "b"))
        split = ModelSpec("split", versions, route=RouteSpec({"1": 9000, "2": 1000}, stable="1"))
        self.desired = Desired(1, (split, ModelSpec("plain", (VersionSpec("7", "c"),))))

    def statuses(self) -> list[VersionStatus]:
        return [
            VersionStatus("split", "1", READY),
            VersionStatus("split", "2", READY),
            VersionStatus("plain", "7", READY),
            VersionStatus("broken", "", BAD, "it is not a model"),
        ]


class Trials:
    """The open rollout of one model; of another format if ``fault``."""

    def __init__(self, *trials: Trial, fault: bool = False) -> None:
        self.newest = {trial.model: trial for trial in trials}
        self.fault = fault

    def to_api(self, trial: Trial) -> Document:
        if self.fault:
            raise UNREADABLE[0]
        return {"id": trial.id, "state": "running", "to": "2", "evidence": {}}


class Events:
    """A database of events that can go away."""

    def __init__(self, *events: tuple[int, str]) -> None:
        self.events = [event_of(*event) for event in events]
        self.away = False
        self.asked: list[int | None] = []

    async def newest_by_model(self) -> list[Document]:
        return self._read(None)

    async def after(self, sequence: int, limit: int) -> list[Document]:
        return [event for event in self._read(sequence) if event["sequence"] > sequence][:limit]

    def _read(self, after: int | None) -> list[Document]:
        self.asked.append(after)
        if self.away:
            raise NotReady("the database is away")
        return self.events


def event_of(sequence: int, subject: str) -> Document:
    return {"sequence": sequence, "subject": subject, "type": "t", "time": "now", "data": {"large": 1}}


def trial_of(model: str, *, is_open: bool = True) -> Trial:
    return Trial("t1", model, "rollout", is_open, 1, "", "", {})


def rows(trials: Sequence[Any] = (), events: Events | None = None) -> dict[str, Document]:
    source = events or Events()

    def state_of(key: VersionKey) -> Document | None:
        return WATCHED if key == ("split", "1") else None

    overview = ModelOverview(Serving(), trials, state_of, NewestEvents(source.newest_by_model, source.after))
    return {row["name"]: row for row in asyncio.run(overview.document())["models"]}


def test_a_row_says_who_answers_and_how_the_versions_are() -> None:
    found = rows()
    assert list(found) == ["broken", "plain", "split"]
    assert found["split"]["split"] == {"1": 9000, "2": 1000}
    assert found["plain"]["split"] == {"7": 10_000}
    assert (found["split"]["versions"], found["split"]["states"]) == (2, {"READY": 2})
    assert (found["broken"]["split"], found["broken"]["versions"]) == ({}, 0)
    assert (found["broken"]["states"], found["broken"]["reason"]) == ({"UNAVAILABLE": 1}, "it is not a model")


def test_drift_and_quality_are_those_of_the_version_that_answers_most() -> None:
    found = rows()
    assert found["split"]["drift"] == WATCHED["drift"]
    assert found["plain"]["drift"] is found["plain"]["quality"] is None


def test_an_open_trial_is_shown_in_short() -> None:
    found = rows([Trials(), Trials(trial_of("split"), trial_of("plain", is_open=False))])
    assert found["split"]["trial"] == {"id": "t1", "kind": "rollout", "state": "running", "to": "2"}
    assert found["plain"]["trial"] is None


def test_a_trial_of_another_release_is_shown_by_its_id() -> None:
    assert rows([Trials(trial_of("split"), fault=True)])["split"]["trial"] == {"id": "t1", "kind": "rollout"}


def test_the_newest_event_of_each_model_is_read_once_and_then_only_new_ones() -> None:
    source = Events((3, "models/split/versions/1"), (5, "gateway"))
    events = NewestEvents(source.newest_by_model, source.after)

    async def look() -> dict[str, int]:
        return {model: event["sequence"] for model, event in (await events.look(["split", "plain"])).items()}

    async def run() -> None:
        assert await look() == {"split": 3}
        source.events.append(event_of(8, "models/plain"))
        source.away = True
        assert await look() == {"split": 3}
        source.away = False
        assert await look() == {"split": 3, "plain": 8}
        assert source.asked == [None, 5, 5]
        assert list(await events.look(["plain"])) == ["plain"]

    asyncio.run(run())


def test_a_row_has_the_event_without_its_data() -> None:
    found = rows(events=Events((3, "models/split/versions/1")))
    assert found["split"]["event"] == {
        "sequence": 3,
        "subject": "models/split/versions/1",
        "type": "t",
        "time": "now",
    }
    assert found["plain"]["event"] is None
