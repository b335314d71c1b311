"""The records of traffic, one list of behaviour over SQLite and PostgreSQL."""

import itertools
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from penstock.core.errors import Conflict, NotFound, NotReady
from penstock.core.routing import RouteSpec, encode_stored_route, parse_route
from penstock.registry.db.database import Database, open_database
from penstock.registry.records import Document, ModelRecord, VersionState
from penstock.registry.stores.snapshot import decode_model, encode_model
from penstock.registry.stores.traffic import EXPERIMENT, ROLLOUT, TrafficStore, TrialChange, TrialEvent
from penstock.registry.stores.versions import VersionStore
from tests.harness import PATIENCE_S
from tests.integration.registry.test_store import BY, Clock, clock, database, store, version
from tests.postgres import Postgres

NUMBERS = itertools.count()
__all__ = ["clock", "database", "store"]

SPLIT = parse_route({"split": {"1": 9000, "2": 1000}, "sticky": "header:x-user", "shadow": [{"version": "3"}]})
EVENT = TrialEvent("test.v1", "models/m", "once", {"reason": "why"})


@pytest.fixture
def postgres_url(server: Postgres) -> str:
    return server.create_registry(f"leaders{next(NUMBERS)}")


@pytest.fixture
def traffic(database: Database, clock: Clock, store: VersionStore) -> TrafficStore:
    for name in ("1", "2", "3"):
        store.add_version(version(name), BY)
    return TrafficStore(database, clock)


def given(route: RouteSpec | None, **changes: object) -> TrialChange:
    return replace(TrialChange({"told": {"state": "running"}}, route=route), **changes)  # type: ignore[arg-type]


def test_a_route_is_kept_as_it_was_set(traffic: TrafficStore, store: VersionStore) -> None:
    revision = traffic.set_route("m", lambda _: SPLIT, BY)
    record = store.model("m")
    assert (record.route, record.revision, store.revision()) == (SPLIT, revision, revision)
    assert store.models() == [record]
    assert decode_model(encode_model(record)) == record
    with pytest.raises(Conflict, match="revision"):
        traffic.set_route("m", lambda _: None, BY, revision - 1)
    with pytest.raises(Conflict, match="route of 'm'"):
        store.retire("m", "3", BY)
    assert traffic.set_route("m", lambda _: None, BY, revision) == revision + 1
    assert store.model("m").route is None
    last = store.audit("m")[-1]
    assert (last.action, last.after, last.before and last.before["split"]) == (
        "route.set",
        None,
        {"1": 9000, "2": 1000},
    )


@pytest.mark.parametrize(
    "document",
    [
        {"rollout": {"spec": {"to": "3", "from": "1"}}, "base": None},
        {"rollout": {"spec": {"to": "2", "from": "3"}}, "base": None},
        {"experiment": {"spec": {"arms": {"1": 5000, "3": 5000}}}, "base": None, "stable": "1"},
        {"rollout": {"spec": {"to": "2", "from": "1"}}, "base": encode_stored_route(SPLIT)},
        {"rollout": {"spec": {"to": "2", "from": "1"}}, "base": None, "champion": "3"},
    ],
)
def test_what_an_open_trial_needs_is_retired_by_force_alone(
    traffic: TrafficStore, store: VersionStore, document: Document
) -> None:
    trial = traffic.begin("m", ROLLOUT, lambda _, __: TrialChange(document, keep_route=True), BY)
    with pytest.raises(Conflict, match=f"rollout {trial.id} of 'm' needs version '3'; end it first"):
        store.retire("m", "3", BY)
    traffic.change(trial, lambda _: TrialChange(document, open=False, keep_route=True), "abort", BY)
    store.retire("m", "3", BY)


def test_a_forced_retirement_asks_no_trial(traffic: TrafficStore, store: VersionStore) -> None:
    document = {"rollout": {"spec": {"to": "3", "from": "1"}}}
    traffic.begin("m", ROLLOUT, lambda _, __: TrialChange(document, keep_route=True), BY)
    store.retire("m", "3", BY, force=True)
    assert store.model("m").versions["3"].state is VersionState.RETIRED


def test_the_versions_that_rollouts_were_begun_to(traffic: TrafficStore) -> None:
    assert traffic.rollout_targets("m") == set()
    for document in ({"rollout": {"spec": {"to": "2"}}}, {"rollout": {"spec": {"to": "3"}}}, {"of": "another form"}):
        trial = traffic.begin("m", ROLLOUT, lambda _, __, item=document: TrialChange(item, open=True), BY)  # type: ignore[misc]
        traffic.change(trial, lambda _, item=document: TrialChange(item, open=False), "abort", BY)  # type: ignore[misc]
    assert traffic.rollout_targets("m") == {"2", "3"}
    assert traffic.rollout_targets("other") == set()


def test_a_trial_begins_goes_on_and_ends_whole(traffic: TrafficStore, store: VersionStore) -> None:
    trial = traffic.begin("m", ROLLOUT, lambda _, __: given(SPLIT), BY)
    assert store.model("m").route == SPLIT
    assert traffic.open_trials() == [trial]
    assert traffic.trial("m", ROLLOUT, trial.id) == trial
    kept = traffic.keep(trial, {"seen": 1})
    assert (kept.document, kept.revision) == ({"seen": 1}, trial.revision + 1)
    with pytest.raises(Conflict, match="has changed"):
        traffic.keep(trial, {})
    with pytest.raises(Conflict, match="has changed"):
        traffic.change(trial, lambda _: given(None), "step", BY)
    ended = traffic.change(kept, lambda _: given(None, open=False, champion=(None, "2"), event=EVENT), "promote", BY)
    assert not ended.open
    assert traffic.open_trials() == []
    record = store.model("m")
    assert (record.route, record.aliases["champion"].version) == (None, "2")
    assert [event["data"] for event in traffic.events()] == [{"reason": "why"}]
    assert traffic.trials("m", ROLLOUT) == [ended]
    with pytest.raises(NotFound):
        traffic.trial("m", EXPERIMENT, trial.id)


def test_a_step_that_cannot_be_taken_leaves_nothing_behind(traffic: TrafficStore, store: VersionStore) -> None:
    store.aliases.move("m", "champion", "1", BY)
    trial = traffic.begin("m", ROLLOUT, lambda _, __: given(SPLIT), BY)
    before = store.model("m"), store.audit("m"), traffic.trial("m", ROLLOUT, trial.id)
    with pytest.raises(Conflict, match="points to 1"):
        traffic.change(trial, lambda _: given(None, open=False, champion=("3", "2"), event=EVENT), "promote", BY)
    assert (store.model("m"), store.audit("m"), traffic.trial("m", ROLLOUT, trial.id)) == before
    assert traffic.events() == []


def test_a_model_has_one_open_trial_whatever_its_kind(traffic: TrafficStore) -> None:
    trial = traffic.begin("m", ROLLOUT, lambda _, __: given(SPLIT), BY)
    for kind in (ROLLOUT, EXPERIMENT):
        with pytest.raises(Conflict, match=trial.id):
            traffic.begin("m", kind, lambda _, __: given(SPLIT), BY)
    with pytest.raises(Conflict, match=trial.id):
        traffic.set_route("m", lambda _: None, BY)
    other = traffic.begin("n", EXPERIMENT, lambda _, __: given(SPLIT), BY)
    assert {trial.id for trial in traffic.open_trials()} == {trial.id, other.id}


def test_racing_steps_have_one_winner(traffic: TrafficStore) -> None:
    trial = traffic.begin("m", ROLLOUT, lambda _, __: given(SPLIT), BY)
    won: list[str] = []

    def race(name: str) -> None:
        def make(_: ModelRecord) -> TrialChange:
            return given(SPLIT)

        try:
            traffic.change(trial, make, name, BY)
        except Conflict:
            return
        won.append(name)

    threads = [threading.Thread(target=race, args=(f"step {number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert len(won) == 1


def test_what_gateways_counted_goes_with_the_trial(traffic: TrafficStore) -> None:
    trial = traffic.begin("m", ROLLOUT, lambda _, __: given(SPLIT), BY)
    traffic.observe(trial.id, "a", {"count": 1})
    traffic.observe(trial.id, "b", {"count": 2})
    traffic.observe(trial.id, "a", {"count": 3})
    assert traffic.observations(trial.id) == {"a": {"count": 3}, "b": {"count": 2}}
    traffic.change(trial, lambda _: given(None, open=False), "abort", BY)
    assert traffic.observations(trial.id) == {}


def test_the_same_event_twice_is_one(traffic: TrafficStore) -> None:
    for _ in range(2):
        traffic.emit("m", EVENT)
    traffic.emit("n", replace(EVENT, subject="models/n"))
    events = traffic.events()
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert [event["subject"] for event in events] == ["models/m", "models/n"]
    assert events[0]["type"] == "io.penstock.test.v1"
    assert [event["subject"] for event in traffic.events("n")] == ["models/n"]
    assert traffic.events(None, events[0]["sequence"]) == events[1:]


def test_a_process_that_is_silent_in_a_transaction_holds_up_no_other(postgres_url: str) -> None:
    first, second = open_database(postgres_url, 1.0), open_database(postgres_url, 5.0)
    try:
        with pytest.raises(NotReady), first.writing() as frozen:  # noqa: PT012 - it is frozen in its middle
            with second.writing() as connection:
                connection.execute(sa.text("SELECT 1"))
            frozen.execute(sa.text("SELECT 1"))
    finally:
        first.close()
        second.close()
