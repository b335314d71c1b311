"""The dispatcher over a real database: order, repeats, and commands that run once for each event."""

import asyncio
import errno
import logging
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from penstock.control.calls import blocking
from penstock.control.retraining import dispatcher as module
from penstock.control.retraining.dispatcher import AT_ONE_SINK, MOST_ATTEMPTS, PUT_OFF_S, SEND_S, Dispatcher
from penstock.control.sinks import SinkContext, plugins
from penstock.core.errors import NotReady
from penstock.core.sinks import SinkOrigin, SinkSpec
from penstock.core.triggers.state import InFlight, RuleState, decode_rule_state, encode_rule_state
from penstock.registry.db.lease import LeaseHolder
from penstock.registry.records import Author, Document
from penstock.registry.stores.outbox import Outbox
from penstock.registry.stores.traffic import TrialEvent, event_id
from tests.harness import PATIENCE_S, reached
from tests.integration.traffic.test_retraining import receiving
from tests.unit.control.trials import World

T = TypeVar("T")
KIND = "retraining.requested.v1"
HANGING_S = 0.1
"""Deadline of calls that hang, and of no others."""


class Setup:
    """A dispatcher of one model with one sink; ``fails`` is how often writing the end of a delivery fails, ``unheard``
    how often its beginning is written and nobody hears of it. Another gateway sends all that is due when this one is
    about to make the call of the outbox named ``overtaken_at``."""

    def __init__(self, folder: Path, sink: SinkSpec) -> None:
        self.folder, self.world, self.sinks = folder, World(folder), {"train": sink}
        self.outbox = Outbox(self.world.database, self.world.traffic, self.world.clock)
        self.fails = self.unheard = 0
        self.overtaken_at = ""
        self.lacking: list[OSError] = []
        self.open()

    def open(self) -> None:
        """As another process does."""
        self.dispatcher = self.other()

    def other(self) -> Dispatcher:
        context = SinkContext(self.folder, gather=self._gather)
        return Dispatcher(self.outbox, lambda _: self.sinks, context, self._run, self.world.clock)

    def _gather(self, _event: Document, _folder: Path) -> None:
        if self.lacking:
            raise self.lacking.pop()

    async def _run(self, work: Callable[..., T], *arguments: Any) -> T:
        name = getattr(work, "func", work).__name__
        if name == self.overtaken_at:
            self.overtaken_at = ""
            other = self.other()
            await other.step()
            await other.idle()
        if self.fails and name == "mark_sent":
            self.fails -= 1
            raise NotReady("the database is away")
        result = work(*arguments)
        if self.unheard and name == "begin":
            self.unheard -= 1
            raise NotReady("the database did not answer")
        return result

    def lead(self) -> None:
        """In a new term, which lasts."""
        database = self.world.database
        database.lease.release(database)
        database.lease = LeaseHolder(steady=lambda: 0.0)
        assert database.acquire_leadership()

    def ask(self, key: str) -> None:
        data: Document = {"model": "m", "version": "1", "rule": "r"}
        revision = self.outbox.rule_state("m")[1]
        self.outbox.commit("m", revision, {}, TrialEvent(KIND, "models/m/versions/1", key, data), ["train"])

    def request(self, key: str, *sinks: str) -> None:
        """Ask as rules do."""
        event = TrialEvent(KIND, "models/m/versions/1", key, {"model": "m", "version": "1", "rule": "r"})
        flight = InFlight("1", self.world.clock(), event_id(event))
        document = encode_rule_state(RuleState(in_flight=flight))
        self.outbox.commit("m", self.outbox.rule_state("m")[1], document, event, sinks or ["train"])

    def under_way(self) -> InFlight | None:
        return decode_rule_state(self.outbox.rule_state("m")[0]).in_flight

    def step(self) -> None:
        async def act() -> None:
            await self.dispatcher.step()
            await self.dispatcher.idle()

        asyncio.run(act())

    def step_until_taken(self, hanging: "Hanging") -> int:
        """Send until calls hang at all places of a sink; how many attempts that took (a call that a busy machine does
        not begin within its deadline takes no place)."""
        attempts = 0
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(blocking, "DEADLINE_FACTOR", HANGING_S / SEND_S)
            while hanging.begun < AT_ONE_SINK:
                self.step()
                self.world.clock.now += 3600
                attempts += 1
        return attempts

    def states(self) -> list[tuple[str, int]]:
        return [(delivery["state"], delivery["attempts"]) for delivery in self.outbox.deliveries("m")]

    def due(self) -> float:
        """When the oldest delivery is tried again."""
        with self.world.database.reading() as connection:
            return float(connection.execute(sa.text("select min(due) from outbox")).scalar_one())

    def reported(self) -> list[Document]:
        events = self.world.traffic.events("m")
        return [event["data"] for event in events if event["type"].endswith("delivery.failed.v1")]


def command(*lines: str) -> SinkSpec:
    return SinkSpec("command", {"argv": [sys.executable, "-c", "\n".join(lines)]}, SinkOrigin.OWNER)


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text()) if (folder / "runs").exists() else 0


def counted(folder: Path, *lines: str) -> SinkSpec:
    return command(f"open({str(folder / 'runs')!r}, 'a').write('x')", *lines)


def test_a_training_that_fails_is_run_once_and_reported_with_its_output(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path, "print('no rows')", "raise SystemExit(3)"))
    setup.ask("a")
    for _ in range(3):
        setup.step()
        setup.world.clock.now += 3600
    assert runs(tmp_path) == 1
    assert setup.states() == [("dead", 1)]
    [reported] = setup.reported()
    assert (reported["model"], reported["version"], reported["rule"], reported["sink"]) == ("m", "1", "r", "train")
    assert reported["reason"] == "the command ended with 3; its last output:"
    assert reported["output"] == ["no rows"]
    assert setup.outbox.deliveries("m")[0]["error"].endswith("no rows")
    setup.outbox.replay("m", Author("me", "again"))
    setup.step()
    assert runs(tmp_path) == 2
    assert len(setup.reported()) == 2


def test_a_training_waits_for_space_on_the_disk_however_long_it_takes(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.lacking = [OSError(errno.ENOSPC, "No space left on device")] * (MOST_ATTEMPTS + 1)
    setup.request("a")
    while setup.lacking:
        setup.step()
        assert setup.states() == [("pending", 0)]
        assert "No space left" in setup.outbox.deliveries("m")[0]["error"]
        setup.world.clock.now += PUT_OFF_S[1]
    assert not runs(tmp_path)
    setup.step()
    assert runs(tmp_path) == 1
    assert setup.states() == [("sent", 1)]
    assert not setup.reported()


def test_a_disk_that_stays_read_only_is_tried_less_often_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup, due = Setup(tmp_path, counted(tmp_path)), []
    setup.lacking = [OSError(errno.EROFS, "Read-only file system")] * 12
    setup.ask("a")
    with caplog.at_level(logging.INFO):
        while setup.lacking:
            setup.step()
            due.append(setup.due() - setup.world.clock.now)
            setup.world.clock.now += PUT_OFF_S[1]
        setup.step()
    assert runs(tmp_path) == 1
    for failures, pause in enumerate(due):
        whole = min(PUT_OFF_S[1], PUT_OFF_S[0] * 2**failures)
        assert whole / 2 - 0.001 <= pause <= whole + 0.001
    lines = [record.getMessage() for record in caplog.records if "sink train" in record.getMessage()]
    assert [line.partition(" of model m ")[2].partition(":")[0] for line in lines] == [
        "does not have an event",
        "accepts events again",
    ]


def test_a_sink_that_is_away_is_logged_once_and_so_is_each_event_that_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    setup = Setup(tmp_path, SinkSpec("webhook", {"url": "http://127.0.0.1:1/"}, SinkOrigin.OWNER))
    for key in "ab":
        setup.ask(key)
    with caplog.at_level(logging.INFO):
        for _ in range(2 * MOST_ATTEMPTS):
            setup.step()
            setup.world.clock.now += 3600
    assert [state for state, _ in setup.states()] == ["dead", "dead"]
    lines = [record.getMessage() for record in caplog.records if "sink train" in record.getMessage()]
    assert [("given up" in line, "does not have" in line) for line in lines] == [
        (False, True),
        (True, False),
        (True, False),
    ]


def test_what_is_remembered_of_a_sink_goes_with_it(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.lacking = [OSError(errno.EROFS, "Read-only file system")]
    setup.ask("a")
    setup.step()
    assert setup.dispatcher._not_started == {("m", "train"): 1}
    setup.sinks.clear()
    setup.step()
    assert setup.dispatcher._not_started == {}


def test_a_training_that_could_not_be_started_runs_once_there_is_space(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.ask("a")
    [delivery] = setup.outbox.due()
    event = tmp_path / "retraining" / delivery.event["id"] / "event.json"
    event.parent.mkdir(parents=True)
    event.symlink_to("/dev/full")
    setup.step()
    assert setup.states() == [("pending", 0)]
    event.unlink()
    setup.world.clock.now += 60
    setup.step()
    assert runs(tmp_path) == 1
    assert setup.states() == [("sent", 1)]


def test_an_event_without_data_is_given_up_like_others(tmp_path: Path) -> None:
    setup = Setup(tmp_path, command("raise SystemExit(3)"))
    setup.ask("a")
    with setup.world.database.writing() as connection:
        connection.execute(sa.text("update events set data = 'null'"))
    setup.step()
    assert setup.states() == [("dead", 1)]
    [reported] = setup.reported()
    assert (reported["model"], reported["version"]) == ("m", None)


def test_a_request_whose_training_failed_is_over_until_it_is_run_again(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path, "raise SystemExit(3)"))
    setup.request("a")
    setup.step()
    assert setup.under_way() is None
    setup.outbox.replay("m", Author("me", "again"))
    assert setup.under_way() is not None
    setup.step()
    assert (runs(tmp_path), setup.under_way()) == (2, None)
    setup.request("b")
    setup.sinks = {"train": counted(tmp_path)}
    setup.step()
    assert setup.under_way() is not None  # it ended well: its version is awaited


def test_a_request_goes_on_while_another_training_may_bring_a_version(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path, "raise SystemExit(3)"))
    setup.sinks["other"] = counted(tmp_path)
    setup.request("a", "train", "other")
    setup.step()
    assert (sorted(state for state, _ in setup.states()), runs(tmp_path)) == (["dead", "sent"], 2)
    assert setup.under_way() is not None
    setup.sinks["other"] = setup.sinks["train"]
    setup.request("b", "train", "other")
    setup.step()
    assert setup.under_way() is None


def test_the_failed_training_of_an_older_request_ends_no_newer_one(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path, "raise SystemExit(3)"))
    setup.request("a")
    [older] = setup.outbox.due()
    setup.request("b")
    setup.outbox.mark_dead(older, "it failed", TrialEvent("delivery.failed.v1", "models/m", "1", {}), [])
    assert setup.under_way() is not None


def test_a_training_that_a_gateway_left_unfinished_is_not_run_by_the_next(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.ask("a")
    setup.outbox.begin(setup.outbox.due()[0])  # and then the gateway ended
    setup.open()
    setup.step()
    assert runs(tmp_path) == 0
    assert setup.states() == [("dead", 2)]
    assert "before it finished" in setup.reported()[0]["reason"]


def test_events_come_in_order_and_each_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    for key in "abc":
        setup.ask(key)
    setup.step()
    assert (runs(tmp_path), setup.states()) == (3, [("sent", 1)] * 3)


def test_what_became_of_a_delivery_is_written_as_soon_as_the_database_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WRITE_AGAIN_S", (0.0, 0.0))
    setup = Setup(tmp_path, counted(tmp_path))
    setup.ask("a")
    setup.fails = 3
    setup.step()
    assert (runs(tmp_path), setup.states(), setup.fails) == (1, [("sent", 1)], 0)


def test_a_command_whose_beginning_was_not_answered_runs_once(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.ask("a")
    setup.lead()
    setup.unheard = 2
    for _ in range(2):
        setup.step()
        assert (runs(tmp_path), setup.states()) == (0, [("pending", 1)])
    setup.step()
    assert (runs(tmp_path), setup.states(), setup.reported()) == (1, [("sent", 1)], [])


def test_a_command_whose_beginning_was_not_answered_is_left_alone_in_a_later_term(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.ask("a")
    setup.lead()
    setup.unheard = 1
    setup.step()
    setup.lead()  # another gateway may have begun it, and run it, in the term between
    setup.step()
    assert (runs(tmp_path), [state for state, _ in setup.states()]) == (0, ["dead"])
    assert "lost the lead" in setup.reported()[0]["reason"]


@pytest.mark.parametrize(
    ("at", "fails", "state", "reported"),
    [
        ("begin", False, "sent", 0),  # the other one ran it
        ("begin", True, "dead", 1),
        ("mark_sent", False, "dead", 1),  # the other one found it begun, and could not know how it ends
        ("mark_dead", True, "dead", 1),
    ],
)
def test_a_command_runs_once_whenever_another_gateway_takes_over(
    tmp_path: Path, at: str, fails: bool, state: str, reported: int
) -> None:
    setup = Setup(tmp_path, counted(tmp_path, f"raise SystemExit({int(fails)})"))
    setup.ask("a")
    setup.overtaken_at = at
    for _ in range(3):
        setup.step()
    assert (setup.overtaken_at, runs(tmp_path), len(setup.reported())) == ("", 1, reported)
    assert [item for item, _ in setup.states()] == [state]


@pytest.mark.parametrize(
    ("at", "statuses"), [("mark_sent", [200, 200]), ("mark_failed", [500, 200]), ("mark_dead", [410, 200])]
)
def test_what_another_gateway_sent_stays_sent(tmp_path: Path, at: str, statuses: list[int]) -> None:
    with receiving() as hook:
        hook.answers = [(status, {}) for status in statuses]
        setup = Setup(tmp_path, SinkSpec("webhook", {"url": hook.url}, SinkOrigin.OWNER))
        setup.ask("a")
        setup.overtaken_at = at
        for _ in range(3):
            setup.step()
            setup.world.clock.now += 3600
        assert (setup.overtaken_at, setup.states(), setup.reported()) == ("", [("sent", 1)], [])
        assert len({event["id"] for event in hook.events()}) == 1


def test_a_message_is_tried_again_until_it_is_given_up(tmp_path: Path) -> None:
    setup = Setup(tmp_path, SinkSpec("webhook", {"url": "http://127.0.0.1:1/"}, SinkOrigin.OWNER))
    setup.ask("a")
    for _ in range(MOST_ATTEMPTS + 2):
        setup.step()
        setup.world.clock.now += 3600
    assert setup.states() == [("dead", MOST_ATTEMPTS)]
    assert setup.reported()[0]["kind"] == "webhook"
    counted = [("m", "failed", MOST_ATTEMPTS - 1), ("m", "given_up", 1)]
    assert setup.dispatcher.outcomes(["m"]) == counted
    assert setup.dispatcher.outcomes([]) == setup.dispatcher.outcomes(["m"]) == []


def test_events_of_no_model_are_sent_and_counted(tmp_path: Path) -> None:
    with receiving() as hook:
        setup = Setup(tmp_path, SinkSpec("webhook", {"url": hook.url}, SinkOrigin.CONFIGURATION))
        hook.answers = [(503, {})] * MOST_ATTEMPTS
        for key in ("1", "2"):
            with setup.world.database.writing() as connection:
                event = TrialEvent("audit.checkpoint.v1", "audit", key, {"note": key})
                setup.outbox.insert_event(connection, "", event, ["train"])
        for _ in range(MOST_ATTEMPTS + 1):
            setup.step()
            setup.world.clock.now += 3600
        assert [event["data"]["note"] for event in hook.events()] == ["2"]
    counted = [("", "failed", MOST_ATTEMPTS - 1), ("", "given_up", 1), ("", "sent", 1)]
    assert setup.dispatcher.outcomes([]) == counted
    [given_up] = [event for event in setup.world.traffic.events() if event["type"].endswith("delivery.failed.v1")]
    assert given_up["subject"] == "audit"


class Hanging:
    """A sink of another package that never returns, until it is let go."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.begun = 0

    def __call__(self, values: Mapping[str, Any], event: Document, context: SinkContext) -> None:
        self.begun += 1
        assert self.go.wait(PATIENCE_S)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    found = Hanging()
    monkeypatch.setitem(plugins._SENDERS, "hanging", found)
    yield found
    found.go.set()


def test_calls_that_hang_beyond_their_deadline_take_the_places_of_one_sink_only(
    tmp_path: Path, hanging: Hanging
) -> None:
    with receiving() as hook:
        setup = Setup(tmp_path, SinkSpec("hanging", {}, SinkOrigin.OWNER))
        setup.ask("a")
        taken = setup.step_until_taken(hanging)
        for _ in range(3):
            setup.step()
            setup.world.clock.now += 3600
        assert (hanging.begun, setup.states()) == (AT_ONE_SINK, [("pending", taken)])
        setup.sinks["hook"] = SinkSpec("webhook", {"url": hook.url}, SinkOrigin.OWNER)
        setup.request("b", "hook")
        setup.step()
        assert len(hook.events()) == 1
        hanging.go.set()
        setup.dispatcher.close()  # waits for calls under way
        setup.open()
        setup.step()
        assert setup.states().count(("sent", taken + 1)) == 1


def test_a_sink_that_answers_again_has_its_places_back(tmp_path: Path, hanging: Hanging) -> None:
    setup = Setup(tmp_path, SinkSpec("hanging", {}, SinkOrigin.OWNER))
    setup.ask("a")
    taken = setup.step_until_taken(hanging)
    hanging.go.set()
    asyncio.run(reached(lambda: all(job.returned for _, job in setup.dispatcher._overdue)))
    setup.step()
    assert setup.states() == [("sent", taken + 1)]


def test_a_sink_that_the_policy_no_longer_has_gets_nothing(tmp_path: Path) -> None:
    setup = Setup(tmp_path, counted(tmp_path))
    setup.ask("a")
    setup.sinks.clear()
    setup.step()
    assert setup.states() == [("dead", 1)]
    assert setup.reported()[0]["kind"] is None
