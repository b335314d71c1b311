"""The outbox over SQLite and PostgreSQL: events are decided and addressed at once, in order, each by itself."""

import pytest

from penstock.core.errors import Conflict, NotFound
from penstock.registry.db.database import Database
from penstock.registry.stores.outbox import Outbox, Superseded
from penstock.registry.stores.traffic import TrafficStore, TrialEvent
from penstock.registry.stores.versions import VersionStore
from tests.integration.registry.test_store import BY, Clock, clock, database, store, version

__all__ = ["clock", "database", "store"]


@pytest.fixture
def outbox(database: Database, clock: Clock) -> Outbox:
    return Outbox(database, TrafficStore(database, clock), clock)


def event(key: str, model: str = "m") -> TrialEvent:
    return TrialEvent("retraining.requested.v1", f"models/{model}/versions/1", key, {"model": model, "key": key})


def test_a_decision_and_what_is_sent_are_one(outbox: Outbox, store: VersionStore) -> None:
    assert outbox.rule_state("m") == ({}, 0)
    assert outbox.commit("m", 0, {"rules": 1}, event("a"), ["hook", "log"], BY) == 1
    assert outbox.rule_state("m") == ({"rules": 1}, 1)
    found = outbox.due()
    assert [(item.sink, item.attempts, item.event["data"]["key"]) for item in found] == [
        ("hook", 0, "a"),
        ("log", 0, "a"),
    ]
    assert found[0].event["type"] == "io.penstock.retraining.requested.v1"
    assert found[0].event["sequence"] == 1
    assert store.audit("m")[0].action == "retraining.request"
    for revision in (0, 2):
        with pytest.raises(Conflict):
            outbox.commit("m", revision, {"rules": 2}, event("b"), ["hook"])
    assert len(outbox.due()) == 2  # nothing of what was refused is there
    assert outbox.commit("m", 1, {"rules": 2}) == 2


def test_what_answers_is_pinned_unless_it_was_retired_or_something_else_decides(
    outbox: Outbox, store: VersionStore
) -> None:
    for number in "12":
        store.add_version(version(number), BY)
    store.retire("m", "1", BY)
    outbox.commit("m", 0, {}, event("a"), (), BY, pin="1")
    assert store.model("m").aliases == {}
    outbox.commit("m", 1, {}, event("b"), (), BY, pin="2")
    outbox.commit("m", 2, {}, event("c"), (), BY, pin="3")
    assert store.model("m").aliases["champion"].version == "2"
    outbox.commit("of a folder", 0, {}, event("d", "of a folder"), (), BY, pin="7")
    assert store.model("of a folder").aliases["champion"].version == "7"


def test_the_same_event_is_sent_once(outbox: Outbox) -> None:
    outbox.commit("m", 0, {}, event("a"), ["hook"])
    outbox.commit("m", 1, {}, event("a"), ["hook", "log"])
    assert [delivery.sink for delivery in outbox.due()] == ["hook", "log"]


def test_each_sink_gets_a_models_events_in_order(outbox: Outbox, clock: Clock) -> None:
    outbox.commit("m", 0, {}, event("a"), ["hook", "log"])
    outbox.commit("m", 1, {}, event("b"), ["hook", "log"])
    outbox.commit("n", 0, {}, event("c", "n"), ["hook"])

    def due() -> list[tuple[str, str, str]]:
        return [(delivery.model, delivery.sink, delivery.event["data"]["key"]) for delivery in outbox.due()]

    assert due() == [("m", "hook", "a"), ("m", "log", "a"), ("n", "hook", "c")]
    first, log, _ = outbox.due()
    outbox.mark_failed(first, clock.now + 10, "it answered 500")
    outbox.mark_sent(log)
    assert due() == [("m", "log", "b"), ("n", "hook", "c")]  # what comes after waits for what is before it
    assert outbox.pending()["m"] == (3, clock.now)
    clock.now += 10
    assert due()[0] == ("m", "hook", "a")
    assert outbox.due()[0].attempts == 1


def test_deliveries_that_were_given_up_can_be_replayed(outbox: Outbox, store: VersionStore) -> None:
    outbox.commit("m", 0, {}, event("a"), ["hook"])
    outbox.mark_dead(outbox.due()[0], "it answered 410", event("gone"))
    assert outbox.due() == []
    assert outbox.pending() == {}
    assert [(delivery["state"], delivery["error"]) for delivery in outbox.deliveries("m")] == [
        ("dead", "it answered 410")
    ]
    assert outbox.replay("m", BY) == 1
    assert [delivery.attempts for delivery in outbox.due()] == [0]
    assert store.audit("m")[0].action == "outbox.replay"
    with pytest.raises(NotFound):
        outbox.replay("m", BY)


def test_what_became_of_one_attempt_is_written_once(outbox: Outbox, clock: Clock) -> None:
    outbox.commit("m", 0, {}, event("a"), ["hook"])
    [first] = outbox.due()
    begun = outbox.begin(first)
    with pytest.raises(Superseded):
        outbox.begin(first)
    outbox.mark_failed(begun, clock.now, "it answered 500")
    [second] = outbox.due()
    assert second.attempts == 1
    outbox.mark_sent(second)
    for stale in (first, begun, second):
        with pytest.raises(Superseded):
            outbox.begin(stale)
        with pytest.raises(Superseded):
            outbox.mark_sent(stale)
        with pytest.raises(Superseded):
            outbox.mark_failed(stale, clock.now, "late")
        with pytest.raises(Superseded):
            outbox.mark_dead(stale, "late", event("gone"), [])
    assert [(delivery["state"], delivery["attempts"]) for delivery in outbox.deliveries("m")] == [("sent", 2)]


def test_what_waits_for_its_next_attempt_can_be_hurried(outbox: Outbox, clock: Clock) -> None:
    outbox.commit("m", 0, {}, event("a"), ["hook"])
    outbox.mark_failed(outbox.due()[0], clock.now + 3600, "it answered 503")
    assert outbox.due() == []
    assert outbox.replay("m", BY) == 1
    assert [delivery.attempts for delivery in outbox.due()] == [0]


@pytest.mark.parametrize("back_s", [60.5, 3600.0, 86_400.0])
def test_a_clock_that_is_set_back_holds_up_no_delivery(outbox: Outbox, clock: Clock, back_s: float) -> None:
    outbox.commit("m", 0, {}, event("a"), ["hook"])
    clock.now -= back_s
    [first] = outbox.due()
    outbox.mark_failed(first, clock.now + 3600, "it answered 503")
    assert outbox.due() == []
    clock.now += 3601
    [second] = outbox.due()
    outbox.mark_failed(second, clock.now + 300, "it answered 503")
    clock.now -= 86_400
    assert [delivery.attempts for delivery in outbox.due()] == [2]
