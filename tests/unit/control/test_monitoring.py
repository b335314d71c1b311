"""The monitor's loop over a real database and words in memory: references, learning, drift, policies, restarts."""

import asyncio
import json
import time
from dataclasses import asdict, replace
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from penstock.cli.monitor import render
from penstock.control.monitoring.label_comparisons import ComparedSignal, ComparisonTerms
from penstock.control.monitoring.references.submission import LEARNING_S
from penstock.control.monitoring.service import Monitoring
from penstock.control.periodic import PeriodicTask
from penstock.control.workers.protocol import encode_rows
from penstock.core.desired import Desired, LearnSpec, ModelSpec, VersionSpec, WatchSpec
from penstock.core.errors import InvalidInput, NotFound, NotReady
from penstock.core.frames.terms import RowTerms
from penstock.core.policies import FleetAlarms, MonitorPolicy
from penstock.core.signature import TensorSpec
from penstock.core.tensors import Tensor
from penstock.monitor.answer_segments import ANSWERS, AnswerWriter
from penstock.monitor.answers import answers_of
from penstock.monitor.columns import RowValues, concatenate, input_columns, output_columns
from penstock.monitor.confidence import ConfidenceHistogram
from penstock.monitor.counters.layout import REGION_CELLS, Cells
from penstock.monitor.drift_changes import DriftChange
from penstock.monitor.feedback import Feedback
from penstock.monitor.reference import Reference, decode_reference, encode_reference
from penstock.monitor.reference_builder import build
from penstock.monitor.rows import RegionLayout, RowCounter
from penstock.registry.records import Document
from penstock.registry.stores.monitor import MonitorStore, ReferenceRecord
from penstock.registry.stores.traffic import TrafficStore
from penstock.serving.observers.baseline_collector import BaselineCollector
from penstock.telemetry.metric import MetricType
from penstock.telemetry.readings import Point, PointBatch
from tests.unit.control.trials import ME, FakeFleet, World
from tests.unit.serving.stubs import served

COLUMNS = (
    input_columns([TensorSpec("x", "FP32", (-1, 3))], True),
    output_columns([TensorSpec("y", "FP32", (-1, 2))], True),
)
NAMES = [[*side.numbers, *side.labels] for side in COLUMNS]
POLICY = {"monitor": {"live_reference_rows": 1000, "window_seconds": 60}}


def exchange(generator: np.random.Generator, rows: int, shift: float = 0.0) -> tuple[list[Tensor], list[Tensor]]:
    x = generator.normal(size=(rows, 3)) + np.array([shift, 0, 0])
    return [Tensor("x", "FP32", x.astype("<f4"))], [
        Tensor("y", "FP32", generator.uniform(size=(rows, 2)).astype("<f4"))
    ]


@cache
def trained(seed: int = 0, rows: int = 20_000, names: tuple[str, ...] = tuple(NAMES[0])) -> Reference:
    """A reference, made once: nothing changes it."""
    inputs, outputs = exchange(np.random.default_rng(seed), rows)
    given, answered = COLUMNS[0](inputs), COLUMNS[1](outputs)
    assert given is not None
    return build((names, NAMES[1]), given, answered, "training")


class WatchedFleet(FakeFleet):
    """Two workers whose words are counted into by hand."""

    workers = 2

    def __init__(self, world: World) -> None:
        super().__init__(world.store, world.clock)
        self.cells = [np.zeros(REGION_CELLS, np.uint64) for _ in range(2)]
        self.monitoring: Monitoring | None = None
        self.renewed = 0
        self.stated: tuple[str, ...] = ()

    def regions(self, offset: int, size: int) -> list[Cells]:
        return [cells[offset : offset + size] for cells in self.cells]

    def clear_region(self, offset: int, size: int) -> None:
        for cells in self.regions(offset, size):
            cells[:] = 0

    def feature_names(self, model: str, version: str) -> tuple[str, ...]:
        return self.stated

    def graph(self, model: str, version: str) -> None:
        return None

    def renew(self) -> None:
        self.renewed += 1


class Watcher:
    """One gateway's monitor, looked with by hand."""

    def __init__(self, world: World, folder: Path) -> None:
        self.alarms = FleetAlarms()
        self.world = world
        self.folder = folder
        self.fleet = WatchedFleet(world)
        self.generator = np.random.default_rng(1)
        self.open()

    def open(self) -> None:
        """As a new control process does."""
        store = MonitorStore(self.world.database, self.world.clock)
        self.monitoring = Monitoring(
            store,
            self.world.traffic,
            self.fleet,
            self.folder,
            self.folder / "state.json",
            self.world.clock,
            self.alarms,
        )
        asyncio.run(self.monitoring.start())

    def watch(self, version: str = "1") -> WatchSpec:
        plain = Desired(1, (ModelSpec("m", tuple(VersionSpec(item, "") for item in ("1", "2", "3"))),))
        decorated = self.monitoring.decorate(plain).models[0].versions
        return next(item.watch for item in decorated if item.version == version)

    def give(self, reference: Reference, version: str = "1") -> Document:
        return asyncio.run(self.monitoring.set_reference("m", version, encode_reference(reference), ME))

    def send(self, reference: Reference, rows: int, shift: float = 0.0) -> list[tuple[str, bool]]:
        """Rows at both workers, a second, and a look."""
        watch = self.watch()
        for cells in self.fleet.regions(watch.offset, watch.size):
            RowCounter(reference, cells, COLUMNS, 1.0).count([exchange(self.generator, rows // 2, shift)])
        self.world.clock.now += 1
        return [(change.feature, change.begins) for _, change in self.monitoring.look()]

    def show(self, version: str | None = "1") -> Document:
        return asyncio.run(self.monitoring.document("m", version))


@pytest.fixture
def watcher(tmp_path: Path) -> Watcher:
    return Watcher(World(tmp_path), tmp_path)


def test_rows_have_the_names_of_the_reference_and_what_the_gateway_does_with_others(watcher: Watcher) -> None:
    plain = Desired(1, (ModelSpec("m", (VersionSpec("1", "", row_terms=RowTerms(defaults={"x": 1})),)),))
    assert watcher.monitoring.decorate(plain).models[0].versions[0].row_terms == RowTerms((), {"x": 1})
    for reference, names in ((trained(), ()), (trained(names=("a", "b", "c")), ("a", "b", "c"))):
        watcher.give(reference)
        [spec] = watcher.monitoring.decorate(plain).models[0].versions
        assert spec.row_terms == RowTerms(names, {"x": 1}, "refuse")


def test_features_are_in_the_order_of_the_data_and_not_of_the_card(watcher: Watcher) -> None:
    watcher.fleet.stated = ("c", "a", "b")
    assert watcher.watch().names == watcher.monitoring.column_names("m", "1") == ("c", "a", "b")
    watcher.give(trained(names=("a", "b", "c")))
    assert watcher.watch().names == watcher.monitoring.column_names("m", "1") == ("a", "b", "c")
    watcher.fleet.stated = ("d", "a", "b")
    assert watcher.watch().names == ("d", "a", "b")


@pytest.mark.simulation
def test_a_reference_is_stored_and_gets_counters(watcher: Watcher) -> None:
    reference = trained()
    assert watcher.watch() == WatchSpec(learn=LearnSpec(5000, 100, 10.0, 0.5), answers=str(watcher.folder / ANSWERS))
    reported = watcher.give(reference)
    assert (reported["digest"], reported["rows"], reported["source"]) == (reference.digest, 20_000, "training")
    watch = watcher.watch()
    assert (watch.digest, watch.learn, watch.offset) == (reference.digest, LearnSpec(), 0)
    assert decode_reference(_json(Path(watch.path))) == reference
    other = trained(seed=5)
    watcher.give(other, "2")
    second = watcher.watch("2")
    assert second.offset >= watch.size
    assert watcher.watch() == watch
    watcher.give(trained(seed=6))  # the words of before are not given out while workers may still write to them
    assert watcher.watch().offset >= second.offset + second.size
    watcher.give(reference)
    watch = watcher.watch()
    watcher.open()  # another control process finds everything where it was
    assert (watcher.watch(), watcher.watch("2")) == (watch, second)
    assert watcher.fleet.renewed > 0


def _json(file: Path) -> Any:
    return json.loads(file.read_text())


@pytest.mark.simulation
def test_a_change_is_found_named_and_over_again(watcher: Watcher) -> None:
    reference = trained()
    watcher.give(reference)
    asyncio.run(watcher.monitoring.set_policy("m", POLICY, ME))
    assert watcher.send(reference, 40) == []  # the first look is where counting begins
    for _ in range(20):
        assert watcher.send(reference, 40) == []
    quiet = watcher.show()
    assert {feature["state"] for feature in (*quiet["features"], *quiet["outputs"])} == {"ok"}
    assert quiet["reference"] == {"source": "training", "digest": reference.digest, "rows": 20_000, "small": False}
    changes: list[tuple[str, bool]] = []
    for _ in range(12):
        changes += watcher.send(reference, 40, shift=1.0)
    assert changes[0] == ("x[0]", True)
    drifting = watcher.show()
    assert drifting["features"][0]["state"] == "drift"
    assert drifting["features"][0]["since"] is not None
    assert drifting["features"][0]["psi"] > drifting["features"][1]["psi"]
    assert drifting["alarms"] >= 1
    for _ in range(200):
        changes += watcher.send(reference, 40)
    assert ("x[0]", False) in changes
    assert watcher.show()["features"][0]["state"] == "ok"


@pytest.mark.parametrize("replaced", [False, True])
def test_a_change_that_is_found_while_the_database_is_away_is_reported_once_when_it_is_back(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch, replaced: bool
) -> None:
    def away(*_: object) -> None:
        raise NotReady("away")

    reference = trained()
    watcher.give(reference)
    watcher.send(reference, 40)
    [looking] = [task for task in watcher.monitoring.tasks if task.name == "drift"]
    with monkeypatch.context() as patch:
        patch.setattr(TrafficStore, "insert_event", away)
        watch = watcher.watch()
        cells = watcher.fleet.regions(watch.offset, watch.size)[0]
        RowCounter(reference, cells, COLUMNS, 1.0).count([exchange(watcher.generator, 2000, 2.0)])
        watcher.world.clock.now += 1
        asyncio.run(looking.attempt())
    assert not drifts(watcher)
    if replaced:
        watcher.monitoring.close()
        watcher.open()
        [looking] = [task for task in watcher.monitoring.tasks if task.name == "drift"]
    for _ in range(3):
        asyncio.run(looking.attempt())
    reported = drifts(watcher)
    assert reported
    assert (
        len(reported) == len({item["id"] for item in reported}) == len({item["data"]["message"] for item in reported})
    )


@pytest.mark.parametrize("reported_before", [False, True])
def test_a_kill_between_a_change_and_its_event_loses_nothing_and_emits_it_once(
    reported_before: bool, watcher: Watcher
) -> None:
    """SIGKILL once the evidence is written down, before its event is, or right after it was told."""
    reference = trained()
    watcher.give(reference)
    watcher.send(reference, 40)
    assert ("x[0]", True) in watcher.send(reference, 4000, 2.0)
    if reported_before:
        asyncio.run(looking(watcher).attempt())
    assert bool(drifts(watcher)) is reported_before
    for _ in range(2):
        watcher.open()
        for _ in range(2):
            asyncio.run(looking(watcher).attempt())
    reported = drifts(watcher)
    assert [item["data"]["name"] for item in reported].count("x[0]") == 1
    watcher.world.clock.now += 11  # the evidence is written down again, without events
    asyncio.run(looking(watcher).attempt())
    assert _json(watcher.folder / "evidence.json")["events"] == []


def looking(watcher: Watcher) -> PeriodicTask:
    return next(task for task in watcher.monitoring.tasks if task.name == "drift")


def drifts(watcher: Watcher) -> list[Document]:
    return [event for event in watcher.world.traffic.events("m") if "drift" in event["type"]]


def test_too_few_rows_say_nothing(watcher: Watcher) -> None:
    reference = trained()
    watcher.give(reference)
    watcher.send(reference, 2)
    watcher.send(reference, 50)
    assert watcher.show()["features"][0]["state"] == "insufficient_data"


def test_odd_values_are_violations(watcher: Watcher) -> None:
    reference = trained()
    watcher.give(reference)
    watcher.send(reference, 2)
    watch = watcher.watch()
    rows = np.array([[np.nan, np.inf, 99.0], [np.nan, 0.0, 0.0]], "<f4")
    odd = [([Tensor("x", "FP32", rows)], [Tensor("y", "FP32", np.zeros((2, 2), "<f4"))])]
    RowCounter(reference, watcher.fleet.regions(watch.offset, watch.size)[0], COLUMNS, 1.0).count(odd)
    watcher.world.clock.now += 1
    watcher.monitoring.look()
    quality = watcher.show()["quality"]
    assert quality["violations"] == {
        "missing": 2,
        "non_finite": 1,
        "out_of_range": 1,
        "unseen": 0,
        "constant": 0,
    }
    reported: dict[tuple[str, tuple[str, ...]], float] = {}
    for reading in watcher.monitoring.readings():
        if isinstance(reading, PointBatch):
            reported |= {
                (reading.metric.name, labels): value
                for labels, value in zip(reading.labels, reading.values, strict=True)
            }
        elif isinstance(reading, Point):
            reported[reading.metric.name, reading.labels] = reading.value
    assert reported["quality_violations_total", ("m", "1", "x[0]", "missing")] == 2
    assert reported["feature_bin_total", ("m", "1", "x[2]", "(above)")] == 1
    assert reported["monitor_rows_total", ("m", "1")] == 4
    assert sum(
        value for (name, labels), value in reported.items() if name == "feature_reference_ratio" and labels[2] == "x[0]"
    ) == pytest.approx(1)
    assert any(name == "output_bin_total" and labels[2] == "y.top" for name, labels in reported)


def gathered(watcher: Watcher, rows: int, version: str = "2") -> None:
    inputs, outputs = exchange(watcher.generator, rows)
    given, answered = COLUMNS[0](inputs), COLUMNS[1](outputs)
    assert given is not None
    assert answered is not None
    reported = {"model": "m", "version": version, "names": NAMES}
    watcher.monitoring.gathered(
        {**reported, "inputs": encode_rows([given]), "outputs": encode_rows([concatenate([answered])])}
    )


@pytest.mark.simulation
def test_without_a_reference_one_is_learned_and_a_pushed_one_takes_its_place(watcher: Watcher) -> None:
    asyncio.run(watcher.monitoring.set_policy("m", POLICY, ME))
    assert watcher.watch("2").learn.rows == 500
    gathered(watcher, 600)
    asyncio.run(watcher.monitoring._follow())
    assert watcher.watch("2").path == ""  # the other worker may still be gathering
    gathered(watcher, 500)
    asyncio.run(watcher.monitoring._follow())
    live = watcher.watch("2")
    assert live.path
    watcher.monitoring.look()
    assert watcher.show("2")["reference"] | {"digest": ""} == {
        "source": "live",
        "digest": "",
        "rows": 1100,
        "small": True,
    }
    gathered(watcher, 5000)  # too late: nobody waits for it
    asyncio.run(watcher.monitoring._follow())
    assert watcher.watch("2") == live
    pushed = trained()
    watcher.give(pushed, "2")
    assert watcher.watch("2").digest == pushed.digest


def test_a_learned_reference_trusts_the_stated_probabilities(watcher: Watcher) -> None:
    columns = COLUMNS[0], output_columns([TensorSpec("p", "FP32", (-1, 2))], True)
    generator = np.random.default_rng(5)

    def answered(rows: int) -> tuple[list[Tensor], list[Tensor]]:
        p = generator.uniform(0.5, 1.0, rows).astype("<f4")
        return exchange(generator, rows)[0], [Tensor("p", "FP32", np.stack([1 - p, p], axis=1))]

    def learned(
        inputs: list[RowValues], outputs: list[RowValues], confidence: ConfidenceHistogram | None, _: int
    ) -> None:
        names = [[*side.numbers, *side.labels] for side in columns]
        reported = {
            "model": "m",
            "version": "2",
            "names": names,
            "inputs": encode_rows(inputs),
            "outputs": encode_rows(outputs),
        }
        sure = None if confidence is None else asdict(confidence)
        watcher.monitoring.gathered(json.loads(json.dumps({**reported, "confidence": sure})))

    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"live_reference_rows": 600}}, ME))
    gathering = BaselineCollector(columns, LearnSpec(600), learned, lambda: 0.0, lambda *_: None)
    inputs, outputs = answered(600)
    gathering.gather([served(inputs, outputs)], inputs, outputs)
    asyncio.run(watcher.monitoring._follow())
    watch = watcher.watch("2")
    reference = decode_reference(_json(Path(watch.path)))
    assert reference.confidence is not None
    assert (reference.confidence.classes, sum(reference.confidence.counts)) == (2, 600)
    watcher.monitoring.look()
    for cells in watcher.fleet.regions(watch.offset, watch.size):
        RowCounter(reference, cells, columns, 1.0).count([answered(400)])
    watcher.world.clock.now += 1
    watcher.monitoring.look()
    estimated = watcher.show("2")["performance"]["estimated"]
    assert (estimated["rows"], estimated["calibrated"]) == (800, False)
    assert estimated["accuracy"] == pytest.approx(0.75, abs=0.02)


def test_what_one_worker_gathered_is_enough_after_a_while(watcher: Watcher) -> None:
    gathered(watcher, 300)
    asyncio.run(watcher.monitoring._follow())
    assert watcher.watch("2").path == ""
    watcher.world.clock.now += LEARNING_S
    asyncio.run(watcher.monitoring._follow())
    assert watcher.watch("2").path


def test_while_the_database_is_away_it_goes_on_with_what_it_knows(
    watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = trained()
    watcher.give(reference)
    watch = watcher.watch()

    def away(_: object) -> None:
        raise NotReady("away")

    monkeypatch.setattr(MonitorStore, "references", away)
    watcher.open()
    assert watcher.watch() == watch
    assert watcher.send(reference, 10) == []


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        ({"monitor": {"sample": -0.1}}, "'monitor.sample'"),
        ({"monitor": {"slices": ["a", "a"]}}, "'monitor.slices' names something twice"),
        ({"monitor": {"slices": "a"}}, "'monitor.slices' must be a list"),
        ({"capture": {"sample": 2}}, "'capture.sample'"),
        ({"capture": {"mask": [3]}}, "'capture.mask' must be a list"),
        ({"capture": {"all": True}}, "'capture.all'"),
        ({"monitor": {"sample": "all"}}, "'monitor.sample'"),
        ({"monitor": {"window_seconds": 1}}, "'monitor.window_seconds'"),
        ({"monitor": {"live_reference_rows": 10.5}}, "'monitor.live_reference_rows'"),
        ({"monitor": {"speed": 1}}, "'monitor.speed'"),
        ({"monitor": 3}, "'monitor'"),
        ({"rest": {}}, "'rest'"),
    ],
)
def test_a_faulty_policy_is_refused(watcher: Watcher, document: Document, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        asyncio.run(watcher.monitoring.set_policy("m", document, ME))


def test_more_columns_than_a_version_has_are_refused_once_they_are_known(watcher: Watcher) -> None:
    def policy(columns: int) -> Document:
        return {"triggers": [{"name": "r", "when": {"drift": {"at_least": columns}}}]}

    asyncio.run(watcher.monitoring.set_policy("m", policy(1000), ME))
    for version in ("1", "2", "3"):
        watcher.give(trained(), version)
    with pytest.raises(InvalidInput, match=r"at_least.*the model has"):
        asyncio.run(watcher.monitoring.set_policy("m", policy(1000), ME))
    asyncio.run(watcher.monitoring.set_policy("m", policy(len(trained().inputs)), ME))


def test_a_policy_can_switch_everything_off(watcher: Watcher) -> None:
    watcher.give(trained())
    off = {"monitor": {"sample": 0, "label_horizon_seconds": 0}}
    asyncio.run(watcher.monitoring.set_policy("m", off, ME))
    assert watcher.watch() == WatchSpec(sample=0, names=tuple(NAMES[0]))


@pytest.mark.simulation
@pytest.mark.parametrize(("own", "part"), [(0, 0.25), (0.1, 0.1), (7, 0.25)])
def test_a_fleets_false_alarms_are_shared_by_gateways_and_versions(watcher: Watcher, own: float, part: float) -> None:
    watcher.alarms = FleetAlarms(daily=3.0, gateways=4)
    watcher.open()
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"false_alarms_per_day": own}}, ME))
    reference = trained()
    for version in ("1", "2"):
        watcher.give(trained(seed=int(version)), version)
        watcher.watch(version)
    watcher.give(reference)
    watcher.send(reference, 100)
    reported = watcher.show()["multiplicity"]
    assert reported == {
        "tests": {"drift": 6, "quality": 3, "slices": 0},
        "rows_between_false_alarms": 100_000,
        "false_alarms_per_day": part,
        "fleet": {"false_alarms_per_day": 3.0, "gateways": 4, "versions": 3},
    }
    said = StringIO()
    Console(file=said, width=300).print(render("m", watcher.show()))
    assert (
        "9 tests at the same time (6 for drift, 3 for valid values), together at most 1 false alarm in "
        f"100,000 rows on average, and {part:g} a day, "
        "of 3 a day in all over 4 gateways and 3 versions here"
    ) in said.getvalue()


def test_a_policy_holds_and_is_kept(watcher: Watcher) -> None:
    reported = asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"sample": 0.5}}, ME))
    assert reported["monitor"]["sample"] == 0.5
    watcher.give(trained())
    assert watcher.watch().sample == 0.5
    watcher.open()
    assert asyncio.run(watcher.monitoring.policy("m"))["monitor"]["sample"] == 0.5
    assert watcher.world.store.audit("m")[0].action == "policy.set"


def test_what_is_not_there(watcher: Watcher) -> None:
    with pytest.raises(NotFound):
        watcher.show("9")
    with pytest.raises(NotFound):
        asyncio.run(watcher.monitoring.document("nobody", None))
    with pytest.raises(NotFound):
        asyncio.run(watcher.monitoring.policy("nobody"))
    with pytest.raises(InvalidInput, match="not a reference"):
        asyncio.run(watcher.monitoring.set_reference("m", "1", {"rows": 3}, ME))
    with pytest.raises(NotFound):
        watcher.give(trained(rows=200), "9")
    every = watcher.show(None)["versions"]
    assert set(every) == {"1", "2", "3"}
    assert every["1"]["reference"] is None
    assert every["1"]["latency"]["count"] == 0


# Quality, slices, evidence that outlives its process.

MIXED = (
    input_columns([TensorSpec("x", "FP32", (-1, 2)), TensorSpec("shop", "BYTES", (-1, 1))], True),
    output_columns([TensorSpec("y", "FP32", (-1, 2))], True),
)
MIXED_NAMES = [[*side.numbers, *side.labels] for side in MIXED]


def mixed(
    generator: np.random.Generator, rows: int, shift: float = 0.0, missing: float = 0.0, stuck: float = 0.0
) -> tuple[list[Tensor], list[Tensor]]:
    """Rows of two shops; a tenth of the second number is zero; in the second shop the first number may shift."""
    x = generator.normal(size=(rows, 2))
    x[generator.random(rows) < 0.1 + stuck, 1] = 0.0
    shops = generator.choice(np.array(["north", "south"], object), (rows, 1), p=[0.8, 0.2])
    x[shops[:, 0] == "south", 0] += shift
    x[generator.random(rows) < missing, 0] = np.nan
    p = generator.uniform(size=rows)
    return [Tensor("x", "FP32", x.astype("<f4")), Tensor("shop", "BYTES", shops)], [
        Tensor("y", "FP32", np.stack([1 - p, p], axis=1).astype("<f4"))
    ]


class Shops:
    """A watcher of such rows."""

    def __init__(self, watcher: Watcher, slices: tuple[str, ...] = ()) -> None:
        self.watcher = watcher
        self.generator = np.random.default_rng(7)
        inputs, outputs = mixed(self.generator, 20_000)
        given, answered = MIXED[0](inputs), MIXED[1](outputs)
        assert given is not None
        self.reference = build((MIXED_NAMES[0], MIXED_NAMES[1]), given, answered, "training")
        policy = {"monitor": {"window_seconds": 60, "slices": list(slices)}}
        asyncio.run(watcher.monitoring.set_policy("m", policy, ME))
        watcher.give(self.reference)
        self.send(100)

    def send(self, rows: int, **odd: float) -> list[DriftChange]:
        watch = self.watcher.watch()
        for cells in self.watcher.fleet.regions(watch.offset, watch.size):
            counter = RowCounter(self.reference, cells, MIXED, 1.0, watch.keys)
            counter.count([mixed(self.generator, rows // 2, **odd)])
        self.watcher.world.clock.now += 1
        return [change for _, change in self.watcher.monitoring.look()]

    def until(self, wanted: tuple[str, str, bool], looks: int, rows: int = 40, **odd: float) -> DriftChange:
        for _ in range(looks):
            for change in self.send(rows, **odd):
                if (change.about, change.feature, change.begins) == wanted:
                    return change
        raise AssertionError(wanted)


@pytest.mark.simulation
def test_a_broken_feed_is_distinguished_from_a_changed_population(watcher: Watcher) -> None:
    shops = Shops(watcher)
    for _ in range(20):
        assert shops.send(40) == []
    found: dict[tuple[str, str], DriftChange] = {}
    for _ in range(12):
        found |= {(change.about, change.feature): change for change in shops.send(40, missing=0.4)}
    broken = found["quality", "x[0]"].evidence
    assert broken["kind"] == "missing"
    assert broken["rates"]["missing"] > 0.02  # of the last hundred rows or so, most of them sound yet
    assert broken["reference_rates"]["missing"] == 0
    assert found["drift", "x[0]"].evidence["cause"] == "broken feed"
    quality = watcher.show()["quality"]
    assert (quality["state"], [column["name"] for column in quality["violated"]]) == ("violated", ["x[0]"])
    shops.until(("quality", "x[0]", False), 30, 400)
    assert watcher.show()["quality"]["state"] == "ok"


def test_a_changed_population_is_reported_as_such(watcher: Watcher) -> None:
    reference = trained()
    watcher.give(reference)
    for _ in range(20):
        watcher.send(reference, 40)
    changes = []
    watch = watcher.watch()
    for _ in range(12):
        for cells in watcher.fleet.regions(watch.offset, watch.size):
            RowCounter(reference, cells, COLUMNS, 1.0).count([exchange(watcher.generator, 20, 1.5)])
        watcher.world.clock.now += 1
        changes += [change for _, change in watcher.monitoring.look() if change.about == "drift"]
    assert next(change for change in changes if change.feature == "x[0]").evidence["cause"] == "changed world"


def test_a_constant_at_a_wrong_rate_is_a_violation(watcher: Watcher) -> None:
    shops = Shops(watcher)
    change = shops.until(("quality", "x[1]", True), 30, stuck=0.5)
    assert change.evidence["kind"] == "constant"
    assert change.evidence["reference_rates"]["constant"] == pytest.approx(0.1, abs=0.02)
    assert watcher.show()["quality"]["violations"]["constant"] > 0


@pytest.mark.simulation
def test_a_drift_in_one_slice_is_found_there(watcher: Watcher) -> None:
    shops = Shops(watcher, ("shop",))
    assert watcher.watch().keys == ("shop",)
    for _ in range(20):
        assert shops.send(40) == []
    change = shops.until(("slice", "x[0] where shop is south", True), 40, shift=2.0)
    assert change.evidence["slice"] == {"shop": "south"}
    slices = watcher.show()["slices"]["shop"]
    assert (slices["south"]["state"], slices["north"]["state"]) == ("drift", "ok")
    assert [column["name"] for column in slices["south"]["drifting"]] == ["x[0]"]
    assert slices["north"]["rows"] > 2 * slices["south"]["rows"]
    shops.until(("slice", "x[0] where shop is south", False), 40, 400)


def test_the_counters_of_a_version_change_with_its_slices(watcher: Watcher) -> None:
    shops = Shops(watcher)
    plain = watcher.watch()
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"slices": ["shop", "nothing"]}}, ME))
    sliced = watcher.watch()
    assert sliced.size > plain.size
    assert sliced.offset >= plain.offset + plain.size
    watcher.open()
    assert watcher.watch() == sliced
    assert RegionLayout.of(shops.reference, sliced.keys).size == sliced.size


def test_evidence_outlives_the_process_that_has_it(watcher: Watcher) -> None:
    reference = trained()
    watcher.give(reference)
    watcher.send(reference, 40)
    for _ in range(12):
        watcher.send(reference, 40, shift=1.0)
    before = watcher.show()
    watcher.monitoring.close()
    watcher.open()
    watcher.monitoring.look()
    after = watcher.show()
    assert after["alarms"] == before["alarms"] >= 1
    assert [feature["state"] for feature in after["features"]] == [feature["state"] for feature in before["features"]]
    assert [feature["log_e"] for feature in after["features"]] == [feature["log_e"] for feature in before["features"]]


def left_with_evidence(watcher: Watcher, reference: Reference) -> WatchSpec:
    """Where the rows of a version are counted whose control process has written its evidence down and ended."""
    watcher.give(reference)
    watcher.send(reference, 1000)
    watcher.monitoring.close()
    return watcher.watch()


@pytest.mark.parametrize("rows", [1600, 60_000])
def test_drift_between_looks_is_found_by_the_next_look(watcher: Watcher, rows: int) -> None:
    """All rows of the gap are one batch."""
    reference = trained()
    watch = left_with_evidence(watcher, reference)
    for cells in watcher.fleet.regions(watch.offset, watch.size):
        for _ in range(10):
            RowCounter(reference, cells, COLUMNS, 1.0).count([exchange(watcher.generator, rows // 20, 0.5)])
    watcher.world.clock.now += 600
    watcher.open()
    assert [(change.feature, change.begins) for _, change in watcher.monitoring.look()] == [("x[0]", True)]
    assert watcher.show()["features"][0]["state"] == "drift"


@pytest.mark.simulation
@pytest.mark.parametrize("seed", range(5))
def test_a_process_that_returns_alarms_at_nothing(watcher: Watcher, seed: int) -> None:
    reference = trained()
    watcher.generator = np.random.default_rng(seed)
    watcher.give(reference)
    for _ in range(8):
        assert watcher.send(reference, 2000) == []
        watcher.monitoring.close()
        watcher.open()


def test_rows_of_a_new_reference_count_from_the_first_on(watcher: Watcher) -> None:
    reference = trained()
    watcher.give(reference)
    watcher.send(reference, 40)
    assert watcher.show()["features"][0]["rows"] == 40


def test_evidence_of_other_counters_begins_at_the_present_ones(watcher: Watcher) -> None:
    reference = trained()
    watch = left_with_evidence(watcher, reference)
    watcher.fleet.clear_region(watch.offset, watch.size)  # another instance's memory, as it were
    watcher.open()
    assert watcher.send(reference, 400) == []
    assert watcher.send(reference, 400) == []
    assert watcher.show()["features"][0]["rows"] == 400


@given(st.floats(0.001, 1e4), st.lists(st.integers(0, 50), min_size=1, max_size=20), st.floats(0, 10))
def test_the_parts_of_a_fleet_are_never_more_than_the_whole(daily: float, versions: list[int], own: float) -> None:
    alarms = FleetAlarms(daily, gateways=len(versions))
    parts = [alarms.share_of(MonitorPolicy(daily=own), many).daily * many for many in versions]
    assert sum(parts) <= daily * (1 + 1e-9)


# Labels.


def remember(
    watcher: Watcher, ids: list[str], probabilities: list[float], version: str = "1", by_split: bool = False
) -> None:
    p = np.array(probabilities, "<f4")
    found = answers_of([Tensor("y", "FP32", np.stack([1 - p, p], axis=1))])
    assert found is not None
    AnswerWriter(watcher.folder / ANSWERS, "m", version).add(ids, [1] * len(ids), found, [by_split] * len(ids))


def take(watcher: Watcher, *reported: Feedback) -> int:
    return asyncio.run(watcher.monitoring.labels.take("m", reported)).unmatched


def test_labels_are_joined_counted_and_known_after_a_restart(watcher: Watcher) -> None:
    watcher.world.clock.now = time.time()
    remember(watcher, ["a", "b", "c"], [0.9, 0.8, 0.1])
    assert take(watcher, Feedback("a", 1), Feedback("b", 0), Feedback("nobody", 1), Feedback("c", reward=0.5)) == 1
    assert take(watcher, Feedback("a", 1)) == 0
    labels = watcher.monitoring.labels
    reported = watcher.show()["performance"]
    assert (reported["labels"], reported["accuracy"], reported["outcomes"]) == (2, 0.5, {"joined": 2, "doubled": 1})
    readings = {
        (reading.metric.name, reading.labels): reading.value
        for reading in labels.readings()
        if isinstance(reading, Point)
    }
    assert readings["labels_total", ("m", "", "unknown")] == 1
    assert readings["performance_ratio", ("m", "1", "accuracy")] == 0.5
    watcher.monitoring.close()
    watcher.open()
    assert take(watcher, Feedback("c", 0)) == 0
    reported = watcher.show()["performance"]
    assert (reported["labels"], reported["accuracy"]) == (3, pytest.approx(2 / 3))


def test_what_labels_are_compared_outlives_the_process(watcher: Watcher) -> None:
    terms = ComparisonTerms("a rollout", "m", ComparedSignal.WRONG, 3, ("1", "2"))
    watcher.world.clock.now = time.time()
    comparisons = watcher.monitoring.labels.comparisons
    comparisons.start(terms)
    for version, by_split in (("1", True), ("2", True)):
        remember(watcher, [f"a{version}", f"b{version}"], [0.9, 0.9], version, by_split)
    remember(watcher, ["pinned"], [0.9], "1")
    watcher.world.clock.now = time.time() + 3
    assert take(watcher, Feedback("a1", 1), Feedback("b1", 0), Feedback("pinned", 0), Feedback("a2", 1)) == 0
    before = comparisons.closed_strata("a rollout", 3, -1.0)
    assert before is not None
    assert before["waiting"] == {"1": 2, "2": 1}
    watcher.monitoring.close()
    watcher.open()
    comparisons = watcher.monitoring.labels.comparisons
    comparisons.start(terms)
    assert take(watcher, Feedback("b2", 1)) == 0
    watcher.world.clock.now += 10
    after = comparisons.closed_strata("a rollout", 3, -1.0)
    assert after is not None
    assert [stratum["sums"] for stratum in after["strata"]] == [{"1": (2, 1.0, 1.0), "2": (2, 0.0, 0.0)}]
    assert comparisons.closed_strata("a rollout", 3, after["upto"]) == {**after, "strata": []}  # once they are known
    assert comparisons.closed_strata("a rollout", 4, -1.0) is None
    comparisons.retain(ComparedSignal.WRONG, ())
    assert comparisons.closed_strata("a rollout", 3, -1.0) is None


def test_labels_that_come_too_late_are_counted_separately(watcher: Watcher) -> None:
    remember(watcher, ["a"], [0.9])
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"label_horizon_seconds": 60}}, ME))
    watcher.world.clock.now = time.time() + 61
    assert take(watcher, Feedback("a", 1)) == 1
    assert watcher.show()["performance"]["outcomes"] == {"late": 1}


def test_an_answer_that_is_about_to_be_written_down_is_waited_for(watcher: Watcher) -> None:
    async def both() -> int:
        asyncio.get_running_loop().call_later(0.01, remember, watcher, ["a"], [0.9])
        return (await watcher.monitoring.labels.take("m", [Feedback("a", 1)])).unmatched

    watcher.world.clock.now = time.time()
    assert asyncio.run(both()) == 0


@pytest.mark.simulation
def test_a_drop_of_performance_is_reported(watcher: Watcher) -> None:
    watcher.world.clock.now = time.time()
    generator = np.random.default_rng(3)

    def send(start: int, rows: int, flipped: float) -> None:
        probabilities = generator.beta(1.2, 1.2, rows)
        came = (generator.random(rows) < probabilities) ^ (generator.random(rows) < flipped)
        ids = [f"r{start + index}" for index in range(rows)]
        remember(watcher, ids, probabilities.tolist())
        reported = [Feedback(id_, bool(label)) for id_, label in zip(ids, came, strict=True)]
        assert asyncio.run(_taken(watcher, reported)) == 0

    send(0, 1000, 0.0)
    send(1000, 600, 0.5)
    events = watcher.world.traffic.events("m", None, 100)
    kinds = [event["type"].removeprefix("io.penstock.") for event in events]
    assert kinds.count("performance.degraded.v1") == 2
    fallen = next(event for event in events if event["data"].get("what") == "errors")
    assert fallen["subject"] == "models/m/versions/1"
    assert fallen["data"]["recent_error"] > fallen["data"]["baseline_error"]


async def _taken(watcher: Watcher, reported: list[Feedback]) -> int:
    unknown = await watcher.monitoring.labels.take("m", reported)
    for _ in range(20):
        await asyncio.sleep(0.01)  # events are written on a thread
    return unknown.unmatched


# Counters.


def counters(watcher: Watcher) -> dict[tuple[str, tuple[str, ...]], float]:
    """Every counter that the monitor exports."""
    found: dict[tuple[str, tuple[str, ...]], float] = {}
    for reading in watcher.monitoring.readings():
        if reading.metric.kind is not MetricType.COUNTER:
            continue
        if isinstance(reading, PointBatch):
            found |= {
                (reading.metric.name, labels): value
                for labels, value in zip(reading.labels, reading.values, strict=True)
            }
        elif isinstance(reading, Point):
            found[reading.metric.name, reading.labels] = reading.value
    return found


@pytest.mark.simulation
def test_no_counter_falls_whatever_happens(watcher: Watcher) -> None:
    shops = Shops(watcher)
    before = counters(watcher)

    def hold(what: str) -> None:
        nonlocal before
        now = counters(watcher)
        fallen = {key: (before[key], value) for key, value in now.items() if value < before.get(key, 0)}
        assert not fallen, what
        before = now

    for number in range(40):
        shops.send(40, stuck=0.5 * (number % 10 < 3), missing=0.3 * (number % 10 == 5), shift=float(number > 20))
        hold(f"look {number}")
    assert before["drift_alarms_total", ("m", "1")] > 0
    assert before["quality_violations_total", ("m", "1", "x[1]", "constant")] > 0
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"slices": ["shop"]}}, ME))
    for _ in range(3):  # slices are counted in other words
        shops.send(40)
        hold("other slices")
    given, answered = MIXED[0](mixed(np.random.default_rng(5), 4000)[0]), MIXED[1](mixed(shops.generator, 4000)[1])
    assert given is not None
    shops.reference = build((MIXED_NAMES[0], MIXED_NAMES[1]), given, answered, "training")
    watcher.give(shops.reference)
    for _ in range(3):
        shops.send(40)
        hold("another reference")
    watcher.open()  # another control process, after one that did not say good-bye
    for _ in range(3):
        shops.send(40)
        hold("another process")
    assert before["monitor_rows_total", ("m", "1")] > 1600


def test_series_of_versions_that_are_gone_end(watcher: Watcher) -> None:
    reference = trained()
    for version in ("1", "2"):
        watcher.give(reference, version)
        watcher.watch(version)
    for _ in range(2):
        watcher.world.clock.now += 1
        watcher.monitoring.look()
    assert {labels[1] for _, labels in counters(watcher)} == {"1", "2"}
    model = watcher.fleet.desired.models[0]
    left = replace(model, versions=tuple(version for version in model.versions if version.version != "2"))
    watcher.fleet.desired = Desired(9, (left,))
    assert {labels[1] for _, labels in counters(watcher)} == {"1"}


# Learning anew.


def test_a_reference_is_learned_anew_on_request(watcher: Watcher) -> None:
    watcher.give(trained())
    watcher.watch()
    asyncio.run(watcher.monitoring.set_policy("m", POLICY, ME))
    watcher.monitoring.look()
    other = Monitoring(
        MonitorStore(watcher.world.database, watcher.world.clock),
        watcher.world.traffic,
        watcher.fleet,
        watcher.folder / "other",
        watcher.folder / "other.json",
        watcher.world.clock,
    )
    asyncio.run(other.start())
    reported = asyncio.run(watcher.monitoring.relearn("m", "1", ME))
    assert (reported["version"], reported["reference"], reported["learning"]["rows"]) == ("1", None, 1000)
    assert watcher.show("1")["reference"] is None
    assert watcher.watch("1").learn == LearnSpec(500, 100, 10.0, 0.5)
    asyncio.run(other.start())  # another gateway hears of it
    assert asyncio.run(other.document("m", "1"))["reference"] is None
    [event] = [event for event in watcher.world.traffic.events("m") if event["type"].endswith("reference.relearned.v1")]
    assert (event["subject"], event["data"]["actor"]) == ("models/m/versions/1", ME.actor)
    [entry] = [entry for entry in watcher.world.store.audit("m") if entry.action == "reference.relearn"]
    assert entry.subject == "models/m/versions/1/reference"
    for _ in range(2):
        gathered(watcher, 600, "1")
    asyncio.run(watcher.monitoring._follow())
    watcher.watch("1")
    watcher.monitoring.look()
    assert watcher.show("1")["reference"]["source"] == "live"


@pytest.mark.parametrize("version", ["1", "9", None])
def test_relearn_is_refused_where_nothing_was_learned(watcher: Watcher, version: str | None) -> None:
    with pytest.raises(NotFound):
        asyncio.run(watcher.monitoring.relearn("m", version, ME))
    with pytest.raises(NotFound):
        asyncio.run(watcher.monitoring.relearn("nobody", version, ME))


UNKNOWN_SINK: Document = {"sinks": {"k": {"kafka": {"url": "x"}}}}


def test_a_policy_that_cannot_be_read_stops_no_other(watcher: Watcher) -> None:
    """Another gateway knows a sink that this one does not."""
    store = MonitorStore(watcher.world.database, watcher.world.clock)
    store.set_policy("m", UNKNOWN_SINK, ME, None)
    store.set_policy("other", {"monitor": {"sample": 0.25}}, ME, None)
    asyncio.run(watcher.monitoring._follow())
    assert watcher.monitoring.policy_of("other").sample == 0.25
    assert watcher.monitoring.policy_of("m") == MonitorPolicy()
    assert "'sinks.k'" in asyncio.run(watcher.monitoring.policy("m"))["problem"]
    assert "its policy cannot be read" in watcher.show()["problem"]
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"sample": 0.5}}, ME))
    assert "problem" not in asyncio.run(watcher.monitoring.policy("m"))
    assert "problem" not in watcher.show()


def test_a_policy_that_can_no_longer_be_read_holds_as_it_was(watcher: Watcher) -> None:
    asyncio.run(watcher.monitoring.set_policy("m", {"monitor": {"sample": 0.5}}, ME))
    MonitorStore(watcher.world.database, watcher.world.clock).set_policy("m", UNKNOWN_SINK, ME, None)
    asyncio.run(watcher.monitoring._follow())
    assert watcher.monitoring.policy_of("m").sample == 0.5


def test_a_reference_that_cannot_be_read_stops_no_other(watcher: Watcher) -> None:
    reference = trained()
    store = MonitorStore(watcher.world.database, watcher.world.clock)
    store.set_reference(ReferenceRecord("m", "1", "sha256:odd", "given"), {"form": "of a newer release"}, ME)
    store.set_reference(ReferenceRecord("m", "2", reference.digest, "given"), encode_reference(reference), ME)
    asyncio.run(watcher.monitoring._follow())
    assert watcher.watch("2").digest == reference.digest
    assert "its reference cannot be read" in watcher.show("1")["problem"]
    assert "problem" not in watcher.show("2")
    watcher.give(reference, "1")
    assert watcher.watch("1").digest == reference.digest
    assert "problem" not in watcher.show("1")
