"""Captured rows of a fleet over a real database and real files: what is asked, handed over, merged and deleted."""

import asyncio
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet

from penstock.control.retraining.fleet_rows import FleetRows, home_name
from penstock.control.retraining.row_answers import RowAnswers
from penstock.control.retraining.row_source import RowSource
from penstock.core.errors import NotReady
from penstock.core.row_shares import RowAmount
from penstock.core.tensors import Tensor
from penstock.engine.scratch import is_scratch
from penstock.monitor.answer_segments import ANSWERS, AnswerWriter
from penstock.monitor.answer_store import AnswerStore
from penstock.monitor.answers import answers_of
from penstock.monitor.capture import CAPTURES, AnsweredRequest, CaptureWriter
from penstock.monitor.captured_rows import RowSelection
from penstock.monitor.columns import Columns
from penstock.monitor.feedback import Feedback
from penstock.registry.blobs.folder import FolderBlobs
from penstock.registry.db import schema
from penstock.registry.db.database import Database, open_database
from penstock.registry.db.lease import NotLeading
from penstock.registry.stores.gateways import GatewayDescription, GatewayStore
from penstock.registry.stores.row_requests import RowRequest, RowRequestStore
from tests.leases import leading, looking

TARGET = ("m", "1")


class Tally:
    def count_captured(self, size: int) -> None:
        """Nobody counts."""

    def count_capture_dropped(self) -> None:
        raise AssertionError


class Fleet:
    """Gateways of which the first, "a", leads; while it waits the others do a step."""

    def __init__(self, workspace: Path, database: Database) -> None:
        self._workspace, self._database = workspace, database
        self.blobs = FolderBlobs(workspace / "blobs")
        self.requests, self.gateways = RowRequestStore(database), GatewayStore(database)
        self.members: dict[str, RowAnswers] = {}
        self.pauses = 0
        self.meanwhile: Callable[[], None] = self.step
        rows = FleetRows(self.requests, self.gateways, lambda: self.blobs, "a", workspace / "a", self._pause)
        self.source = RowSource(workspace / "a", rows)
        self.join("a")

    def join(self, name: str, blobs: FolderBlobs | None = None) -> RowAnswers:
        home, shared = self._workspace / name, blobs or self.blobs
        member = RowAnswers(self.requests, lambda: shared, name, home, self._workspace / "blobs" / "incoming")
        self.gateways.beat(GatewayDescription(name, "host", "1", 0.0, 0, {}, home_name(home)))
        self.members[name] = member
        return member

    def _pause(self, _: float) -> None:
        self.pauses += 1
        self.meanwhile()

    def step(self) -> None:
        for member in self.members.values():
            member.wake()
            asyncio.run(member.step())

    def silence(self, name: str, seconds: float) -> None:
        table = schema.gateways
        with self._database.recording() as connection:
            connection.execute(table.update().where(table.c.id == name).values(seen=table.c.seen - seconds))

    def keep(self, name: str, *ids: str, label: float | None = None) -> None:
        """Let a gateway capture these requests, of one row each."""
        home, folder = self._workspace / name, self._workspace / name / CAPTURES
        writer = CaptureWriter(folder, TARGET, (Columns((), True), Columns((), True)), ())
        answers = AnswerWriter(home / ANSWERS, *TARGET)
        for id_ in ids:
            x, y = Tensor("x", "FP32", np.full((1, 2), len(id_), np.float32)), np.array([[0.25, 0.75]], np.float32)
            outputs = [Tensor("y", "FP32", y)]
            writer.write([AnsweredRequest(id_, "split", [x], outputs)], Tally())
            reported = answers_of(outputs)
            assert reported is not None
            answers.add([id_], [1], reported)
        writer.close()
        if label is not None:
            AnswerStore(home / ANSWERS).join_feedback("m", [Feedback(id_, label) for id_ in ids], 1e9, 1e12)

    def table(self, share: float = 0.0) -> tuple[list[str], Any]:
        file = self._workspace / "rows.parquet"
        gathered = self.source.table(RowSelection(*TARGET, share), file)
        return (parquet.read_table(file).column("id").to_pylist() if gathered.rows else []), gathered

    def leftovers(self) -> list[str]:
        return [digest for digest, _ in self.blobs.stored()]


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    database = leading(open_database(f"sqlite:///{tmp_path / 'registry.db'}", 5.0), "a")
    made = Fleet(tmp_path, database)
    yield made
    for member in made.members.values():
        member.close()
    database.close()


def test_a_gateway_that_is_alone_asks_nobody(fleet: Fleet) -> None:
    fleet.keep("a", "a1", "a2")
    rows, gathered = fleet.table()
    assert rows == ["a1", "a2"]
    assert (gathered.document(), fleet.pauses) == ({"rows": 2}, 0)


def test_rows_of_all_come_gateway_by_gateway_and_nothing_is_left(fleet: Fleet) -> None:
    for name in "cb":
        fleet.join(name)
    fleet.keep("b", "b1", "b2", label=1.0)
    fleet.keep("a", "a1")
    rows, gathered = fleet.table()
    assert rows == ["a1", "b1", "b2"]
    assert gathered.document() == {"rows": 3, "gateways": {"a": 1, "b": 2, "c": 0}, "missing": {}}
    assert fleet.requests.open("b") == ([], set())
    fleet.step()
    assert fleet.leftovers() == []
    assert [path for path in fleet._workspace.iterdir() if is_scratch(path.name)] == []


def test_a_command_that_leads_nothing_gets_the_rows_of_all_and_nothing_is_left(fleet: Fleet) -> None:
    """`penstock capture --fleet`: not a gateway, from a home without captures."""
    fleet.join("b")
    fleet.keep("a", "a1")
    fleet.keep("b", "b1", "b2")
    operator = looking(open_database(f"sqlite:///{fleet._workspace / 'registry.db'}", 5.0), "operator")
    requests = RowRequestStore(operator, by_leader=False)
    home = fleet._workspace / "nowhere"
    rows = FleetRows(requests, fleet.gateways, lambda: fleet.blobs, "operator", home, fleet._pause)
    file = fleet._workspace / "rows.parquet"
    found = RowSource(home, rows).table(RowSelection(*TARGET), file)
    assert parquet.read_table(file).column("id").to_pylist() == ["a1", "b1", "b2"]
    assert (found.gateways, found.missing) == ({"a": 1, "b": 2, "operator": 0}, {})
    fleet.step()
    assert (fleet.leftovers(), fleet.requests.open("a")[0]) == ([], [])
    with pytest.raises(NotLeading):
        RowRequestStore(operator).close("any")
    operator.close()


def test_a_fleet_without_rows_writes_no_file(fleet: Fleet) -> None:
    fleet.join("b")
    assert fleet.table()[0] == []
    assert not (fleet._workspace / "rows.parquet").exists()


def test_labels_come_along_and_held_out_rows_stay_apart(fleet: Fleet) -> None:
    fleet.join("b")
    ids = {name: [f"{name}{number}" for number in range(20)] for name in "ab"}
    for name in "ab":
        fleet.keep(name, *ids[name], label=1.0)
    trained, _ = fleet.table(0.5)
    assert set(parquet.read_table(fleet._workspace / "rows.parquet").column("label").to_pylist()) == {1.0}
    found, gathered = fleet.source.labelled(RowSelection(*TARGET, 0.5, for_exam=True))
    assert found is not None
    assert gathered.rows == len(found.labels) == 40 - len(trained)
    assert set(gathered.gateways) == {"a", "b"}
    assert len(set(found.units().tolist())) == len(found.labels)
    assert found.inputs[0].data.dtype == np.float32


def test_an_exam_without_labels_has_no_rows(fleet: Fleet) -> None:
    fleet.join("b")
    fleet.keep("b", "b1", "b2", "b3")
    found, gathered = fleet.source.labelled(RowSelection(*TARGET, 0.5, for_exam=True))
    assert (found, gathered.rows) == (None, 0)


def test_a_silent_gateway_is_reported_missing_and_not_waited_for(fleet: Fleet) -> None:
    for name in "bc":
        fleet.join(name)
        fleet.keep(name, f"{name}1")
    killed = fleet.members.pop("c")

    def fall_silent() -> None:
        fleet.step()
        fleet.silence("c", 20)

    fleet.meanwhile = fall_silent
    rows, gathered = fleet.table()
    assert rows == ["b1"]
    assert gathered.missing.keys() == {"c"}
    assert re.fullmatch(r"it has been silent for [2-9]\d s", gathered.missing["c"])
    again = fleet.table()[1]
    assert again.missing.keys() == {"c"}
    fleet.silence("c", 600)
    assert fleet.table()[1].missing == {}  # it has ended
    killed.close()


def test_blobs_that_are_not_shared_are_said_to_be(fleet: Fleet, tmp_path: Path) -> None:
    own = FolderBlobs(tmp_path / "own")
    member = fleet.join("b", own)
    fleet.keep("b", "b1")
    fleet.keep("a", "a1")
    rows, gathered = fleet.table()
    assert rows == ["a1"]
    assert "let 'blobs' be a bucket or a folder that all gateways share" in gathered.missing["b"]
    member.wake()
    asyncio.run(member.step())
    assert list(own.stored()) == []


def test_what_cannot_be_handed_over_is_reported_at_once(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.join("b")
    fleet.keep("b", "b1")

    def away(*_: Any) -> None:
        raise NotReady("the bucket is away")

    monkeypatch.setattr(fleet.blobs, "keep", away)
    assert fleet.table()[1].missing == {"b": "the bucket is away"}
    assert fleet.pauses == 1


def test_what_nobody_has_fetched_is_deleted_by_who_wrote_it(fleet: Fleet) -> None:
    fleet.join("b")
    fleet.keep("b", "b1")
    fleet.requests.ask(RowRequest("r1", "a", *TARGET, 0.0, False, RowAmount(9, 999)))
    fleet.step()
    fleet.step()
    assert len(fleet.leftovers()) == 1
    fleet.requests.close("r1")
    fleet.step()
    assert fleet.leftovers() == []


def test_nothing_is_asked_of_the_database_while_nobody_asks_for_rows(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(RowRequestStore, "open", asked)
    asyncio.run(fleet.members["a"].step())
    assert not GatewayStore(fleet._database).beat(GatewayDescription("a", "host", "1", 0.0, 0, {}))


def test_rows_that_nobody_waits_for_any_more_are_deleted_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fleet.join("b")
    fleet.keep("b", "b1")
    fleet.requests.ask(RowRequest("r1", "a", *TARGET, 0.0, False, RowAmount(9, 999)))
    keep = fleet.blobs.keep

    def keep_slowly(path: Path, digest: str) -> None:
        keep(path, digest)
        fleet.requests.close("r1")

    monkeypatch.setattr(fleet.blobs, "keep", keep_slowly)
    with caplog.at_level(logging.INFO):
        fleet.step()
    assert "a request for captured rows of model m expired before it was answered" in caplog.text
    fleet.step()
    assert fleet.leftovers() == []


def test_a_file_that_differs_from_what_was_handed_over_is_missing(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.join("b")
    fleet.keep("a", "a1")
    fleet.keep("b", "b1")
    fetch = fleet.blobs.fetch

    def torn(digest: str) -> Path:
        copy = fleet._workspace / "torn"
        copy.write_bytes(fetch(digest).read_bytes()[:-1])
        return copy

    monkeypatch.setattr(fleet.blobs, "fetch", torn)
    rows, gathered = fleet.table()
    assert rows == ["a1"]
    assert set(gathered.missing) == {"b"}
