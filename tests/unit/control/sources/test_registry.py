"""The registry as a source: what is laid out is offered, what cannot be is told, the last picture outlives it."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from penstock.control.sources.registry import FETCHING, RETRY_S, RegistrySource
from penstock.core.errors import DataLoss, NotReady
from penstock.core.versions import VersionPolicy
from penstock.registry.graphs.rewrite import ByteEdit, Rewrite, encode_rewrite
from penstock.registry.records import (
    AdmissionReport,
    AliasRecord,
    Content,
    FileRecord,
    ModelRecord,
    ModelSettings,
    VersionRecord,
    VersionState,
)
from penstock.registry.stores.snapshot import RegistrySnapshot
from tests.harness import PATIENCE_S


def record(version: str, state: VersionState = VersionState.ADMITTED) -> VersionRecord:
    digest = f"sha256:{version * 64}"
    content = Content(digest, 3, "onnx", (FileRecord("model.onnx", version * 64, 3),))
    facts = {"probes": {"form": 1, "cases": []}, "memory_bytes": 9}
    return VersionRecord("m", version, content, "2026", "ann", state, {"tags": {"a": 1}}, AdmissionReport("", facts))


class FakeStore:
    """A database that a test changes and takes away."""

    def __init__(self, *versions: str) -> None:
        self.away = False
        self.number = 1
        self.model = ModelRecord("m", 1, {version: record(version) for version in versions})
        self.others: list[ModelRecord] = []

    def revision(self) -> int:
        if self.away:
            raise NotReady("the database is away")
        return self.number

    def models(self) -> list[ModelRecord]:
        if self.away:
            raise NotReady("the database is away")
        return [self.model, *self.others]

    def change(self, model: ModelRecord) -> None:
        self.model, self.number = model, self.number + 1


class FakeLayout:
    """Lays out at once, or never, or when it is told to."""

    def __init__(self) -> None:
        self.placed: list[str] = []
        self.refuse: dict[str, Exception] = {}
        self.gate = threading.Event()
        self.gate.set()

    def materialize(self, content: Content, rewrite: Rewrite | None) -> tuple[Path, Path]:
        self.gate.wait(PATIENCE_S)
        self.placed.append(content.digest[7])
        if content.digest[7] in self.refuse:
            raise self.refuse[content.digest[7]]
        return Path("/blobs"), Path("/blobs") / content.digest[7]


class World:
    def __init__(self, tmp_path: Path, *versions: str) -> None:
        self.store, self.layout, self.now = FakeStore(*versions), FakeLayout(), 100.0
        self.file = tmp_path / "last.json"
        self.source = RegistrySource(RegistrySnapshot(self.store, self.file), self.layout, lambda: self.now)


def test_every_admitted_version_is_offered_with_its_name(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1", "2")
        world.store.change(
            replace(
                world.store.model,
                versions={"1": record("1"), "2": record("2"), "3": record("3", VersionState.RETIRED)},
                aliases={"champion": AliasRecord("champion", "1")},
                settings=ModelSettings(transition="resources", keep_warm_s=7.0),
            )
        )
        (found,) = await world.source.scan(settled_only=False)
        assert set(found.versions) == {"1", "2"}
        assert found.aliases == {"champion": "1"}
        assert (found.transition, found.keep_warm_s) == ("resources", 7.0)
        placed = found.versions["1"]
        assert placed.files == (("1", "1" * 64),)
        assert (placed.root, placed.digest, placed.memory_bytes) == ("/blobs", "sha256:" + "1" * 64, 9)
        await world.source.scan(settled_only=True)
        assert sorted(world.layout.placed) == ["1", "2"]  # each once

    asyncio.run(run())


def test_only_what_is_wanted_is_fetched(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1", "2", "3")
        settings = ModelSettings(VersionPolicy("latest", 1))
        aliases = {"old": AliasRecord("old", "1")}
        world.store.change(replace(world.store.model, settings=settings, aliases=aliases))
        await world.source.scan(settled_only=False)
        assert sorted(world.layout.placed) == ["1", "3"]

    asyncio.run(run())


def test_a_content_on_its_way_is_reported_and_not_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        world.layout.gate.clear()
        (found,) = await world.source.scan(settled_only=True)
        assert found.broken == {"1": FETCHING}
        world.layout.gate.set()
        (found,) = await world.source.scan(settled_only=False)
        assert set(found.versions) == {"1"}
        await world.source.close()

    asyncio.run(run())


@pytest.mark.parametrize("retry", ["", "m"])
def test_what_was_offered_stays_until_its_new_content_is_there_or_has_failed(tmp_path: Path, retry: str) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        (before,) = await world.source.scan(settled_only=False)
        changed = replace(record("1"), content=record("2").content)
        world.store.change(replace(world.store.model, versions={"1": record("1") if retry else changed}))
        world.layout.gate.clear()
        for _ in range(2):
            (found,) = await world.source.scan(settled_only=True, retry=retry)
            assert (found.versions, found.broken) == (before.versions, {})
        world.layout.gate.set()
        (after,) = await world.source.scan(settled_only=False)
        assert (after.versions == before.versions) == bool(retry)
        world.layout.refuse["3"] = DataLoss("it is damaged")
        damaged = replace(record("1"), content=record("3").content)
        world.store.change(replace(world.store.model, versions={"1": damaged}))
        (found,) = await world.source.scan(settled_only=False)
        assert (found.versions, found.broken) == ({}, {"1": "it is damaged"})
        await world.source.close()

    asyncio.run(run())


def test_what_cannot_be_laid_out_says_why_and_is_tried_again_later(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1", "2")
        world.layout.refuse = {"1": DataLoss("it is damaged"), "2": RuntimeError("a bug")}
        (found,) = await world.source.scan(settled_only=False)
        assert found.broken == {"1": "it is damaged", "2": "its content cannot be put on this machine"}
        world.layout.refuse = {}
        (found,) = await world.source.scan(settled_only=False)
        assert len(found.broken) == 2
        world.now += RETRY_S + 1
        (found,) = await world.source.scan(settled_only=False)
        assert found.broken == {}

    asyncio.run(run())


def test_a_database_that_has_not_changed_is_not_read(tmp_path: Path) -> None:
    store, marks = FakeStore("1"), [1]
    snapshot = RegistrySnapshot(store, tmp_path / "last.json", lambda: marks[-1])
    assert snapshot.unchanged() is None  # nothing was read yet
    models = snapshot.models()
    assert snapshot.unchanged() is models
    marks.append(2)
    assert snapshot.unchanged() is None
    assert snapshot.models() is models  # another revision would be read
    store.away = True
    snapshot.models()
    assert snapshot.unchanged() is None  # the failed read is tried again
    assert snapshot.problem


def test_a_scan_of_an_unchanged_registry_reads_nothing(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        snapshot = RegistrySnapshot(world.store, world.file, lambda: 1)
        source = RegistrySource(snapshot, world.layout, lambda: world.now)
        first = await source.scan(settled_only=False)
        world.store.away = True
        assert await source.scan(settled_only=False) == first
        assert not snapshot.problem
        await source.close()

    asyncio.run(run())


def test_the_last_snapshot_outlives_its_database(tmp_path: Path) -> None:
    store = FakeStore("1", "2")
    file = tmp_path / "last.json"
    stored_snapshot = RegistrySnapshot(store, file)
    models = stored_snapshot.models()
    store.away = True
    assert stored_snapshot.models() == models
    assert stored_snapshot.problem == "the database is away"
    later = RegistrySnapshot(store, file)
    assert later.models() == models
    store.away = False
    store.change(replace(store.model, revision=2))
    assert later.models()[0].revision == 2
    assert later.problem == ""
    store.away = True
    with pytest.raises(NotReady):
        RegistrySnapshot(store, tmp_path / "none.json").models()
    file.write_text("torn")
    with pytest.raises(NotReady):
        RegistrySnapshot(store, file).models()


@pytest.mark.parametrize("form", ["onnx", "tar"])
def test_a_changed_graph_is_served_and_checked_as_it_was_examined(tmp_path: Path, form: Literal["onnx", "tar"]) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        plain = record("1")
        files = plain.content.files if form == "onnx" else (*plain.content.files, FileRecord("w.bin", "8" * 64, 4))
        rewrite = Rewrite((ByteEdit(0, 1, b"x"),), f"sha256:{'9' * 64}")
        facts = {**plain.report.facts, "rewrite": encode_rewrite(rewrite)}
        changed = replace(
            plain, content=replace(plain.content, form=form, files=files), report=AdmissionReport("", facts)
        )
        world.store.change(replace(world.store.model, versions={"1": changed}))
        (found,) = await world.source.scan(settled_only=False)
        placed = found.versions["1"]
        assert placed.digest == plain.content.digest  # what was pushed
        assert dict(placed.files)[Path(placed.path).name if form == "onnx" else "model.onnx"] == "9" * 64
        assert ("w.bin", "8" * 64) in placed.files or form == "onnx"
        world.store.change(replace(world.store.model, versions={"1": replace(changed, report=plain.report)}))
        (again,) = await world.source.scan(settled_only=False)
        assert again.versions["1"].tag != placed.tag

    asyncio.run(run())


def test_a_content_that_no_version_has_any_more_is_forgotten_so_that_it_is_laid_out_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1", "2")
        await world.source.scan(settled_only=False)
        both = world.store.model
        world.store.change(replace(both, versions={"1": record("1"), "2": record("2", VersionState.RETIRED)}))
        await world.source.scan(settled_only=False)
        world.store.change(both)  # collection has deleted the folder meanwhile
        await world.source.scan(settled_only=False)
        assert sorted(world.layout.placed) == ["1", "2", "2"]

    asyncio.run(run())


def test_a_model_that_is_tried_again_is_laid_out_again(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        await world.source.scan(settled_only=False)
        (found,) = await world.source.scan(settled_only=False, retry="m")
        assert set(found.versions) == {"1"}
        await world.source.scan(settled_only=False, retry="other")
        assert world.layout.placed == ["1", "1"]

    asyncio.run(run())


def test_failures_of_contents_that_no_version_has_are_forgotten(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        world.layout.refuse["1"] = NotReady("away")
        await world.source.scan(settled_only=False)
        both = world.store.model
        world.store.change(replace(both, versions={"1": record("1", VersionState.RETIRED)}))
        await world.source.scan(settled_only=False)
        world.store.change(both)
        await world.source.scan(settled_only=False)
        assert world.layout.placed == ["1", "1"]  # at once, not after the pause of the failure before

    asyncio.run(run())


@pytest.mark.parametrize("facts", [{"memory_bytes": "much"}, {"feature_names": 3}])
def test_a_report_of_an_unknown_form_hinders_no_other_model(tmp_path: Path, facts: dict[str, object]) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        sound = ModelRecord("z", 1, {"2": record("2")})
        odd = replace(sound, versions={"2": record("2"), "3": replace(record("3"), report=AdmissionReport("", facts))})
        world.store.others = [sound]
        assert [found.name for found in await world.source.scan(settled_only=False)] == ["m", "z"]
        world.store.others = [odd, ModelRecord("y", 1, odd.versions)]
        world.store.change(replace(world.store.model, versions={"1": record("1"), "4": record("4")}))
        m, z = await world.source.scan(settled_only=False)
        assert (set(m.versions), set(z.versions)) == ({"1", "4"}, {"2"})  # z as it was, y was never known

    asyncio.run(run())


class SlowStore(FakeStore):
    """Answers when it is let."""

    def __init__(self, *versions: str) -> None:
        super().__init__(*versions)
        self.gate = threading.Event()

    def revision(self) -> int:
        assert self.gate.wait(PATIENCE_S)
        return super().revision()


def slow_world(tmp_path: Path) -> tuple[World, SlowStore]:
    world, store = World(tmp_path, "1"), SlowStore("1")
    world.source = RegistrySource(RegistrySnapshot(store, world.file), world.layout, lambda: world.now)
    world.source._reads._deadline_s = 0.01
    return world, store


def test_a_slow_database_is_waited_for_where_nothing_is_known(tmp_path: Path) -> None:
    async def run() -> None:
        world, store = slow_world(tmp_path)
        looking = asyncio.create_task(world.source.scan(settled_only=False))
        await asyncio.wait({looking}, timeout=0.1)
        assert not looking.done()
        store.gate.set()
        (found,) = await looking
        assert set(found.versions) == {"1"}
        await world.source.close()

    asyncio.run(run())


def test_a_gateway_starts_on_what_was_last_known_while_the_database_is_slow(tmp_path: Path) -> None:
    async def run() -> None:
        before = World(tmp_path, "1")
        await before.source.scan(settled_only=False)
        world, store = slow_world(tmp_path)
        (found,) = await world.source.scan(settled_only=False)
        assert set(found.versions) == {"1"}
        with pytest.raises(NotReady):  # what is served goes on, and the task tells of it
            await world.source.scan(settled_only=False)
        store.gate.set()
        await world.source.close()

    asyncio.run(run())


def test_a_database_that_is_slow_at_the_first_start_is_waited_for(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        looks = iter([True, False])
        models = world.store.models

        def slow_once() -> list[ModelRecord]:
            if next(looks, False):
                raise NotReady("the database did not answer in time")
            return models()

        world.store.models = slow_once  # type: ignore[method-assign]
        (found,) = await world.source.scan(settled_only=False)
        assert set(found.versions) == {"1"}
        await world.source.close()

    asyncio.run(run())


def test_a_content_on_its_way_is_given_up_at_the_end(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path, "1")
        world.layout.gate.clear()
        await world.source.scan(settled_only=True)
        async with asyncio.timeout(PATIENCE_S):
            closing = asyncio.create_task(world.source.close())
            await asyncio.wait(world.source._tasks.values())
            world.layout.gate.set()
            await closing
        assert all(task.cancelled() for task in world.source._tasks.values())

    asyncio.run(run())
