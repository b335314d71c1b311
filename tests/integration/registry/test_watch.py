"""A watched folder: what has come to rest is taken by itself, and nothing is lost by an empty or torn moment."""

import asyncio
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from penstock.control.desire import Found
from penstock.control.folder_source import ARRIVING, EXAMINED, FolderContents
from penstock.core.errors import InvalidInput
from penstock.registry.records import Report, Subject
from tests import harness, zoo
from tests.harness import wait_until
from tests.integration.registry.test_gateway import answering, ask

SETTLE_S = 2.0


class World:
    """A folder, a clock, and an admission that says what it is told to."""

    def __init__(self, root: Path) -> None:
        self.root = root / "models"
        self.root.mkdir()
        self.now = 100.0
        self.examined: list[Path] = []
        self.verdict: Callable[[Subject], Report] = lambda subject: Report("", {"memory_bytes": 5})
        self.gate: asyncio.Event | None = None
        self.verdicts = root / "verdicts"

    def contents(self) -> FolderContents:
        return FolderContents(self.root, self.examine, self.verdicts, SETTLE_S, lambda: self.now)

    async def examine(self, subject: Subject) -> Report:
        self.examined.append(subject.graph)
        if self.gate is not None:
            await self.gate.wait()
        return self.verdict(subject)

    def write(self, name: str, text: str = "graph") -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def by_name(found: Sequence[Found]) -> dict[str, Found]:
    return {model.name: model for model in found}


def test_the_first_look_takes_everything_as_it_is(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        world.write("a/1/deep/w.bin", "weights")
        world.write("flat.onnx")
        world.write("flat.onnx.data", "weights")
        found = by_name(await world.contents().scan(settled_only=False))
        placed = found["a"].versions["1"]
        assert [path for path, _ in placed.files] == ["1/deep/w.bin", "1/model.onnx"]
        assert placed.root == str(world.root / "a")
        assert placed.digest.startswith("sha256:")
        assert placed.memory_bytes == 5
        assert [path for path, _ in found["flat"].versions["1"].files] == ["flat.onnx", "flat.onnx.data"]

    asyncio.run(run())


def test_later_files_are_taken_once_they_have_come_to_rest(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        contents = world.contents()
        await contents.scan(settled_only=False)
        world.write("a/2/model.onnx", "half")
        assert by_name(await contents.scan(settled_only=True))["a"].broken == {"2": ARRIVING}
        world.now += SETTLE_S - 0.1
        world.write("a/2/model.onnx", "half and half")
        assert by_name(await contents.scan(settled_only=True))["a"].broken == {"2": ARRIVING}
        world.now += SETTLE_S - 0.1
        assert by_name(await contents.scan(settled_only=True))["a"].broken == {"2": ARRIVING}
        world.now += 0.2
        found = by_name(await contents.scan(settled_only=True))["a"]
        assert (set(found.versions), found.broken) == ({"1", "2"}, {})
        assert len(world.examined) == 2

    asyncio.run(run())


def test_what_is_being_examined_keeps_its_old_content(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        contents = world.contents()
        before = by_name(await contents.scan(settled_only=False))["a"].versions["1"]
        world.gate = asyncio.Event()
        world.write("a/1/model.onnx", "another graph")
        world.write("a/2/model.onnx")
        await contents.scan(settled_only=True)
        world.now += SETTLE_S
        found = by_name(await contents.scan(settled_only=True))["a"]
        assert found.versions == {"1": before}
        assert found.broken == {"2": EXAMINED}
        world.gate.set()
        await asyncio.sleep(0.05)
        found = by_name(await contents.scan(settled_only=True))["a"]
        assert set(found.versions) == {"1", "2"}
        assert found.versions["1"].tag != before.tag

    asyncio.run(run())


def test_a_refused_content_leaves_the_one_before_in_place(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        contents = world.contents()
        before = by_name(await contents.scan(settled_only=False))["a"].versions["1"]
        world.verdict = lambda subject: Report("it is bad")
        world.write("a/1/model.onnx", "bad")
        world.write("a/2/model.onnx", "bad too")
        found = by_name(await contents.scan(settled_only=False))["a"]
        assert found.versions == {"1": before}
        assert found.refused == {"1": "it is bad"}
        assert found.broken == {"2": "it is bad"}
        assert len(world.examined) == 3
        await contents.scan(settled_only=False)
        assert len(world.examined) == 3  # the same files are not examined again

    asyncio.run(run())


def test_a_verdict_outlives_the_process(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        first = await world.contents().scan(settled_only=False)
        assert await world.contents().scan(settled_only=False) == first
        assert len(world.examined) == 1
        next(world.verdicts.iterdir()).write_text("torn")
        assert await world.contents().scan(settled_only=False) == first
        assert len(world.examined) == 2

    asyncio.run(run())


def test_an_empty_folder_is_no_answer_and_single_removals_are(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        world.write("a/2/model.onnx")
        world.write("b.onnx")
        contents = world.contents()
        await contents.scan(settled_only=False)
        shutil.rmtree(world.root / "a" / "1")
        (world.root / "b.onnx").unlink()
        found = by_name(await contents.scan(settled_only=True))
        assert set(found) == {"a"}
        assert set(found["a"].versions) == {"2"}
        shutil.rmtree(world.root / "a")
        with pytest.raises(InvalidInput):
            await contents.scan(settled_only=True)
        world.root.rmdir()
        with pytest.raises(InvalidInput):
            await contents.scan(settled_only=True)

    asyncio.run(run())


def test_a_tag_changes_with_the_files_of_its_version_alone(world: World) -> None:
    async def run() -> None:
        world.write("m/1/model.onnx")
        world.write("m/2/model.onnx")
        world.write("m/labels.txt")
        contents = world.contents()

        async def tags() -> dict[str, str]:
            found = by_name(await contents.scan(settled_only=False))["m"]
            return {version: placed.tag for version, placed in found.versions.items()}

        first = await tags()
        assert await tags() == first
        world.write("m/2/weights.bin")
        second = await tags()
        assert second["1"] == first["1"]
        assert second["2"] != first["2"]
        world.write("m/labels.txt", "other labels")
        third = await tags()
        assert third["1"] != second["1"]
        assert third["2"] != second["2"]

    asyncio.run(run())


@pytest.mark.timeout(90)
def test_a_running_gateway_follows_its_folder(tmp_path: Path) -> None:
    models = tmp_path / "models"
    zoo.place(models, "m", {"1": zoo.versioned(1)})
    quick = {"PENSTOCK_WATCH__SECONDS": "0.2", "PENSTOCK_WATCH__SETTLE_SECONDS": "0.3"}
    with harness.running(models, tmp_path, env=quick) as server:
        zoo.place(models, "m", {"2": zoo.versioned(2)})
        wait_until(lambda: answering(server) == "2", 10, "the new version")
        zoo.place(models, "n", {"1": zoo.versioned(7)})
        wait_until(lambda: server.rest("GET", "/v2/models/n/ready").status == 200, 10, "the new model")
        (models / "m" / "3").mkdir()
        (models / "m" / "3" / "model.onnx").write_bytes(b"no graph")
        wait_until(lambda: "3" in {v["version"] for v in states(server)}, 10, "the bad version")
        wait_until(lambda: "no ONNX graph" in states(server)[2]["reason"], 10, "its reason")
        assert answering(server) == "2"
        shutil.move(models, tmp_path / "away")
        wait_until(lambda: "what is served stays as it is" in server.log_text(), 10, "the complaint")
        assert ask(server).status == 200
        shutil.move(tmp_path / "away", models)
        shutil.rmtree(models / "m" / "2")
        wait_until(lambda: answering(server) == "1", 10, "the removal")


def states(server: harness.Server) -> list[dict[str, str]]:
    found: list[dict[str, str]] = server.admin("GET", "/admin/v1/models/m").json()["versions"]
    return found


def test_a_file_that_is_changed_behind_admissions_back_is_never_run(tmp_path: Path) -> None:
    """The worker checks what it loads by the digests of what was admitted."""
    models = tmp_path / "models"
    zoo.place(models, "m", {"1": zoo.versioned(1)})
    still = {"PENSTOCK_WATCH__SECONDS": "0"}
    with harness.running(models, tmp_path, env=still) as server:
        graph = models / "m" / "1" / "model.onnx"
        facts = graph.stat()
        other = zoo.versioned(2).SerializeToString()
        assert len(other) == facts.st_size
        graph.chmod(0o600)
        with graph.open("r+b") as file:
            file.write(other)
        os.utime(graph, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.kill(server.workers[0], 9)
        wait_until(lambda: "does not match its digest" in states(server)[0]["reason"], 10, "the refusal")
        assert server.rest("GET", "/v2/models/m/ready").status == 503
