"""What the counts of all gateways say: the same as one gateway with all rows says, whoever leads, and told once."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.control.calls.blocking import CALL_S, READ_S
from penstock.control.monitoring.fleet_evidence import KEEP_S, RETIRE_EVERY
from penstock.core.errors import Conflict, NotReady
from penstock.core.tensors import Tensor
from penstock.monitor.answer_segments import ANSWERS, AnswerWriter
from penstock.monitor.answers import CLASS, answers_of
from penstock.monitor.feedback import Feedback, LabelledRow
from penstock.registry.records import Document
from penstock.registry.stores.evidence import RETIRED_S, LabelBatch
from penstock.telemetry.metrics import LABELS
from penstock.telemetry.readings import Point, PointBatch
from tests.budgets import examples
from tests.unit.control.members import Member, lead, split
from tests.unit.control.test_monitoring import exchange, trained
from tests.unit.control.trials import Clock

POLICY: Document = {"monitor": {"window_seconds": 60, "rows_between_false_alarms": 10_000}}
REFERENCE = trained()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def fleet(folder: Path, clock: Clock, names: str, url: str = "") -> list[Member]:
    folder.mkdir(exist_ok=True)
    members = [Member(folder, name, clock, url) for name in names]
    members[0].give(REFERENCE, POLICY)
    for member in members:
        member.refresh()
    members[0].step()  # it leads
    return members


def serve(members: list[Member], generator: np.random.Generator, rows: int, shift: float = 0.0) -> None:
    """Rows dealt out over the gateways, five seconds, and everybody publishes; then the one that leads looks."""
    whole = exchange(generator, rows, shift)
    for member, part in zip(members, split(whole, len(members)), strict=True):
        member.count(REFERENCE, part)
    members[0].world.clock.now += 5
    for member in sorted(members, key=lambda item: item.evidence.is_known):
        member.step()


def events(member: Member) -> list[tuple[str, Any]]:
    reported = member.world.traffic.events("m", 0, 1000)
    return [(item["type"], item["data"].get("columns")) for item in reported if "drift" in item["type"]]


@pytest.mark.simulation
def test_three_gateways_say_to_the_row_what_one_with_all_rows_says(tmp_path: Path) -> None:
    alone, three = fleet(tmp_path / "one", Clock(), "a"), fleet(tmp_path / "three", Clock(), "abc")
    sources = [np.random.default_rng(7), np.random.default_rng(7)]
    states: list[list[list[tuple[str, float, float]]]] = [[], []]
    for shift in (0.0,) * 6 + (0.6,) * 3 + (0.0,) * 7:
        for members, generator, found in zip((alone, three), sources, states, strict=True):
            serve(members, generator, 600, shift)
            shown = lead(members).show()
            assert shown["scope"] == "fleet"
            found.append([(feature["state"], feature["log_e"], feature["psi"]) for feature in shown["features"]])
    assert [[item[0] for item in look] for look in states[0]] == [[item[0] for item in look] for look in states[1]]
    assert {item[0] for look in states[0] for item in look} >= {"ok", "drift"}
    np.testing.assert_allclose(
        [[item[2] for item in look] for look in states[0]], [[item[2] for item in look] for look in states[1]]
    )
    assert events(alone[0]) == events(three[0])
    assert len(events(three[0])) == 2, "a beginning and an end, each told once"


@pytest.mark.simulation
def test_every_gateway_shows_the_verdict_of_the_one_that_leads_and_its_own(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "ab")
    generator = np.random.default_rng(3)
    for _ in range(3):
        serve(members, generator, 200)
    members[0].world.clock.now += KEEP_S
    lead(members).step()
    follower = next(member for member in members if not member.evidence.is_known)
    follower.monitoring.look()
    whole, own = follower.show(), follower.show("gateway")
    assert (whole["scope"], whole["rows"]["counted"], whole["gateways"]) == ("fleet", 600, ["a", "b"])
    assert (own["scope"], own["rows"]["counted"]) == ("gateway", 300)
    assert follower.evidence.describe(("m", "1")) is None
    assert not follower.monitoring.can_judge
    assert lead(members).monitoring.can_judge
    assert lead(members).monitoring.describe("m", "1")["rows"]["counted"] == 600


@pytest.mark.simulation
def test_a_database_that_is_away_is_asked_once_for_all_versions(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "ab")
    lead(members).step()
    follower = next(member for member in members if not member.evidence.is_known)
    deadlines: list[float] = []

    async def silent(*_: object, deadline_s: float = CALL_S) -> None:
        deadlines.append(deadline_s)
        raise NotReady("it did not answer")

    follower.evidence._run = silent
    shown = asyncio.run(follower.monitoring.document("m", None))
    assert {version["scope"] for version in shown["versions"].values()} == {"gateway"}
    assert len(shown["versions"]) > 1
    assert deadlines == [READ_S]


def measured(member: Member, name: str) -> list[float]:
    member.monitoring.look()
    found = (
        reading
        for reading in member.monitoring.readings()
        if isinstance(reading, PointBatch) and reading.metric.name == name
    )
    return [float(value) for item in found for value in item.values]


@pytest.mark.simulation
def test_every_gateway_measures_the_verdict_of_all_and_its_own_counts(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "ab")
    generator = np.random.default_rng(5)
    for shift in (0.0, 0.0, 0.0, 0.6, 0.6):
        serve(members, generator, 300, shift)
    for member in members:
        member.step()
    states = [measured(member, "drift_state") for member in members]
    assert states[0] == states[1]
    assert 1.0 in states[0]
    assert sum(measured(member, "drift_alarms_total")[0] for member in members) == lead(members).show()["alarms"] > 0
    assert [measured(member, "monitor_rows_total") for member in members] == [[5 * 150.0], [5 * 150.0]]


@pytest.mark.simulation
def test_each_alarm_is_counted_at_one_gateway_over_takeovers_restarts_and_references(
    tmp_path: Path, clock: Clock
) -> None:
    members, generator, seen = fleet(tmp_path, clock, "abc"), np.random.default_rng(5), Counter[str]()

    def counts() -> dict[str, float]:
        """What each scrape says, which never falls."""
        found = {member.name: sum(measured(member, "drift_alarms_total")) for member in members}
        assert all(found[name] >= seen[name] for name in found)
        seen.update({name: number - seen[name] for name, number in found.items()})
        return {name: number for name, number in found.items() if number}

    def drift(shift: float) -> None:
        for _ in range(7):
            serve(members, generator, 600, shift)
            counts()

    drift(0.6)
    first = lead(members)
    reported = first.show()["alarms"]
    assert reported > 0
    assert counts() == {first.name: reported}
    restarted = next(member for member in members if member is not first)
    restarted.open()
    assert measured(restarted, "drift_alarms_total") in ([], [0.0])
    drift(0.0)
    first.world.database.lease.release(first.world.database)
    drift(0.6)
    second = lead(members)
    assert second is not first
    again = second.show()["alarms"]
    assert again > reported
    assert counts() == {first.name: reported, second.name: again - reported}
    second.give(trained(seed=3), POLICY)
    for member in members:
        member.refresh()
        member.step()
    assert counts() == {first.name: reported, second.name: again - reported}
    second.open()
    for member in members:
        member.step()
    assert counts() == {first.name: reported, second.name: again - reported}


def test_latencies_of_all_gateways_are_one(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "ab")
    for member, ms in zip(members, (1.0, 9.0), strict=True):
        member.fleet.answer("1", 50, bad=1, ms=ms)
        member.world.clock.now += 11
    for _ in range(2):
        for member in members:
            member.step()
    latency = lead(members).monitoring.describe("m", "1")["latency"]
    assert latency["count"] == 102
    assert latency["p50"] < 2 < latency["p90"]


@pytest.mark.simulation
def test_another_gateway_goes_on_with_the_evidence_and_emits_no_event_twice(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "abc")
    generator = np.random.default_rng(5)
    for shift in (0.0, 0.0, 0.6, 0.6):
        serve(members, generator, 300, shift)
    first = lead(members)
    reported = events(first)
    assert [kind.split(".")[-2] for kind, _ in reported] == ["detected"]
    first.kill()
    left = [member for member in members if member is not first]
    for _ in range(4):
        serve(left, generator, 300, 0.6)
    second = lead(left)
    shown = second.show()
    assert shown["features"][0]["state"] == "drift"
    assert shown["rows"]["counted"] == 8 * 300
    assert events(second) == reported


@pytest.mark.simulation
def test_what_a_gateway_had_published_stays_when_it_ends(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "abc")
    generator = np.random.default_rng(5)
    serve(members, generator, 300)
    gone = next(member for member in members if not member.evidence.is_known)
    gone.count(REFERENCE, exchange(generator, 50))  # one interval's rows, which nobody hears of
    gone.kill()
    left = [member for member in members if member is not gone]
    clock.now += RETIRED_S + 1
    for _ in range(14):
        serve(left, generator, 10)
    assert lead(left).show()["rows"]["counted"] == 300 + 14 * 10
    assert {(row.gateway, row.version) for row in left[0].store.published()} == {
        (name, version) for name in ("", *(item.name for item in left)) for version in ("1", "2", "3")
    }
    assert not [row for row in left[0].store.published() if row.gateway == gone.name]


def test_a_gateway_that_led_without_knowing_that_another_does_changes_nothing(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "ab")
    generator = np.random.default_rng(5)
    serve(members, generator, 300)
    leading = lead(members)
    verdict = leading.store.verdict("m", "1")
    assert verdict is not None
    with pytest.raises(Conflict, match="another gateway"):
        leading.store.conclude(("m", "1"), verdict, ())
    newer = members[0].store.verdict("m", "1")
    assert newer is not None
    assert newer.revision == verdict.revision


def label(members: list[Member], generator: np.random.Generator, rows: int, wrong: float) -> None:
    """Labels of some rows come in at the gateways by turns; each joins its own."""
    clock = members[0].world.clock
    for number in range(rows):
        clock.now += 0.01
        right = float(generator.random() >= wrong)
        joined = LabelledRow("1", CLASS, 1.0, (0.1, 0.9, np.nan, np.nan), right, clock.now, clock.now - 1)
        members[number % len(members)].evidence.labels.add("m", [joined])
    for item in sorted(members, key=lambda item: item.evidence.is_known):
        item.step()


def degraded(member: Member) -> list[Any]:
    reported = member.world.traffic.events("m", 0, 1000)
    return [
        (item["data"]["what"], item["data"].get("since_label")) for item in reported if "performance" in item["type"]
    ]


@pytest.mark.simulation
def test_labels_of_all_gateways_say_what_those_of_one_with_all_say(tmp_path: Path) -> None:
    alone, three = fleet(tmp_path / "one", Clock(), "a"), fleet(tmp_path / "three", Clock(), "abc")
    sources = [np.random.default_rng(9), np.random.default_rng(9)]
    shown: list[Document] = []
    for wrong in (0.1,) * 2 + (0.6,):
        shown.clear()
        for members, generator in zip((alone, three), sources, strict=True):
            label(members, generator, 300, wrong)
            shown.append(lead(members).monitoring.describe("m", "1")["performance"])
        assert shown[0] == shown[1]
    assert shown[1]["labels"] == 3 * 300
    assert degraded(alone[0]) == degraded(three[0]) != []


@pytest.mark.simulation
def test_another_gateway_learns_from_the_labels_and_reports_no_change_twice(tmp_path: Path, clock: Clock) -> None:
    members, generator = fleet(tmp_path, clock, "ab"), np.random.default_rng(9)
    for wrong in (0.1,) * 4 + (0.6,):
        label(members, generator, 300, wrong)
    first = lead(members)
    reported, shown = degraded(first), first.monitoring.describe("m", "1")["performance"]
    assert reported
    first.kill()
    second = next(member for member in members if member is not first)
    for _ in range(2):
        second.step()
    assert second.monitoring.describe("m", "1")["performance"] == shown
    assert degraded(second) == reported


def test_labels_that_are_not_kept_any_more_still_count(tmp_path: Path, clock: Clock) -> None:
    members, generator = fleet(tmp_path, clock, "ab"), np.random.default_rng(9)
    for _ in range(3):
        label(members, generator, 100, 0.1)
    first = lead(members)
    clock.now += KEEP_S
    first.step()
    first.store.trim_labels(50)
    first.kill()
    second = next(member for member in members if member is not first)
    second.step()
    assert second.monitoring.describe("m", "1")["performance"]["labels"] == 300


def test_a_step_that_ends_early_loses_no_label(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    (member,), generator = fleet(tmp_path, clock, "a"), np.random.default_rng(9)
    label([member], generator, 40, 0.1)
    for name in ("published", "labels", "conclude"):
        with monkeypatch.context() as patch:
            patch.setattr(member.store, name, away)
            clock.now += KEEP_S
            with pytest.raises(NotReady):
                label([member], generator, 40, 0.1)
    member.step()
    assert member.monitoring.describe("m", "1")["performance"]["labels"] == 4 * 40


@pytest.mark.parametrize("name", ["verdict", "labels_of"])
def test_a_gateway_that_begins_to_lead_while_the_database_is_away_loses_no_label(
    name: str, tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    (member,), generator = fleet(tmp_path, clock, "a"), np.random.default_rng(9)
    for _ in range(2):
        label([member], generator, 40, 0.1)  # the second 40 are written down, and not what they say
    member.open()
    with monkeypatch.context() as patch:
        patch.setattr(member.store, name, away)
        with pytest.raises(NotReady):
            member.step()
    label([member], generator, 40, 0.1)
    assert member.monitoring.describe("m", "1")["performance"]["labels"] == 3 * 40


def away(*_: object) -> None:
    raise NotReady("away")


def test_labels_that_could_not_be_written_wait(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    (member,), generator = fleet(tmp_path, clock, "a"), np.random.default_rng(9)
    with monkeypatch.context() as patch:
        patch.setattr(member.store, "add_labels", away)
        with pytest.raises(NotReady):
            label([member], generator, 40, 0.1)
    member.step()
    assert [batch.number for batch in member.store.labels_of("m", "1")] == [40]


def test_labels_are_kept_within_bounds(tmp_path: Path, clock: Clock) -> None:
    (member,), generator = fleet(tmp_path, clock, "a"), np.random.default_rng(9)
    for _ in range(5):
        label([member], generator, 40, 0.1)
    member.store.trim_labels(100)
    assert [batch.number for batch in member.store.labels_of("m", "1")] == [40, 40, 40]
    member.store.add_labels(member.store.labels_of("m", "1"))
    assert len(member.store.labels(0)) == 3, "each batch once"


@pytest.mark.simulation
@settings(max_examples=examples(15))
@given(st.lists(st.sampled_from(["count", "publish", "look", "restart"]), min_size=1, max_size=12), st.integers(0, 9))
def test_no_order_of_publications_looks_and_restarts_loses_or_doubles_rows(
    tmp_path_factory: pytest.TempPathFactory, steps: list[str], seed: int
) -> None:
    clock, generator = Clock(), np.random.default_rng(seed)
    members = fleet(tmp_path_factory.mktemp("fleet"), clock, "ab")
    counted = 0
    for step in steps:
        clock.now += 1
        member = members[int(generator.integers(2))]
        if step == "count":
            counted += 20
            member.count(REFERENCE, exchange(generator, 20))
        elif step == "restart":
            member.open()
        else:
            (member if step == "publish" else members[0]).step()
    clock.now += 11
    for item in (*members, *members):
        item.step()
    assert lead(members).monitoring.describe("m", "1")["rows"]["counted"] == counted


@pytest.mark.simulation
def test_what_became_of_labels_is_the_sum_and_each_gateways_own(tmp_path: Path, clock: Clock) -> None:
    members = fleet(tmp_path, clock, "abc")
    for number, member in enumerate(members, 1):
        answers = answers_of([Tensor("p", "FP32", np.array([[0.2, 0.8]], "<f4"))])
        assert answers is not None
        writer = AnswerWriter(member.home / ANSWERS, "m", "1")
        for index in range(number):
            writer.add([f"{member.name}{index}"], [1], answers)
        reported = [Feedback(f"{member.name}{index}", 1) for index in range(number)]
        asyncio.run(member.monitoring.labels.take("m", [*reported, reported[0]]))  # and one of them twice
    for member in (*members, members[0]):
        member.step()
    first = lead(members)
    assert first.show()["performance"]["outcomes"] == {"doubled": 3, "joined": 6}
    assert first.show("gateway")["performance"]["outcomes"] == {"doubled": 1, "joined": 1}
    members[2].kill()
    clock.now += RETIRED_S + 1
    for member in members[:2] * RETIRE_EVERY:
        member.step()
    clock.now += KEEP_S
    first.step()
    assert members[1].show()["performance"]["outcomes"] == {"doubled": 3, "joined": 6}


@pytest.mark.simulation
def test_labels_that_cannot_be_read_are_left_out_and_the_rest_decides(tmp_path: Path, clock: Clock) -> None:
    members, generator = fleet(tmp_path, clock, "ab"), np.random.default_rng(9)
    label(members, generator, 100, 0.1)
    odd = LabelBatch(0, "odd", "m", "1", "b", 7, b"of a newer release")
    members[1].store.add_labels([odd])
    for wrong in (0.1,) * 3 + (0.6,):
        label(members, generator, 300, wrong)
    first = lead(members)
    reported = first.monitoring.describe("m", "1")
    assert (reported["performance"]["labels"], reported["performance"]["unreadable"]) == (1300, 7)
    assert "problem" not in first.show()
    assert degraded(first)
    left_out = Point(LABELS, ("m", "1", "unreadable"), 7)
    assert [left_out in member.monitoring.readings() for member in members] == [member is first for member in members]
    first.kill()
    second = next(member for member in members if member is not first)
    for _ in range(2):
        second.step()
    assert second.monitoring.describe("m", "1")["performance"] == reported["performance"]
