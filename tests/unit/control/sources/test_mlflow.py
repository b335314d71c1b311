"""The mirror's decision as a table, its loop over a made-up MLflow, and the webhook's signature."""

import asyncio
import base64
import hashlib
import hmac
import threading
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.control.sources import mlflow
from penstock.control.sources.mlflow import (
    DOWNLOADS,
    DropAlias,
    MlflowSync,
    MoveAlias,
    PushVersion,
    RetireVersion,
    SyncAction,
    next_action,
)
from penstock.core.errors import Conflict, InvalidInput, NotReady, Overloaded, Refused, TooLarge
from penstock.registry.mlflow.source import SOURCE, MlflowVersion
from penstock.registry.mlflow.webhooks import verify_mlflow
from penstock.registry.records import AliasRecord, Author, Content, Document, ModelRecord, VersionRecord, VersionState
from tests.harness import PATIENCE_S


def record(version: str, source: str = SOURCE, state: VersionState = VersionState.ADMITTED) -> VersionRecord:
    content = Content("sha256:aa", 1, "onnx", ())
    return VersionRecord("m", version, content, "2026", "x", state, {"source": source} if source else {})


def model(*versions: VersionRecord, **aliases: str) -> dict[str, ModelRecord]:
    state = {alias: AliasRecord(alias, version) for alias, version in aliases.items()}
    return {"m": ModelRecord("m", 1, {version.version: version for version in versions}, state)}


ONE, TWO = MlflowVersion("m", "1"), MlflowVersion("m", "2", aliases=("champion",))

CASES: dict[str, tuple[list[MlflowVersion], dict[str, ModelRecord], list[MlflowVersion], SyncAction | None]] = {
    "a new model": ([ONE], {}, [], PushVersion(ONE)),
    "a new version": ([ONE, TWO], model(record("1")), [], PushVersion(TWO)),
    "nothing new": ([ONE], model(record("1")), [ONE], None),
    "an empty answer": ([], model(record("1")), [ONE], None),
    "a new alias": ([TWO], model(record("2")), [], MoveAlias("m", "champion", "2", None)),
    "a moved alias": (
        [ONE, TWO],
        model(record("1"), record("2"), champion="1"),
        [],
        MoveAlias("m", "champion", "2", "1"),
    ),
    "an alias in place": ([TWO], model(record("2"), champion="2"), [TWO], None),
    "an alias gone there": (
        [replace(TWO, aliases=())],
        model(record("2"), champion="2"),
        [TWO],
        DropAlias("m", "champion"),
    ),
    "an alias of ours": ([ONE], model(record("1"), own="1"), [ONE], None),
    "a version gone there": ([ONE], model(record("1"), record("2")), [ONE], RetireVersion("m", "2")),
    "a version gone there, with an alias": ([ONE], model(record("1"), record("2"), champion="2"), [ONE], None),
    "a version of ours": ([ONE], model(record("1"), record("2", source="")), [ONE], None),
    "a version retired here": ([TWO], model(record("2", state=VersionState.RETIRED)), [], None),
}


@pytest.mark.parametrize("case", CASES)
def test_what_to_do_next(case: str) -> None:
    wanted, present, before, action = CASES[case]
    assert next_action(wanted, present, before, ()) == action


def test_what_could_not_be_done_does_not_hold_up_the_rest() -> None:
    assert next_action([ONE, TWO], {}, [], {PushVersion(ONE)}) == PushVersion(TWO)


class World:
    """An MLflow and a registry in memory."""

    def __init__(self, tmp_path: Path) -> None:
        self.there: list[MlflowVersion] | NotReady = []
        self.here: dict[str, ModelRecord] = {}
        self.done: list[str] = []
        self.refuse: set[str] = set()
        self.is_busy = True
        self.now = 0.0
        self.graph = tmp_path / "model.onnx"
        self.graph.write_bytes(b"graph")

    def wanted(self) -> list[MlflowVersion]:
        if isinstance(self.there, NotReady):
            raise self.there
        return self.there

    def download(self, wanted: MlflowVersion, into: Path) -> dict[str, Path]:
        assert into.is_dir()
        return {"model.onnx": self.graph}

    def lineage(self, wanted: MlflowVersion) -> Document:
        return {"source": SOURCE}

    async def push(
        self, model: str, version: str, chunks: AsyncIterator[bytes], metadata: Document, by: Author
    ) -> tuple[Document, bool]:
        assert b"".join([chunk async for chunk in chunks]) == b"graph"
        if version in self.refuse:
            raise Refused("it is bad")
        known = self.here.get(model, ModelRecord(model, 1))
        self.here[model] = replace(known, versions={**known.versions, version: record(version)})
        self.done.append(f"push {version}")
        return {}, True

    async def alias(self, model: str, alias: str, version: str, by: Author, expected: str | None) -> Document:
        known = self.here[model]
        self.here[model] = replace(known, aliases={**known.aliases, alias: AliasRecord(alias, version)})
        self.done.append(f"alias {version}")
        return {}

    async def drop_alias(self, model: str, alias: str, by: Author) -> Document:
        if self.is_busy:
            raise Conflict("busy")
        known = self.here[model]
        left = {name: record for name, record in known.aliases.items() if name != alias}
        self.here[model] = replace(known, aliases=left)
        self.done.append(f"drop {alias}")
        return {}

    async def retire(self, model: str, version: str, by: Author) -> Document:
        known = self.here[model]
        left = {name: item for name, item in known.versions.items() if name != version}
        self.here[model] = replace(known, versions=left)
        self.done.append(f"retire {version}")
        return {}


def test_the_loop_does_everything_in_one_look_and_gives_up_for_a_while(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        mirror = MlflowSync(world, world, lambda: list(world.here.values()), 30.0, lambda: world.now)
        world.there = NotReady("away")
        await mirror.task.attempt()
        world.there, world.refuse = [ONE, TWO], {"1"}
        await mirror.step()
        assert world.done == ["push 2", "alias 2"]
        world.refuse.clear()
        await mirror.step()
        assert world.done == ["push 2", "alias 2"]
        world.now += 3601
        await mirror.step()
        assert world.done == ["push 2", "alias 2", "push 1"]
        world.there = [TWO]
        await mirror.step()
        assert world.done[-1] == "retire 1"

    asyncio.run(run())


class Sour(World):
    """An MLflow of two models, and a fault with the version of ``a`` alone: at its download or at its push."""

    def __init__(self, tmp_path: Path, gone: Exception | None, refused: Exception | None) -> None:
        super().__init__(tmp_path)
        self.there = [MlflowVersion("a", "1"), MlflowVersion("b", "1")]
        self.gone, self.refused = gone, refused
        self.downloads = 0

    def download(self, wanted: MlflowVersion, into: Path) -> dict[str, Path]:
        if wanted.model == "a":
            self.downloads += 1
            if self.gone is not None:
                raise self.gone
        return super().download(wanted, into)

    async def push(
        self, model: str, version: str, chunks: AsyncIterator[bytes], metadata: Document, by: Author
    ) -> tuple[Document, bool]:
        if model == "a" and self.refused is not None:
            raise self.refused
        return await super().push(model, version, chunks, metadata, by)


@pytest.mark.parametrize(
    ("gone", "refused", "why"),
    [
        (NotReady("no such artifact"), None, "it cannot be fetched: no such artifact"),
        (ValueError("an odd answer"), None, "ValueError: an odd answer"),
        (None, TooLarge("it is too large"), "it is too large"),
        (None, NotReady("the registry's disk is full"), "the registry's disk is full"),
        (None, Overloaded("too many pushes"), "too many pushes"),
    ],
)
def test_one_bad_version_is_put_off_by_itself(
    tmp_path: Path, gone: Exception | None, refused: Exception | None, why: str
) -> None:
    world = Sour(tmp_path, gone, refused)
    mirror = MlflowSync(world, world, lambda: list(world.here.values()), 30.0, lambda: world.now)

    async def run() -> None:
        for _ in range(20):
            await mirror.step()
            world.now += 30
        assert set(world.here) == {"b"}
        assert world.downloads <= 7  # of 20 looks: after 30, 60, 120, 240 ... s, at most a half less
        assert mirror.problems("a") == [f"version 1 of model a: {why}"]
        assert mirror.problems("b") == []
        world.gone = world.refused = None
        world.now += 3600
        await mirror.step()

    asyncio.run(run())
    assert set(world.here) == {"a", "b"}
    assert mirror.problems("a") == []


def test_a_registry_that_is_away_ends_the_look(tmp_path: Path) -> None:
    world = Sour(tmp_path, None, None)

    def away() -> list[ModelRecord]:
        raise NotReady("the database is away")

    mirror = MlflowSync(world, world, away, 30.0, lambda: world.now)
    with pytest.raises(NotReady):
        asyncio.run(mirror.step())
    assert (world.downloads, world.here, mirror.problems("a")) == (0, {}, [])


class Slow(World):
    """An MLflow whose versions of ``a`` come when they are let; ``most`` is how many were asked for at a time."""

    def __init__(self, tmp_path: Path, versions: int) -> None:
        super().__init__(tmp_path)
        self.there = [*(MlflowVersion("a", str(number)) for number in range(1, versions + 1)), MlflowVersion("b", "1")]
        self.come, self.began = threading.Event(), threading.Event()
        self.waiting = self.most = 0

    def download(self, wanted: MlflowVersion, into: Path) -> dict[str, Path]:
        if wanted.model == "a":
            self.waiting += 1
            self.began.set()
            self.most = max(self.most, self.waiting)
            assert self.come.wait(PATIENCE_S)
            self.waiting -= 1
        return super().download(wanted, into)


@pytest.fixture
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mlflow, "BESIDE_S", 0.05)


@pytest.mark.usefixtures("quick_looks")
def test_versions_that_come_slowly_do_not_hold_up_another(tmp_path: Path) -> None:
    world = Slow(tmp_path, DOWNLOADS - 1)
    mirror = MlflowSync(world, world, lambda: list(world.here.values()), 0.05, lambda: world.now)

    async def run() -> None:
        while "b" not in world.here:
            await mirror.step()
        assert set(world.here) == {"b"}
        assert mirror.problems("a") == []
        world.come.set()
        while len(world.done) < DOWNLOADS:
            await mirror.step()

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    assert sorted(world.done) == sorted(["push 1", *(f"push {number}" for number in range(1, DOWNLOADS))])


@pytest.mark.usefixtures("quick_looks")
def test_no_more_versions_than_places_are_fetched_at_a_time(tmp_path: Path) -> None:
    world = Slow(tmp_path, 3 * DOWNLOADS)
    mirror = MlflowSync(world, world, lambda: list(world.here.values()), 0.05, lambda: world.now)

    async def run() -> None:
        for _ in range(3):
            await mirror.step()
        world.come.set()
        while len(world.done) < 3 * DOWNLOADS + 1:
            await mirror.step()

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    assert world.most == DOWNLOADS


def test_a_look_that_is_cancelled_ends_what_it_began(tmp_path: Path) -> None:
    world = Slow(tmp_path, 1)
    mirror = MlflowSync(world, world, lambda: list(world.here.values()), 60.0, lambda: world.now)

    async def run() -> None:
        before = asyncio.all_tasks()
        look = asyncio.create_task(mirror.step())
        assert await asyncio.to_thread(world.began.wait, PATIENCE_S)
        look.cancel()
        await asyncio.wait({look})
        await asyncio.wait(asyncio.all_tasks() - before)
        world.come.set()

    asyncio.run(asyncio.wait_for(run(), PATIENCE_S))
    assert "a" not in world.here


def signed(body: bytes, stamp: str, secret: bytes = b"key") -> dict[str, str]:
    mac = hmac.new(secret, b"id." + stamp.encode() + b"." + body, hashlib.sha256).digest()
    signature = "v1," + base64.b64encode(mac).decode()
    return {"x-mlflow-signature": signature, "x-mlflow-timestamp": stamp, "x-mlflow-delivery-id": "id"}


def test_a_signed_webhook_is_known() -> None:
    verify_mlflow(signed(b"{}", "1000"), b"{}", b"key", 1100.0)


@pytest.mark.parametrize(
    ("headers", "now"),
    [
        (signed(b"{}", "1000", b"other"), 1000.0),
        (signed(b"other", "1000"), 1000.0),
        (signed(b"{}", "1000"), 1301.0),
        (signed(b"{}", "1000"), 699.0),
        ({**signed(b"{}", "1000"), "x-mlflow-delivery-id": "other"}, 1000.0),
        ({**signed(b"{}", "1000"), "x-mlflow-timestamp": "soon"}, 1000.0),
        ({**signed(b"{}", "1000"), "x-mlflow-signature": "ä"}, 1000.0),
        ({}, 1000.0),
    ],
)
def test_any_other_webhook_is_refused(headers: dict[str, str], now: float) -> None:
    with pytest.raises(InvalidInput):
        verify_mlflow(headers, b"{}", b"key", now)


def test_an_empty_answer_of_mlflow_forgets_nothing_and_a_lost_alias_is_dropped(tmp_path: Path) -> None:
    async def run() -> None:
        world = World(tmp_path)
        mirror = MlflowSync(world, world, lambda: list(world.here.values()), 30.0, lambda: world.now)
        world.there = [TWO]
        await mirror.step()
        world.there = []
        await mirror.step()
        assert set(world.here["m"].versions) == {"2"}
        world.there = [replace(TWO, aliases=())]
        await mirror.step()
        assert mirror.problems("m") == ["alias champion of model m: busy"]
        world.is_busy = False
        world.now += 3601
        await mirror.step()
        assert world.done[-1] == "drop champion"

    asyncio.run(run())
