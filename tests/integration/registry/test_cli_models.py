"""The models verbs: one list of behaviour with a running gateway and without one."""

import hashlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import harness, zoo
from tests.faults.test_admission import with_weights
from tests.integration.registry.test_gateway import answering


class Shell:
    """Runs `penstock` with one home."""

    def __init__(self, folder: Path, serving: bool) -> None:
        self.folder = folder
        self.serving = serving

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return harness.run_command(*arguments, folder=self.folder)

    def json(self, *arguments: str) -> Any:
        ended = self.run(*arguments, "--json")
        assert ended.returncode == 0, ended
        return json.loads(ended.stdout)

    def code(self, *arguments: str) -> int:
        ended = self.run(*arguments)
        assert "Traceback" not in ended.stderr, ended
        return ended.returncode


@pytest.fixture(params=["gateway", "by hand"])
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shell]:
    if request.param == "by hand":
        yield Shell(tmp_path, serving=False)
    else:
        with harness.running(None, tmp_path):
            yield Shell(tmp_path, serving=True)


@pytest.fixture
def graphs(tmp_path: Path) -> list[str]:
    paths = []
    for number in (1, 2, 3):
        paths.append(str(tmp_path / f"v{number}.onnx"))
        zoo.save(zoo.versioned(number), Path(paths[-1]))
    return paths


def test_the_life_of_a_model(shell: Shell, graphs: list[str], tmp_path: Path) -> None:
    card = tmp_path / "card.yaml"
    card.write_text("summary: names its version\nowners: [ann, bob]\n")
    options = ["--card", str(card), "--meta", "metrics.accuracy=0.9", "--meta", "stage=test", "--reason", "why not, ä"]
    pushed = shell.json("models", "push", "m", graphs[0], "--version", "1", *options)
    assert pushed["state"] == ("READY" if shell.serving else "ADMITTED")
    for number in (2, 3):
        ended = shell.run("models", "push", "m", graphs[number - 1], "--version", str(number))
        assert ended.returncode == 0, ended
        assert ended.stdout.startswith("sha256:")
    shown = shell.json("models", "show", "m:1")
    assert shown["card"] == {"summary": "names its version", "owners": ["ann", "bob"]}
    assert shown["metadata"] == {"metrics": {"accuracy": 0.9}, "tags": {"stage": "test"}}
    assert shown["signature"]["inputs"]
    people = shell.run("models", "show", "m:1").stdout
    assert "names its version" in people
    assert "accuracy 0.9" in people
    assert shell.code("models", "alias", "m", "champion", "1", "--expect", "") == 0
    assert shell.code("models", "alias", "m", "champion", "2", "--expect", "") == 6
    assert shell.code("models", "alias", "m", "champion", "2", "--expect", "3") == 6
    assert shell.code("models", "alias", "m", "champion", "2", "--expect", "1") == 0
    assert shell.json("models", "show", "m")["aliases"] == {"champion": "2"}
    assert shell.json("models", "rollback", "m", "--reason", "worse")["version"] == "1"
    assert shell.code("models", "rollback", "m") == 6
    assert shell.code("models", "retire", "m:1") == 6
    assert shell.code("models", "retire", "m:2") == 0
    listed = shell.run("models", "list").stdout
    assert "champion" in listed
    states = {version["version"]: version["state"] for version in shell.json("models", "list")["models"][0]["versions"]}
    assert states["2"] == "RETIRED"
    out = tmp_path / "out.onnx"
    assert shell.run("models", "export", "m:3", str(out)).stdout.strip().startswith("sha256:")
    assert out.read_bytes() == Path(graphs[2]).read_bytes()
    assert shell.json("models", "verify") == {"ok": True, "findings": []}
    assert shell.json("models", "collect") == {"deleted": []}
    changed = shell.json("models", "settings", "m", "--versions", "latest:1", "--keep-warm", "5")
    assert (changed["versions"], changed["keep_warm_seconds"]) == ("latest:1", 5.0)
    assert "versions: latest:1" in shell.run("models", "settings", "m").stdout
    entries = shell.json("audit", "--model", "m")["entries"]
    assert [entry["action"] for entry in entries][:4] == ["version.add"] * 3 + ["alias.move"]
    assert entries[0]["reason"] == "why not, ä"
    assert "version.retire" in shell.run("audit").stdout


def test_what_goes_wrong_has_its_exit_code(shell: Shell, graphs: list[str], tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"no graph")
    (tmp_path / "bad.yaml").write_text("title: x\n")
    missing = str(tmp_path / "none.onnx")
    for arguments, code in (
        (("push", "m", missing, "--version", "1"), 2),
        (("push", "m", graphs[0], "--version", "x"), 2),
        (("push", "m", graphs[0], "--version", "1", "--meta", "x"), 2),
        (("push", "m", graphs[0], "--version", "1", "--meta", "metrics.a=b"), 2),
        (("push", "m", graphs[0], "--version", "1", "--card", str(tmp_path / "bad.yaml")), 2),
        (("push", "m", str(tmp_path / "junk.onnx"), "--version", "1"), 4),
        (("push", "m", graphs[0], "--version", "1"), 0),
        (("push", "m", graphs[0], "--version", "1"), 0),
        (("push", "m", graphs[1], "--version", "1"), 6),
        (("show", "zzz"), 3),
        (("show", "m:9"), 3),
        (("alias", "m", "champion", "9"), 3),
        (("alias", "zzz", "champion", "1"), 3),
        (("alias", "m", "9x", "1"), 2),
        (("retire", "m"), 2),
        (("retire", "m:9"), 3),
        (("export", "m:9", str(tmp_path / "o")), 3),
        (("settings", "m", "--versions", "some"), 2),
    ):
        assert shell.code("models", *arguments) == code, arguments
    digest = hashlib.sha256(Path(graphs[0]).read_bytes()).hexdigest()
    blob = next((tmp_path / "home" / "blobs" / "sha256").glob(f"??/{digest}"))
    blob.chmod(0o600)
    blob.write_bytes(b"damaged")
    assert shell.code("models", "verify") == 8
    assert shell.code("models", "export", "m:1", str(tmp_path / "o")) == 8
    assert not (tmp_path / "o").exists()


def test_weights_beside_a_graph_and_folders_go_along(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "net.onnx").write_bytes(with_weights("w.bin").SerializeToString())
    assert shell.code("models", "push", "net", str(folder / "net.onnx"), "--version", "1") == 2
    (folder / "w.bin").write_bytes(bytes(16))
    assert shell.code("models", "push", "net", str(folder / "net.onnx"), "--version", "1") == 0
    assert shell.code("models", "push", "net", str(folder), "--version", "2") == 0


def test_what_is_pushed_offline_is_served_later_and_by_a_running_gateway(graphs: list[str], tmp_path: Path) -> None:
    shell = Shell(tmp_path, serving=False)
    assert shell.code("models", "push", "m", graphs[0], "--version", "1") == 0
    with harness.running(None, tmp_path) as server:
        assert answering(server) == "1"
        assert shell.code("models", "push", "m", graphs[1], "--version", "2") == 0
        assert answering(server) == "2"
        assert shell.code("models", "list", "--url", server.ops) == 0
        assert shell.code("models", "list", "--url", "127.0.0.1:1") == 7


def test_help_is_quick_to_read_and_nothing_is_coloured_in_a_pipe(tmp_path: Path) -> None:
    for verb in ("push", "list", "show", "alias", "rollback", "retire", "verify", "export", "settings", "collect"):
        ended = harness.run_command("models", verb, "--help", folder=tmp_path)
        assert ended.returncode == 0
        assert "\x1b" not in ended.stdout
    empty = harness.run_command("models", "list", folder=tmp_path)
    assert "the registry is empty" in empty.stderr


def test_a_change_of_the_champion_that_a_route_overrides_takes_force_and_says_so(
    graphs: list[str], tmp_path: Path
) -> None:
    """With a gateway and without one; a route is set by a gateway alone."""
    serving, offline = Shell(tmp_path, serving=True), Shell(tmp_path, serving=False)
    with harness.running(None, tmp_path):
        for number, graph in enumerate(graphs, 1):
            assert serving.code("models", "push", "m", graph, "--version", str(number)) == 0
        assert serving.code("models", "alias", "m", "champion", "1") == 0
        assert serving.code("route", "set", "m", "--split", "1=10000") == 0
        _changes_of_the_champion_take_force(serving)
    _changes_of_the_champion_take_force(offline)


def _changes_of_the_champion_take_force(shell: Shell) -> None:
    for change in (("alias", "m", "champion", "2"), ("rollback", "m"), ("unalias", "m", "champion")):
        refused = shell.run("models", *change)
        assert (refused.returncode, "would change nothing" in refused.stderr) == (4, True), refused
        forced = shell.run("models", *change, "--force")
        said = " ".join((forced.stdout + forced.stderr).split())
        assert (forced.returncode, "a route decides which version answers" in said) == (0, True), forced
    shell.run("models", "alias", "m", "champion", "1", "--force")
