"""Watched repositories as a source: what has come to rest is examined once, copied, offered, and let go of."""

import asyncio
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.control.calls.blocking import MOST_WAITING
from penstock.control.reconcile.planner import SourceModel
from penstock.control.reconcile.reconciler import NoModelsYet
from penstock.control.sources import folder
from penstock.control.sources.folder import ARRIVING, BEING_EXAMINED, RETRY_S, FolderContents
from penstock.control.sources.repositories import SourceRepository
from penstock.core.errors import InvalidInput, NotReady
from penstock.registry.records import AdmissionReport, ExaminedContent, PreparationPlan
from penstock.registry.repository.copies import RepositoryCopies
from penstock.registry.repository.local import LocalTree
from penstock.registry.repository.verdicts import VerdictCache

SETTLE_S = 2.0


@pytest.fixture(autouse=True)
def wait_for_examinations(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each look wait until what it has begun is over, however slow the machine is."""
    monkeypatch.setattr(folder, "MOMENT_S", 60.0)


class Admission:
    """Admits every graph but those that say no; counts what it has examined."""

    def __init__(self) -> None:
        self.examined: list[bytes] = []
        self.away = False

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        return PreparationPlan()

    async def examine(self, subject: ExaminedContent) -> AdmissionReport:
        if self.away:
            raise NotReady("admission is away")
        self.examined.append(subject.graph.read_bytes())
        return AdmissionReport("it says no" if self.examined[-1] == b"no" else "", {"memory_bytes": 7})


class World:
    """Repositories, and a source that looks at them by a clock of its own."""

    def __init__(self, home: Path, *roots: Path) -> None:
        self.now = 100.0
        self.admission = Admission()
        copies = RepositoryCopies(home / "copies", "these", 1 << 20)
        self.source = FolderContents(
            [SourceRepository(LocalTree(root)) for root in roots],
            self.admission,
            VerdictCache(home / "verdicts", {}),
            copies,
            SETTLE_S,
            lambda: self.now,
        )

    def scan(self, settled_only: bool = False, retry: str = "") -> dict[str, SourceModel]:
        async def run() -> Sequence[SourceModel]:
            found = await self.source.scan(settled_only, retry)
            while any(why == BEING_EXAMINED for item in found for why in item.broken.values()):
                found = await self.source.scan(settled_only, retry)
            return found

        return {found.name: found for found in asyncio.run(run())}

    def close(self) -> None:
        for pool in self.source.pools:
            pool.close()


def put(root: Path, model: str, graph: bytes = b"yes", version: str = "1") -> None:
    (root / model / version).mkdir(parents=True, exist_ok=True)
    (root / model / version / "model.onnx").write_bytes(graph)


def test_what_is_there_at_the_start_is_examined_copied_and_offered(tmp_path: Path) -> None:
    put(tmp_path / "models", "m")
    put(tmp_path / "models", "bad", b"no")
    world = World(tmp_path, tmp_path / "models")
    found = world.scan()
    assert set(found["m"].versions) == {"1"}
    assert found["bad"].broken == {"1": "it says no"}
    placed = found["m"].versions["1"]
    assert Path(placed.path).read_bytes() == b"yes"
    assert not Path(placed.path).is_relative_to(tmp_path / "models")
    assert placed.memory_bytes == 7
    put(tmp_path / "models", "m", version="2")
    assert set(world.scan()["m"].versions) == {"1", "2"}
    assert sorted(world.admission.examined) == [b"no", b"yes"]  # the same bytes are examined once
    world.close()


def test_a_repository_may_hold_more_models_than_calls_may_wait(tmp_path: Path) -> None:
    names = {f"m{number}" for number in range(MOST_WAITING + folder.THREADS + 8)}
    for name in names:
        put(tmp_path / "models", name, name.encode())
    world = World(tmp_path, tmp_path / "models")
    assert {name for name, found in world.scan().items() if "1" in found.versions} == names
    world.close()


def test_new_files_are_taken_once_they_have_come_to_rest(tmp_path: Path) -> None:
    put(tmp_path / "models", "m", b"first")
    world = World(tmp_path, tmp_path / "models")
    first = world.scan()["m"].versions["1"]
    put(tmp_path / "models", "m", b"second, still on its way")
    put(tmp_path / "models", "n")
    found = world.scan(settled_only=True)
    assert found["m"].versions["1"] == first
    assert found["n"].broken == {"1": ARRIVING}
    put(tmp_path / "models", "m", b"second")
    world.now += SETTLE_S - 1
    world.scan(settled_only=True)  # it changed meanwhile, so its time begins anew
    world.now += SETTLE_S - 1
    assert world.scan(settled_only=True)["m"].versions["1"] == first
    world.now += 1
    found = world.scan(settled_only=True)
    assert Path(found["m"].versions["1"].path).read_bytes() == b"second"
    assert set(found["n"].versions) == {"1"}
    world.close()


def test_a_refused_successor_leaves_what_is_served_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    put(tmp_path / "models", "m")
    world = World(tmp_path, tmp_path / "models")
    first = world.scan()["m"].versions["1"]
    put(tmp_path / "models", "m", b"no")
    with caplog.at_level(logging.ERROR):
        assert world.scan()["m"] == world.scan()["m"]
    found = world.scan()["m"]
    assert (found.versions["1"], found.refused) == (first, {"1": "it says no"})
    assert len(caplog.records) == 1
    world.scan(retry="m")  # who asks for it has it examined again
    assert world.admission.examined.count(b"no") == 2
    world.close()


def test_what_cannot_be_examined_now_is_tried_again_after_a_while(tmp_path: Path) -> None:
    put(tmp_path / "models", "m")
    world = World(tmp_path, tmp_path / "models")
    world.admission.away = True
    assert world.scan()["m"].broken == {"1": "admission is away"}
    world.admission.away = False
    world.now += RETRY_S - 1
    assert world.scan(settled_only=True)["m"].broken == {"1": "admission is away"}
    world.now += 1
    assert set(world.scan(settled_only=True)["m"].versions) == {"1"}
    world.close()


def test_a_removed_version_is_released_and_a_model_in_two_places_is_not_served(tmp_path: Path) -> None:
    put(tmp_path / "models", "m")
    put(tmp_path / "models", "n")
    (tmp_path / "more").mkdir()
    world = World(tmp_path, tmp_path / "models", tmp_path / "more")
    assert set(world.scan()) == {"m", "n"}
    shutil.rmtree(tmp_path / "models" / "m")
    put(tmp_path / "more", "n")
    found = world.scan()
    assert set(found) == {"n"}
    assert "several repositories" in found["n"].problem
    assert found["n"].versions == {}
    world.close()


def test_a_repository_without_models_is_distinguished_from_one_that_went_away(tmp_path: Path) -> None:
    world = World(tmp_path, tmp_path / "models")
    with pytest.raises(NoModelsYet):
        world.scan()
    put(tmp_path / "models", "m")
    assert set(world.scan()) == {"m"}
    assert [state.models for state in world.source.states] == [1]
    shutil.rmtree(tmp_path / "models")
    with pytest.raises(InvalidInput):
        world.scan()
    world.close()
