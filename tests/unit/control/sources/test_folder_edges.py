"""What the admission of a folder's versions may end with: a bug, an early refusal, files that change meanwhile."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.control.sources.folder import RETRY_S
from penstock.core.errors import DataLoss, InvalidInput
from penstock.registry.records import AdmissionReport, ExaminedContent, PreparationPlan
from tests.unit.control.sources.test_folder import Admission, World, put


class Scripted(Admission):
    """Does what a test says when it plans or examines."""

    def __init__(self) -> None:
        super().__init__()
        self.on_plan: Callable[[], PreparationPlan] = PreparationPlan
        self.on_examine: Callable[[], None] = lambda: None

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        return self.on_plan()

    async def examine(self, subject: ExaminedContent) -> AdmissionReport:
        self.on_examine()
        return await super().examine(subject)


@pytest.fixture
def world(tmp_path: Path) -> World:
    """One model in one repository."""
    put(tmp_path / "models", "m")
    return World(tmp_path, tmp_path / "models")


def scripted(world: World) -> Scripted:
    """The world's admission, before the first scan."""
    found = Scripted()
    world.admission = world.source._admission = found
    return found


def test_a_bug_of_the_admission_is_logged_and_the_version_is_tried_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    def bug() -> None:
        raise ZeroDivisionError

    admission = scripted(world)
    admission.on_examine = bug
    with caplog.at_level(logging.ERROR):
        assert world.scan()["m"].broken == {"1": "it cannot be examined"}
    assert "model m version 1 cannot be examined" in caplog.text
    admission.on_examine = lambda: None
    world.now += RETRY_S
    assert set(world.scan(settled_only=True)["m"].versions) == {"1"}
    world.close()


def test_what_cannot_be_read_is_refused_until_it_changes(world: World, tmp_path: Path) -> None:
    def damaged() -> None:
        raise DataLoss("it is torn")

    admission = scripted(world)
    admission.on_examine = damaged
    assert world.scan()["m"].broken == {"1": "it is torn"}
    admission.on_examine = lambda: None
    put(tmp_path / "models", "m", b"whole now")
    assert set(world.scan()["m"].versions) == {"1"}
    world.close()


def test_a_refusal_of_the_graph_alone_ends_the_examination(world: World) -> None:
    admission = scripted(world)
    admission.on_plan = lambda: PreparationPlan(refusal=AdmissionReport("its graph is not a graph", {}))
    assert world.scan()["m"].broken == {"1": "its graph is not a graph"}
    assert admission.examined == []
    world.close()


def test_files_that_change_while_they_are_examined_are_examined_anew(world: World, tmp_path: Path) -> None:
    admission = scripted(world)
    changes = iter([b"changed once", b"changed twice"])

    def change() -> None:
        if (graph := next(changes, None)) is not None:
            put(tmp_path / "models", "m", graph)

    def plan() -> PreparationPlan:
        change()
        return PreparationPlan()

    admission.on_plan, admission.on_examine = plan, change
    assert set(world.scan()["m"].versions) == {"1"}
    assert admission.examined[-1] == b"changed twice"
    world.close()


def test_files_that_change_during_the_examination_do_not_get_its_verdict(world: World, tmp_path: Path) -> None:
    admission = scripted(world)
    changes = iter([b"no"])

    def change() -> None:
        if (graph := next(changes, None)) is not None:
            put(tmp_path / "models", "m", graph)

    admission.on_examine = change
    assert world.scan()["m"].broken == {"1": "it says no"}
    world.close()


def test_models_of_a_repository_that_went_away_stay_and_requests_for_them_are_refused(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    put(first, "m")
    put(second, "n")
    world = World(tmp_path, first, second)
    before = world.scan()
    shutil.rmtree(first)
    assert world.scan() == before
    with pytest.raises(InvalidInput, match="does not exist"):
        world.scan(retry="m")
    for retry in ("n", "unknown"):  # what is not of that repository is served as before
        assert world.scan(retry=retry) == before
    world.close()


def test_nothing_is_served_from_the_repository_itself_where_no_copy_can_be_written(tmp_path: Path) -> None:
    put(tmp_path / "models", "m")
    (tmp_path / "copies").write_text("no folder")
    world = World(tmp_path, tmp_path / "models")
    found = world.scan()["m"]
    assert not found.versions
    assert found.broken == {"1": "the registry's files cannot be read or written"}
    world.close()
