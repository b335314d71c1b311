"""A watched folder: what has come to rest is taken by itself, and nothing is lost by an empty or torn moment."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from penstock.control.reconcile.planner import SourceModel
from penstock.control.reconcile.reconciler import NoModelsYet
from penstock.control.sources.folder import ARRIVING, BEING_EXAMINED, RETRY_S, FolderContents
from penstock.control.sources.repositories import SourceRepository
from penstock.core.errors import InvalidInput, NotReady
from penstock.registry.blobs.folder import hash_file
from penstock.registry.graphs.rewrite import ByteEdit, Rewrite, encode_rewrite
from penstock.registry.records import AdmissionReport, ExaminedContent, PreparationPlan
from penstock.registry.repository.copies import RepositoryCopies
from penstock.registry.repository.local import LocalTree
from penstock.registry.repository.verdicts import VerdictCache
from tests import harness, zoo
from tests.harness import PATIENCE_S, wait_until
from tests.integration.registry.test_gateway import answering, ask

SETTLE_S = 2.0


class World:
    """A folder, a clock, and an admission with given answers."""

    def __init__(self, root: Path) -> None:
        self.home = root
        self.root = root / "models"
        self.root.mkdir()
        self.now = 100.0
        self.examined: list[Path] = []
        self.verdict: Callable[[ExaminedContent], AdmissionReport] = lambda subject: AdmissionReport(
            "", {"memory_bytes": 5}
        )
        self.gate: asyncio.Event | None = None
        self.verdicts = root / "verdicts"
        self.basis: dict[str, object] = {"runtime": "1"}
        self.weights: tuple[str, ...] = ()
        self.facts: dict[str, object] = {}

    def contents(self, *more: Path) -> FolderContents:
        trees = [LocalTree(root) for root in (self.root, *more)]
        copies = RepositoryCopies(self.home / "copies", "these", 1 << 20)
        verdicts = VerdictCache(self.verdicts, self.basis)
        return FolderContents(
            [SourceRepository(tree) for tree in trees], self, verdicts, copies, SETTLE_S, lambda: self.now
        )

    async def plan(self, subject: ExaminedContent) -> PreparationPlan:
        return PreparationPlan(None, self.weights, self.facts)

    async def examine(self, subject: ExaminedContent) -> AdmissionReport:
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


def by_name(found: Sequence[SourceModel]) -> dict[str, SourceModel]:
    return {model.name: model for model in found}


async def scanned_until(contents: FolderContents, name: str, versions: set[str]) -> SourceModel:
    """Scan until a model has these versions: on a busy machine one may still be examined when a scan ends."""
    while True:
        found = by_name(await contents.scan(settled_only=True))[name]
        if set(found.versions) == versions:
            return found


def contents_of(path: str) -> bytes:
    return Path(path).read_bytes()


def modes_below(root: str) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in Path(root).rglob("*") if path.is_file()}


def test_the_first_look_copies_everything_as_it_is(world: World) -> None:
    async def run() -> None:
        world.weights = ("deep/w.bin", "flat.onnx.data", "../secret", "gone.bin")
        world.write("a/1/model.onnx")
        world.write("a/1/deep/w.bin", "weights")
        world.write("a/1/other.bin", "not named")
        world.write("flat.onnx")
        world.write("flat.onnx.data", "weights")
        found = by_name(await world.contents().scan(settled_only=False))
        placed = found["a"].versions["1"]
        assert [path for path, _ in placed.files] == ["version/deep/w.bin", "version/model.onnx"]
        assert Path(placed.root).parent.parent == world.home / "copies"
        assert contents_of(f"{placed.root}/version/deep/w.bin") == b"weights"
        assert contents_of(placed.path) == b"graph"
        assert placed.digest.startswith("sha256:")
        assert placed.digest != hash_file(world.root / "a/1/model.onnx")  # it covers the weights too
        assert placed.memory_bytes == 5
        assert [path for path, _ in found["flat"].versions["1"].files] == [
            "version/flat.onnx",
            "version/flat.onnx.data",
        ]

    asyncio.run(run())


def test_what_is_served_stays_when_the_folder_changes_under_it(world: World) -> None:
    async def run() -> None:
        world.weights = ("w.bin",)
        graph, weights = world.write("a/1/model.onnx"), world.write("a/1/w.bin", "weights")
        labels = world.write("a/labels.txt", "good")
        world.write("a/config.pbtxt", 'output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "labels.txt" }')
        (found,) = await world.contents().scan(settled_only=False)
        placed = found.versions["1"]
        for path in (graph, weights, labels):
            with path.open("r+") as file:  # the same inode, in place
                file.write("evil!")
        assert all(hash_file(Path(placed.root) / path) == f"sha256:{digest}" for path, digest in placed.files)
        assert contents_of(f"{placed.folder}/labels.txt") == b"good"
        assert modes_below(placed.root) == {0o400}

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
        found = await scanned_until(contents, "a", {"1", "2"})
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
        world.write("a/2/model.onnx", "a third graph")
        await contents.scan(settled_only=True)
        world.now += SETTLE_S
        found = by_name(await contents.scan(settled_only=True))["a"]
        assert found.versions == {"1": before}
        assert found.broken == {"2": BEING_EXAMINED}
        world.gate.set()
        found = by_name(await contents.scan(settled_only=False))["a"]
        assert set(found.versions) == {"1", "2"}
        assert found.versions["1"].tag != before.tag

    asyncio.run(run())


def test_a_refused_content_leaves_the_one_before_in_place(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        contents = world.contents()
        before = by_name(await contents.scan(settled_only=False))["a"].versions["1"]
        world.verdict = lambda subject: AdmissionReport("it is bad")
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
        for path in world.verdicts.iterdir():
            path.write_text("torn")
        assert await world.contents().scan(settled_only=False) == first
        assert len(world.examined) == 2

    asyncio.run(run())


def test_an_emptied_folder_is_not_taken_as_removals_but_single_removals_are(world: World) -> None:
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
        world.weights = ("w.bin",)
        world.write("m/1/model.onnx")
        world.write("m/2/model.onnx")
        world.write("m/2/w.bin", "the same")
        world.write("m/labels.txt")
        world.write("m/config.pbtxt", 'output { name: "y" data_type: TYPE_FP32 dims: 1 label_filename: "labels.txt" }')
        contents = world.contents()

        async def tags() -> dict[str, str]:
            found = by_name(await contents.scan(settled_only=False))["m"]
            return {version: placed.tag for version, placed in found.versions.items()}

        first = await tags()
        assert await tags() == first
        world.write("m/2/notes.txt")
        world.write("m/2/w.bin", "the same")  # content decides, not time
        world.write("m/1/model.onnx", "graph")
        assert await tags() == first
        world.write("m/2/w.bin", "other weights")
        second = await tags()
        assert second["1"] == first["1"]
        assert second["2"] != first["2"]
        world.write("m/labels.txt", "other labels")
        third = await tags()
        assert third["1"] != second["1"]
        assert third["2"] != second["2"]

    asyncio.run(run())


def test_a_refusal_is_examined_again_by_a_load_and_on_another_basis(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")
        world.write("b/1/model.onnx", "another graph")
        world.verdict = lambda subject: AdmissionReport("it is bad", {}, "it is bad, see /srv/x")
        contents = world.contents()
        found = by_name(await contents.scan(settled_only=False))
        assert found["a"].broken == {"1": "it is bad"}
        assert found["a"].details == {"1": "it is bad, see /srv/x"}
        world.verdict = lambda subject: AdmissionReport()
        assert by_name(await contents.scan(settled_only=False))["a"].broken  # nobody asked
        assert by_name(await world.contents().scan(settled_only=False))["a"].broken  # nor does a restart
        assert len(world.examined) == 2
        found = by_name(await contents.scan(settled_only=False, retry="a"))
        assert (set(found["a"].versions), set(found["b"].broken)) == ({"1"}, {"1"})
        world.basis = {"runtime": "2"}
        found = by_name(await world.contents().scan(settled_only=False))
        assert set(found["b"].versions) == {"1"}
        assert len(world.examined) == 5  # what was admitted rests on the same

    asyncio.run(run())


def test_what_cannot_be_examined_now_is_tried_again_after_a_while(world: World) -> None:
    async def run() -> None:
        world.write("a/1/model.onnx")

        def refuse(_: ExaminedContent) -> AdmissionReport:
            raise NotReady("no process can be started")

        world.verdict = refuse
        contents = world.contents()
        assert by_name(await contents.scan(settled_only=True))["a"].broken == {"1": ARRIVING}
        world.now += SETTLE_S
        await contents.scan(settled_only=True)
        await contents.scan(settled_only=True)
        world.verdict = lambda subject: AdmissionReport()
        found = by_name(await contents.scan(settled_only=True))["a"]
        assert found.broken == {"1": "no process can be started"}
        assert len(world.examined) == 1
        world.now += RETRY_S
        await contents.scan(settled_only=True)
        assert set(by_name(await contents.scan(settled_only=False))["a"].versions) == {"1"}

    asyncio.run(run())


def test_a_file_that_may_not_be_used_refuses_its_version_until_it_changes(world: World) -> None:
    async def run() -> None:
        world.weights = ("w.bin",)
        secret = world.home / "secret"
        secret.write_text("secret")
        world.write("a/1/model.onnx")
        (world.root / "a/1/w.bin").symlink_to(secret)
        contents = world.contents()
        (found,) = await contents.scan(settled_only=False)
        assert "it is a link that leads out of the model folder" in found.broken["1"]
        assert str(secret) in found.details["1"]
        (world.root / "a/1/w.bin").unlink()
        world.write("a/1/w.bin", "weights")
        (found,) = await contents.scan(settled_only=False)
        assert set(found.versions) == {"1"}

    asyncio.run(run())


def test_several_repositories_and_a_model_in_two_of_them(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        other = world.home / "others"
        for name in ("b/1", "twice/1"):
            (other / name).mkdir(parents=True)
            (other / name / "model.onnx").write_text("graph")
        world.write("a.onnx")
        contents = world.contents(other)
        found = by_name(await contents.scan(settled_only=False))
        before = found["twice"].versions["1"]
        assert {name: set(model.versions) for name, model in found.items()} == {"a": {"1"}, "b": {"1"}, "twice": {"1"}}
        world.write("twice.onnx", "another graph")
        found = by_name(await contents.scan(settled_only=False))
        assert found["twice"].problem == "the model is in several repositories; keep it in one of them"
        assert found["twice"].details == {"": f"{found['twice'].problem}: {world.root}, {other}"}
        assert str(other) in caplog.text
        (world.root / "twice.onnx").unlink()
        assert by_name(await contents.scan(settled_only=False))["twice"].versions == {"1": before}
        shutil.move(other, world.home / "away")  # one that is gone leaves the others alone
        world.write("c.onnx")
        found = by_name(await contents.scan(settled_only=False))
        assert {name for name, model in found.items() if set(model.versions) == {"1"}} == {"a", "b", "c", "twice"}
        assert caplog.text.count("what is served of it stays as it is") == 1

    asyncio.run(run())


def test_one_that_is_away_from_the_start_stops_no_other(world: World) -> None:
    async def run() -> None:
        away = world.home / "nowhere"
        contents = world.contents(away)
        with pytest.raises(NoModelsYet, match="holds no model"):
            await contents.scan(settled_only=False)
        world.write("a.onnx")
        assert set(by_name(await contents.scan(settled_only=False))) == {"a"}
        states = {state.name: (state.models, state.reason) for state in contents.states}
        assert states == {str(world.root): (1, ""), str(away): (0, "the model folder does not exist")}
        away.mkdir()
        shutil.copy(world.root / "a.onnx", away / "b.onnx")
        assert set(by_name(await contents.scan(settled_only=False))) == {"a", "b"}

    asyncio.run(run())


def test_what_is_away_is_neither_examined_nor_loaded_anew(world: World, caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        other = world.home / "others"
        other.mkdir()
        (other / "b.onnx").write_text("graph")
        world.write("a.onnx")
        contents = world.contents(other)
        before = by_name(await contents.scan(settled_only=False))
        shutil.move(other, world.home / "away")
        examined = len(world.examined)
        for _ in range(3):
            world.now += SETTLE_S + RETRY_S
            assert by_name(await contents.scan(settled_only=True)) == before
        assert len(world.examined) == examined
        assert "not admitted" not in caplog.text
        with pytest.raises(InvalidInput, match="does not exist"):
            await contents.scan(settled_only=False, retry="b")
        assert by_name(await contents.scan(settled_only=False, retry="a")) == before

    asyncio.run(run())


def test_a_changed_graph_is_what_is_offered(world: World) -> None:
    async def run() -> None:
        changed = b"giraffe"
        rewrite = Rewrite(
            (ByteEdit(1, 1, b"ir"), ByteEdit(3, 2, b"ffe")), f"sha256:{hashlib.sha256(changed).hexdigest()}"
        )
        world.facts = {"rewrite": encode_rewrite(rewrite), "zipmap": {"y": ["a", "b"]}}
        graph, seen = world.write("a/1/model.onnx"), []

        def look(subject: ExaminedContent) -> AdmissionReport:
            seen.append(subject.graph.read_bytes())
            return AdmissionReport()

        world.verdict = look
        (found,) = await world.contents().scan(settled_only=False)
        placed = found.versions["1"]
        assert contents_of(placed.path) == seen[0] == changed
        assert dict(placed.files) == {"version/model.onnx": hashlib.sha256(changed).hexdigest()}
        assert placed.digest == hash_file(graph)
        assert placed.report is not None
        assert placed.report.facts["zipmap"] == {"y": ["a", "b"]}

    asyncio.run(run())


def test_a_running_gateway_follows_its_folder(tmp_path: Path) -> None:
    models = tmp_path / "models"
    zoo.place(models, "m", {"1": zoo.versioned(1)})
    quick = {"PENSTOCK_WATCH__SECONDS": "0.2", "PENSTOCK_WATCH__SETTLE_SECONDS": "0.3"}
    with harness.running(models, tmp_path, env=quick) as server:
        zoo.place(models, "m", {"2": zoo.versioned(2)})
        wait_until(lambda: answering(server) == "2", PATIENCE_S, "the new version")
        zoo.place(models, "n", {"1": zoo.versioned(7)})
        wait_until(lambda: server.rest("GET", "/v2/models/n/ready").status == 200, PATIENCE_S, "the new model")
        (models / "m" / "3").mkdir()
        (models / "m" / "3" / "model.onnx").write_bytes(b"no graph")
        wait_until(lambda: "3" in {v["version"] for v in states(server)}, PATIENCE_S, "the bad version")
        wait_until(lambda: "not an ONNX graph" in states(server)[2]["reason"], PATIENCE_S, "its reason")
        assert answering(server) == "2"
        shutil.move(models, tmp_path / "away")
        wait_until(lambda: "what is served stays as it is" in server.log_text(), PATIENCE_S, "the complaint")
        assert ask(server).status == 200
        shutil.move(tmp_path / "away", models)
        shutil.rmtree(models / "m" / "2")
        wait_until(lambda: answering(server) == "1", PATIENCE_S, "the removal")


def states(server: harness.Server) -> list[dict[str, str]]:
    found: list[dict[str, str]] = server.admin("GET", "/admin/v1/models/m").json()["versions"]
    return found


def test_a_file_that_is_changed_behind_admissions_back_is_never_run(tmp_path: Path) -> None:
    """The worker loads the copy that was admitted, and checks it by its digests."""
    models, home = tmp_path / "models", tmp_path / "home"
    zoo.place(models, "m", {"1": zoo.versioned(1)})
    still = {"PENSTOCK_WATCH__SECONDS": "0", "PENSTOCK_HOME": str(home)}
    with harness.running(models, tmp_path, env=still) as server:
        graph = models / "m" / "1" / "model.onnx"
        facts = graph.stat()
        other = zoo.versioned(2).SerializeToString()
        assert len(other) == facts.st_size
        overwrite(graph, other)
        os.utime(graph, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        end_worker(server)
        wait_until(server.is_ready, PATIENCE_S, "the new worker")
        assert answering(server) == "1"
        (copy,) = (home / "copies").glob("*/*/version/model.onnx")
        overwrite(copy, other)
        end_worker(server)
        wait_until(lambda: "does not match its digest" in states(server)[0]["reason"], PATIENCE_S, "the refusal")
        assert server.rest("GET", "/v2/models/m/ready").status == 503
        assert server.rest("POST", "/v2/repository/models/m/load", {}).status == 200  # a load mends the copy
        assert answering(server) == "1"


def end_worker(server: harness.Server) -> None:
    """Kill the worker and wait for the one that takes its place."""
    (before,), replacements = workers_of(server), log_count(server, "replaced in")
    os.kill(before, 9)
    wait_until(lambda: bool(after := workers_of(server)) and before not in after, PATIENCE_S, "the end of the worker")
    wait_until(lambda: log_count(server, "replaced in") > replacements, PATIENCE_S, "its replacement")


def log_count(server: harness.Server, text: str) -> int:
    return server.log_text().count(text)


def workers_of(server: harness.Server) -> list[int]:
    return [pid for pid in server.worker_pids() if pid]


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.write(data)
