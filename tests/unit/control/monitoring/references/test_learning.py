"""Learning references from rows: how many are waited for and how long, that all gateways' are in them, and that one
failure holds up no other."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from penstock.control.calls.blocking import BlockingPool
from penstock.control.monitoring.policies import Policies
from penstock.control.monitoring.references.gathered_rows import concatenate_gathered, decode_gathered_rows, learn
from penstock.control.monitoring.references.learning import ReferenceLearning, learn_spec
from penstock.control.monitoring.references.submission import LEARNING_S, RowSubmission
from penstock.control.periodic import PeriodicTask
from penstock.control.workers.protocol import Message, encode_rows
from penstock.core.errors import NotReady
from penstock.core.live_references import WAIT_S
from penstock.core.policies import MonitorPolicy
from penstock.core.tensors import Tensor
from penstock.core.versions import VersionKey
from penstock.monitor.reference import Reference
from penstock.registry.records import Author
from penstock.registry.stores.gateways import GatewayDescription, GatewayStore
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from tests.unit.control.test_monitoring import COLUMNS, NAMES, WatchedFleet, exchange
from tests.unit.control.trials import Clock, World

ONE, TWO = ("m", "1"), ("m", "2")
ENOUGH = 1000
Exchange = tuple[list[Tensor], list[Tensor]]


def reported(key: VersionKey, rows: Exchange, seen: int | None = None) -> Message:
    """What a worker tells of rows that it has gathered."""
    given, answered = COLUMNS[0](rows[0]), COLUMNS[1](rows[1])
    assert given is not None
    assert answered is not None
    message = {"model": key[0], "version": key[1], "names": NAMES, "seen": seen or len(given)}
    return message | {"inputs": encode_rows([given]), "outputs": encode_rows([answered])}


class Learner:
    """Learns with a clock that is set by hand; gives references to a table as well, or fails as it is told to."""

    def __init__(self, folder: Path, pool: BlockingPool, clock: Clock | None = None, name: str = "a") -> None:
        async def step() -> None:
            """Steps are made by the tests."""

        self.world = World(folder, "", clock)
        self.world.database.lease.gateway = name
        self.clock, self.fleet, self.name = self.world.clock, WatchedFleet(self.world), name
        self.given: dict[VersionKey, Reference] = {}
        self.failures: list[tuple[VersionKey, Exception]] = []
        self.store = MonitorStore(self.world.database, self.clock)
        task = PeriodicTask("monitor", step, 1.0, clock=self.clock)
        policies = Policies(self.store, pool, task)
        policies.take_over({"m": {"monitor": {"live_reference_rows": ENOUGH}}})
        shared = pool, task, self.store.gathered
        self.rows = RowSubmission(*shared, self.fleet, policies, self.given, self.clock)
        self.learning = ReferenceLearning(*shared, policies, self.rows, self._give, self.fleet.renew)

    async def _give(self, key: VersionKey, reference: Reference, by: Author) -> None:
        for failing, error in self.failures:
            if key == failing:
                raise error
        record = ReferenceRecord(*key, reference.digest, reference.source)
        self.store.set_learned(record, {"by": by.reason}, by)
        self.given[key] = reference
        assert by.actor == "monitor"

    def serve(self, *versions: str) -> None:
        """Say that this gateway lives and serves versions."""
        GatewayStore(self.world.database).beat(
            GatewayDescription(self.name, "host", "1", 0.0, 1, {"m": list(versions)})
        )

    def gather(self, key: VersionKey, rows: int, shift: float = 0.0, seen: int | None = None) -> None:
        self.learning.gathered(reported(key, exchange(np.random.default_rng(rows), rows, shift), seen))

    def learn(self) -> dict[VersionKey, int]:
        asyncio.run(self.learning.step())
        return {key: item.rows for key, item in self.given.items()}


@pytest.fixture
def pool() -> Iterator[BlockingPool]:
    made = BlockingPool("test", 1, "the database", 60)
    yield made
    made.close()


@pytest.fixture
def learner(tmp_path: Path, pool: BlockingPool) -> Learner:
    return Learner(tmp_path, pool)


@pytest.mark.parametrize(("workers", "rows"), [(1, 1000), (2, 500), (3, 334), (1000, 1), (3000, 1)])
def test_each_worker_gathers_its_share_rounded_up(workers: int, rows: int) -> None:
    assert learn_spec(MonitorPolicy(live_rows=1000), workers).rows == rows


def test_enough_rows_are_a_reference_at_once_and_fewer_after_a_while(learner: Learner) -> None:
    learner.gather(ONE, 600)
    learner.gather(TWO, 600)
    assert learner.learn() == {}
    learner.gather(ONE, 400)
    assert learner.learn() == {ONE: 1000}
    learner.clock.now += LEARNING_S
    assert learner.learn() == {ONE: 1000, TWO: 600}
    learner.gather(ONE, 5000)  # too late: it has one
    assert learner.learn() == {ONE: 1000, TWO: 600}
    assert learner.store.gathered.open() == {}
    assert learner.fleet.renewed == 0


def test_a_gateway_alone_learns_of_all_its_rows_one_worker_below_the_other(learner: Learner) -> None:
    """As it was before gateways learned together: more rows than are asked for, too, and probabilities."""
    parts = [reported(ONE, exchange(np.random.default_rng(seed), 700)) for seed in range(2)]
    for part in parts:
        part["confidence"] = {"classes": 2, "counts": [35] * 20, "right": []}
        learner.learning.gathered(part)
    assert learner.learn() == {ONE: 1400}
    rows = [item for item in map(decode_gathered_rows, parts) if item is not None]
    assert learner.given[ONE] == learn(concatenate_gathered(rows))
    sure = learner.given[ONE].confidence
    assert sure is not None
    assert sum(sure.counts) == 1400


def test_rows_stay_until_they_are_a_reference(learner: Learner, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise NotReady("the database is away")

    learner.gather(ONE, ENOUGH)
    with monkeypatch.context() as patch:
        patch.setattr(learner.store.gathered, "submit", away)
        with pytest.raises(NotReady):
            learner.learn()
    learner.failures = [(ONE, NotReady("the database is away"))]
    with pytest.raises(NotReady):
        learner.learn()
    learner.failures = []
    assert learner.learn() == {ONE: ENOUGH}


def test_one_that_cannot_be_learned_of_holds_up_no_other_and_is_tried_again(learner: Learner) -> None:
    learner.gather(ONE, ENOUGH)
    learner.gather(TWO, ENOUGH)
    learner.failures = [(ONE, ValueError("odd rows"))]
    assert learner.learn() == {TWO: ENOUGH}
    assert "odd rows" in learner.learning.problem(ONE)
    learner.failures = []
    learner.clock.now += 3600
    assert learner.learn() == {TWO: ENOUGH, ONE: ENOUGH}
    assert learner.learning.problem(ONE) == ""


def test_forgotten_rows_do_not_make_a_reference(learner: Learner) -> None:
    learner.gather(ONE, ENOUGH)
    learner.learning.forget(ONE)
    assert learner.learn() == {}


# In a fleet.


@pytest.fixture
def fleet(tmp_path: Path, pool: BlockingPool) -> list[Learner]:
    """Three gateways that serve version 1; the first one leads."""
    clock = Clock()
    members = [Learner(tmp_path, pool, clock, name) for name in "abc"]
    for member in members:
        member.serve("1")
        member.learn()
    return members


def test_the_reference_has_the_rows_of_all_gateways_in_proportion(fleet: list[Learner]) -> None:
    """Each gateway sees other values; one of them has six tenths of the traffic."""
    first, second, third = fleet
    second.gather(ONE, ENOUGH, shift=100.0, seen=6000)
    assert second.learn() == {}
    assert (first.learn(), third.learn()) == ({}, {})
    assert [item.learning.is_awaited(ONE) for item in fleet] == [True, False, True]
    assert (first.fleet.renewed, third.fleet.renewed) == (1, 1)
    third.gather(ONE, 500, shift=200.0, seen=3000)
    assert third.learn() == {}  # its other worker has told of nothing
    third.learning.gathered({"model": "m", "version": "1", "names": NAMES, "inputs": encode_rows([]), "outputs": {}})
    assert third.learn() == {}
    assert first.learn() == {}
    first.gather(ONE, 800, shift=0.0, seen=700)
    first.gather(ONE, 200, shift=0.0, seen=300)
    assert first.learn() == {ONE: ENOUGH}
    assert not first.learning.is_awaited(ONE)
    reference = first.given[ONE]
    x = reference.inputs[0]
    assert x.mean == pytest.approx(120, abs=0.5), "100 rows at 0, 600 at 100, and 300 at 200"
    assert x.std == pytest.approx(60, abs=0.5)
    assert max(feature.seasonal_variation for feature in reference.features) < 0.2, (
        "gateways' rows are not told apart by their order"
    )
    assert first.store.reference(*ONE) == {"by": "learned from 1000 rows of 3 gateways"}
    assert first.store.gathered.open() == {}


def test_a_gateway_that_hands_in_nothing_is_waited_for_no_longer_than_that(
    fleet: list[Learner], caplog: pytest.LogCaptureFixture
) -> None:
    first, second, _ = fleet
    second.gather(ONE, ENOUGH)
    second.learn()
    first.gather(ONE, ENOUGH)
    assert first.learn() == {}
    first.clock.now += WAIT_S - 1
    assert first.learn() == {}
    first.clock.now += 1
    assert first.learn() == {ONE: ENOUGH}
    assert "without c" in caplog.text


def test_another_gateway_goes_on_where_the_one_that_led_was(fleet: list[Learner], pool: BlockingPool) -> None:
    first, second, third = fleet
    for member in (first, second):
        member.gather(ONE, ENOUGH)
        member.learn()
    first.world.database.close()  # it leads no more
    third.gather(ONE, ENOUGH)
    third.learn()
    second.learn()
    assert {**second.given, **third.given}.keys() == {ONE}
    assert second.store.reference(*ONE) == {"by": "learned from 1000 rows of 3 gateways"}


def test_a_control_process_that_is_replaced_hands_in_nothing_less(
    fleet: list[Learner], tmp_path: Path, pool: BlockingPool
) -> None:
    first, second, third = fleet
    second.gather(ONE, ENOUGH)
    second.learn()
    again = Learner(tmp_path, pool, first.clock, "b")
    again.gather(ONE, 10)  # a worker that was started anew
    again.clock.now += LEARNING_S - 1
    again.learn()
    assert not again.learning.is_awaited(ONE)
    assert first.store.gathered.open()[ONE].contributions["b"].rows == ENOUGH
    assert third.learn() == {}


def test_what_cannot_be_read_is_left_out(fleet: list[Learner], caplog: pytest.LogCaptureFixture) -> None:
    first, second, third = fleet
    for member in (second, third):
        member.gather(ONE, ENOUGH)
        member.learn()
    ones = second.store.gathered.open()[ONE].contributions["b"]
    second.store.gathered.submit(ONE, ones, b"of a newer release")
    first.gather(ONE, ENOUGH)
    assert first.learn() == {ONE: ENOUGH}
    assert "gateway b is left out" in caplog.text
    assert first.store.reference(*ONE) == {"by": "learned from 1000 rows of 2 gateways"}


def test_requests_that_are_answered_while_others_are_awaited_count(fleet: list[Learner]) -> None:
    first, second, _ = fleet
    second.gather(ONE, ENOUGH, seen=ENOUGH)
    second.learn()
    second.fleet.answer("1", ENOUGH + 500)
    second.learn()
    assert first.store.gathered.open()[ONE].contributions["b"].answered == ENOUGH + 500


def test_rows_that_were_gathered_before_a_reference_are_not_handed_in_after_it(fleet: list[Learner]) -> None:
    first, second, _ = fleet
    second.gather(ONE, ENOUGH)
    second.learn()
    first.store.set_reference(ReferenceRecord(*ONE, "sha256:ab", "training"), {}, Author("me", ""))
    assert first.store.gathered.open() == {}
    second.learn()  # it has not heard of the reference yet
    assert first.store.gathered.open() == {}


def test_rows_that_cannot_be_read_are_left_out_and_no_reference_is_made_of_none(
    learner: Learner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(type(learner.store.gathered), "rows", lambda *_: b"no rows")
    learner.gather(ONE, ENOUGH)
    assert learner.learn() == {}
    assert "model m version 1: gateway a is left out" in caplog.text
    assert "no gateway has submitted rows that can be read" in caplog.text
