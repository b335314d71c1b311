"""Events and the audit on one line of time: merged, filtered, and read page by page without a loss."""

from pathlib import Path
from typing import Any

import pytest

from penstock.core.access.model_filter import ModelFilter
from penstock.core.errors import InvalidInput
from penstock.registry.records import Author
from penstock.registry.stores.monitor import MonitorStore
from penstock.registry.stores.timeline import TimelineFilter
from penstock.registry.stores.traffic import TrialEvent
from tests.unit.control.trials import World

ANN, BOB = Author("ann", "less traffic"), Author("bob", "more")


class Setup:
    """A registry whose clock moves a second with each entry."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        self.policies = MonitorStore(self.world.database, self.world.clock)
        self.number = 0

    def change(self, model: str, by: Author, sample: float) -> None:
        self.world.clock.now += 1
        self.policies.set_policy(model, {"monitor": {"sample": sample}}, by)

    def emit(self, model: str, kind: str, **data: Any) -> None:
        self.world.clock.now += 1
        self.number += 1
        event = TrialEvent(kind, f"models/{model}/versions/1", str(self.number), {"model": model, **data})
        self.world.traffic.emit(model, event)

    def show(self, limit: int = 50, visible: ModelFilter | None = None, **wanted: str) -> dict[str, Any]:
        given = () if visible is None else (visible,)
        return self.world.traffic.timeline.entries(TimelineFilter(**wanted), limit, *given)

    def kinds(self, **wanted: str) -> list[tuple[str, str]]:
        shown = self.world.traffic.timeline.entries(TimelineFilter(**wanted), 50)
        return [(entry["model"], entry["kind"]) for entry in shown["entries"]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    setup = Setup(tmp_path)
    setup.change("m", ANN, 1.0)
    setup.emit("m", "drift.detected.v1", columns=["age"], message="age has changed")
    setup.change("n", BOB, 0.5)
    setup.emit("m", "candidate.approved.v1", actor="ann", reason="it is better")
    setup.change("m", BOB, 0.25)
    return setup


def test_both_are_merged_newest_first(setup: Setup) -> None:
    shown = setup.show()
    assert shown["next"] is None
    assert [(entry["source"], entry["kind"], entry["person"]) for entry in shown["entries"]] == [
        ("audit", "policy.set", "bob"),
        ("event", "candidate.approved.v1", "ann"),
        ("audit", "policy.set", "bob"),
        ("event", "drift.detected.v1", None),
        ("audit", "policy.set", "ann"),
    ]
    first, second, *_ = shown["entries"]
    assert first["reason"] == "more"
    assert {"path": "monitor.sample", "before": 1.0, "after": 0.25} in first["changes"]
    assert (second["reason"], second["subject"]) == ("it is better", "models/m/versions/1")


def test_filters_select_entries(setup: Setup) -> None:
    assert setup.kinds(model="n") == [("n", "policy.set")]
    assert setup.kinds(kind="drift") == [("m", "drift.detected.v1")]
    assert setup.kinds(kind="policy", model="m") == [("m", "policy.set")] * 2
    assert setup.kinds(person="ann") == [("m", "candidate.approved.v1"), ("m", "policy.set")]
    assert setup.kinds(person="an") == []
    assert setup.kinds(kind="%") == []
    visible = setup.show(visible=ModelFilter(("n",)))["entries"]
    assert {entry["model"] for entry in visible} == {"n"}


def test_pages_lose_nothing_and_repeat_nothing_also_where_the_clock_was_set_back(setup: Setup) -> None:
    setup.world.clock.now -= 100
    setup.emit("m", "drift.cleared.v1")
    setup.change("m", ANN, 0.75)
    everything = [(entry["source"], entry["seq"]) for entry in setup.show()["entries"]]
    for size in (1, 2, 3):
        found, before = [], ""
        for _ in range(20):
            page = setup.show(limit=size, before=before)
            found += [(entry["source"], entry["seq"]) for entry in page["entries"]]
            if page["next"] is None:
                break
            before = page["next"]
        assert sorted(found) == sorted(everything)
        assert len(found) == len(set(found))


def test_the_newest_numbers_of_a_model_change_with_its_entries_alone(setup: Setup) -> None:
    newest = setup.world.traffic.timeline.newest
    first = newest()
    assert first.keys() == {"m", "n"}
    setup.change("m", ANN, 0.125)
    second = newest()
    setup.emit("m", "drift.cleared.v1")
    third = newest()
    assert len({first["m"], second["m"], third["m"]}) == 3
    assert first["n"] == second["n"] == third["n"]


def test_a_page_is_bounded(setup: Setup) -> None:
    setup.emit("m", "delivery.failed.v1", **{f"field{number}": "x" * 5000 for number in range(100)})
    newest = setup.show(limit=10_000)["entries"][0]
    assert len(newest["data"]) == 40
    assert len(str(newest["data"])) < 20_000


def test_what_a_request_rests_on_keeps_its_form(setup: Setup) -> None:
    features = [{"name": f"x{number}", "moved": [{"bin": "a", "change": 0.1}] * 50} for number in range(5)]
    setup.emit("m", "retraining.requested.v1", conditions=[{"features": features, "statistic": "e-SR", "value": 5}])
    (condition,) = setup.show()["entries"][0]["data"]["conditions"]
    assert (condition["statistic"], condition["value"]) == ("e-SR", 5)
    assert condition["features"].endswith("…")


@pytest.mark.parametrize("before", ["x", "1", "1-", "-1-2", "1-2-3", "9" * 30 + "-1"])
def test_an_unknown_place_is_refused(setup: Setup, before: str) -> None:
    with pytest.raises(InvalidInput, match="'next' of an earlier answer"):
        setup.show(before=before)
