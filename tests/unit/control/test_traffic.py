"""Routes as people set them, over a real database and versions that come and go."""

import asyncio
from pathlib import Path

import pytest

from penstock.control.delivery.routes import RouteAdmin
from penstock.core.errors import Conflict, InvalidInput, NotFound, NotReady, Refused
from penstock.core.routing import lay_out, moved_points, parse_route, resolve_split
from penstock.registry.records import Document
from penstock.registry.stores.traffic import TrialEvent
from tests.unit.control.trials import ME, World


class Reconciler:
    """One gateway's routes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.traffic = RouteAdmin(world.store, world.traffic, world.fleet)

    def set(self, route: Document, revision: int | None = None) -> Document:
        return asyncio.run(self.traffic.set_route("m", route, ME, revision))

    def show(self) -> Document:
        return asyncio.run(self.traffic.route("m"))


@pytest.fixture
def reconciler(tmp_path: Path) -> Reconciler:
    return Reconciler(World(tmp_path))


def test_what_holds_without_a_route(reconciler: Reconciler) -> None:
    assert (reconciler.show()["split"], reconciler.show()["set"], reconciler.show()["revision"]) == (
        {"3": 10_000},
        False,
        0,
    )
    reconciler.world.promote_champion("1")
    assert reconciler.show()["split"] == {"1": 10_000}
    with pytest.raises(NotFound):
        asyncio.run(reconciler.traffic.route("nobody"))


def test_the_champion_is_the_stable_one(reconciler: Reconciler) -> None:
    reconciler.world.promote_champion("2")
    assert reconciler.set({"split": {"1": 9000, "2": 1000}})["stable"] == "2"
    assert reconciler.set({"split": {"1": 9000, "3": 1000}})["stable"] == "1"


def test_weights_move_only_as_far_as_they_have_to(reconciler: Reconciler) -> None:
    reconciler.set({"split": {"1": 8000, "2": 2000}})
    before = reconciler.world.store.model("m").route
    reconciler.set({"split": {"1": 5000, "2": 3000, "3": 2000}})
    after = reconciler.world.store.model("m").route
    assert before is not None
    assert after is not None
    assert moved_points(before.ranges, after.ranges) == 3000


def test_a_route_that_is_set_is_not_answered_by_a_refusal(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = reconciler.world.fleet

    async def vanish() -> bool:
        monkeypatch.setattr(fleet, "statuses", list)  # no worker serves the model any more
        return True

    monkeypatch.setattr(fleet, "serve_changes", vanish)
    assert reconciler.set({"split": {"1": 10_000}})["set"]


def test_a_refused_route_leaves_the_old_one(reconciler: Reconciler) -> None:
    revision = reconciler.set({"split": {"1": 10_000}})["revision"]
    reconciler.world.fleet.ill = {"2"}
    for route, fault in (
        ({"split": {"1": 1}}, InvalidInput),
        ({"split": {"1": 5000, "2": 5000}}, Refused),
        ({"split": {"1": 10_000}, "shadow": [{"version": "2", "percent": 1}]}, Refused),
        ({"split": {"1": 5000, "9": 5000}}, NotFound),
    ):
        with pytest.raises(fault):
            reconciler.set(route)
    with pytest.raises(Conflict):
        reconciler.set({"split": {"1": 10_000}}, revision - 1)
    assert (reconciler.show()["split"], reconciler.show()["revision"]) == ({"1": 10_000}, revision)
    assert reconciler.set({"split": {"1": 10_000, "2": 0}}, revision)["split"] == {
        "1": 10_000,
        "2": 0,
    }  # zero needs nobody


def test_a_route_goes_and_says_so(reconciler: Reconciler) -> None:
    reconciler.set({"split": {"1": 10_000}})
    assert asyncio.run(reconciler.traffic.drop_route("m", ME))["set"] is False
    assert reconciler.world.store.audit("m")[-1].after is None


def test_a_version_that_stops_answering_is_reported_once(reconciler: Reconciler) -> None:
    reconciler.set({"split": {"1": 5000, "2": 5000}})
    assert reconciler.traffic._newly_degraded() == []
    reconciler.world.fleet.ill = {"2", "3"}
    assert reconciler.traffic._newly_degraded() == [("m", "2")]
    assert reconciler.traffic._newly_degraded() == []
    reconciler.world.fleet.ill = set()
    assert reconciler.traffic._newly_degraded() == []
    reconciler.world.fleet.ill = {"2"}
    assert reconciler.traffic._newly_degraded() == [("m", "2")]


@pytest.mark.parametrize(
    ("able", "weights"),
    [
        ({"1", "2", "3"}, {"1": 5000, "2": 3000, "3": 2000}),
        ({"1", "3"}, {"1": 8000, "2": 0, "3": 2000}),
        ({"1"}, {"1": 10_000, "2": 0, "3": 0}),
        ({"2", "3"}, {"1": 0, "2": 8000, "3": 2000}),
        ({"2"}, {"1": 0, "2": 10_000, "3": 0}),
        ({"4", "5"}, {"1": 0, "2": 0, "3": 0, "4": 10_000}),
        ({"5", "6"}, {"1": 0, "2": 0, "3": 0, "6": 10_000}),
        (set(), {"1": 0, "2": 0, "3": 0}),
    ],
)
def test_the_weights_that_are_measured_are_those_that_hold(able: set[str], weights: dict[str, int]) -> None:
    split = {"1": 5000, "2": 3000, "3": 2000}
    route = parse_route({"split": split, "stable": "1"})
    assert route.ranges == lay_out(split)
    assert resolve_split(route, "4", able) == weights


def arrange(reconciler: Reconciler, champion: str, route: dict[str, int]) -> None:
    """Give the model an alias and a split, where there are any."""
    if champion:
        reconciler.world.promote_champion(champion)
    if route:
        reconciler.set({"split": route})


@pytest.mark.parametrize(
    ("champion", "route", "ill", "said"),
    [
        ("", {}, "", "version 3 answers: it is the newest ready one"),
        ("2", {}, "", "version 2 answers: alias 'champion'"),
        (
            "2",
            {},
            "2",
            "version 3 answers: alias 'champion' points to 2, which is not ready, and it is the newest ready one",
        ),
        ("2", {}, "123", "no version answers: none is ready"),
        ("1", {"1": 9000, "2": 1000}, "", "version 1 90 %, version 2 10 %: the route decides"),
        (
            "1",
            {"1": 9000, "2": 1000},
            "2",
            "version 1 100 %: the route decides; version 1 answers for 2, which cannot",
        ),
        (
            "1",
            {"1": 9000, "2": 1000},
            "1",
            "version 2 100 %: the route decides; version 2 answers for 1, which cannot",
        ),
        (
            "3",
            {"1": 10_000},
            "1",
            "version 3 100 %: the route decides; version 3 answers for 1, which cannot",
        ),
        ("3", {"1": 10_000}, "123", "no version answers: none is ready"),
    ],
)
def test_the_route_states_who_answers(
    reconciler: Reconciler, champion: str, route: dict[str, int], ill: str, said: str
) -> None:
    arrange(reconciler, champion, route)
    reconciler.world.fleet.ill = set(ill)
    assert reconciler.show()["answers"] == said


@pytest.mark.parametrize(
    ("champion", "route", "loading", "said"),
    [
        ("1", {"1": 9000, "2": 1000}, "123", "version 1 90 %, version 2 10 %: the route decides"),
        ("2", {}, "123", "version 2 answers: alias 'champion'"),
        ("", {}, "123", "version 3 answers: it is the newest ready one"),
        ("", {}, "3", "version 2 answers: it is the newest ready one"),
        ("2", {}, "2", "version 2 answers: alias 'champion'"),
    ],
)
def test_while_a_worker_is_replaced_the_others_answer(
    reconciler: Reconciler, champion: str, route: dict[str, int], loading: str, said: str
) -> None:
    arrange(reconciler, champion, route)
    reconciler.world.fleet.loading = set(loading)
    assert reconciler.show()["answers"] == said


def test_what_is_set_is_shown_though_nobody_answers(reconciler: Reconciler) -> None:
    reconciler.world.promote_champion("1")
    reconciler.world.fleet.ill = set("123")
    assert (reconciler.show()["split"], reconciler.show()["answers"]) == (
        {"1": 10_000},
        "no version answers: none is ready",
    )


def test_a_champion_that_is_only_mirrored_to_has_no_effect(reconciler: Reconciler) -> None:
    reconciler.world.promote_champion("3")
    reconciler.set({"split": {"1": 10_000}, "shadow": [{"version": "3", "percent": 10}]})
    assert reconciler.show()["answers"].endswith("; alias 'champion' (version 3) has no effect meanwhile")


def test_what_a_shadow_did(reconciler: Reconciler) -> None:
    reconciler.world.fleet.mirror("2", 10, disagreements=4)
    reported = asyncio.run(reconciler.traffic.shadow("m", "2"))
    assert (reported["mirrored"], reported["pairs"], reported["disagreements"], reported["samples"]) == (10, 10, 4, [])
    assert reported["flip_ratio"] is None
    with pytest.raises(NotFound):
        asyncio.run(reconciler.traffic.shadow("m", "9"))


def test_events_are_kept_once_each_and_read_page_by_page(reconciler: Reconciler) -> None:
    for key in ("a", "a", "b", "c"):
        reconciler.world.traffic.emit("m", TrialEvent("test.v1", "models/m", key, {"key": key}))
    reported = asyncio.run(reconciler.traffic.events("m", None, 2))
    assert [item["data"]["key"] for item in reported] == ["b", "c"]
    later = asyncio.run(reconciler.traffic.events(None, reported[0]["sequence"], 10))
    assert [item["data"]["key"] for item in later] == ["c"]
    assert asyncio.run(reconciler.traffic.events("nobody", None, 10)) == []
    assert len({event["id"] for event in asyncio.run(reconciler.traffic.events("m", None, 10))}) == 3


def degraded(world: World) -> list[Document]:
    return [event for event in world.traffic.events() if event["type"] == "io.penstock.route.degraded.v1"]


def test_a_version_that_cannot_answer_is_reported_once_by_all_gateways(reconciler: Reconciler) -> None:
    world = reconciler.world
    gateways = [reconciler.traffic, RouteAdmin(world.store, world.traffic, world.fleet)]
    reconciler.set({"split": {"1": 9000, "2": 1000}})

    def look() -> None:
        for gateway in gateways:
            world.clock.now += 1.5  # each sees it at another time
            asyncio.run(gateway.step())

    look()
    world.fleet.ill = {"2"}
    look()
    assert [item["data"]["version"] for item in degraded(world)] == ["2"]
    world.fleet.ill = set()
    look()
    world.clock.now += 600
    world.fleet.ill = {"2"}
    look()
    assert len(degraded(world)) == 2  # it is another time


def test_an_event_that_cannot_be_written_is_emitted_later(
    reconciler: Reconciler, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = reconciler.world
    reconciler.set({"split": {"1": 9000, "2": 1000}})
    asyncio.run(reconciler.traffic.step())
    world.fleet.ill = {"2"}

    def away(_model: str, _event: TrialEvent) -> None:
        raise NotReady("the database is away")

    with monkeypatch.context() as patched:
        patched.setattr(world.traffic, "emit_once", away)
        asyncio.run(reconciler.traffic.step())
    assert degraded(world) == []
    reconciler.traffic.task.clock = lambda: float("inf")
    asyncio.run(reconciler.traffic.step())
    assert len(degraded(world)) == 1


def test_the_newest_event_of_each_model_is_the_last_one_written(reconciler: Reconciler) -> None:
    assert asyncio.run(reconciler.traffic.newest_events()) == []
    for model, key in (("m", "1"), ("other", "1"), ("m", "2")):
        reconciler.world.traffic.emit(model, TrialEvent("drift.detected.v1", f"models/{model}", key, {}))
    newest = asyncio.run(reconciler.traffic.newest_events())
    assert [(event["subject"], event["sequence"]) for event in newest] == [("models/other", 2), ("models/m", 3)]


def test_a_route_is_previewed_and_not_set(reconciler: Reconciler) -> None:
    reconciler.world.promote_champion("1")
    preview = asyncio.run(reconciler.traffic.preview("m", {"split": {"1": 9000, "2": 1000}}))
    assert preview["sentences"] == ["version 1 answers 90 %, version 2 answers 10 % of the requests"]
    assert (preview["points"], preview["moved_points"]) == ({"1": 9000, "2": 1000}, 1000)
    assert (preview["changes"], preview["revision"]) == (True, reconciler.show()["revision"])
    assert (reconciler.show()["set"], reconciler.show()["trial"]) == (False, None)
    reconciler.set({"split": {"1": 9000, "2": 1000}})
    again = asyncio.run(reconciler.traffic.preview("m", {"split": {"1": 9000, "2": 1000}}))
    assert (again["moved_points"], again["changes"]) == (0, False)


def test_a_preview_has_the_faults_of_the_route(reconciler: Reconciler) -> None:
    preview = reconciler.traffic.preview
    for document, fault in (({"split": {"1": 1}}, InvalidInput), ({"split": {"9": 10_000}}, NotFound)):
        with pytest.raises(fault):
            asyncio.run(preview("m", document))
    reconciler.world.fleet.ill = {"2"}
    with pytest.raises(Refused, match="not ready"):
        asyncio.run(preview("m", {"split": {"2": 10_000}}))
